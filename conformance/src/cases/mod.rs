//! The cases, a folder an area. Each file has a table; a case that is in no table does not compile silently.

pub mod e2e;
pub mod server;
pub mod shell;
pub mod wire;
pub mod wrapper;

use crate::case::Case;

/// All tables, an area each.
pub const AREAS: &[&[&[Case]]] = &[
    wire::TABLES,
    wrapper::TABLES,
    server::TABLES,
    shell::TABLES,
    e2e::TABLES,
];
