//! The test cases, one folder per area. Each file has a table; a case missing from its table is a dead-code error in CI.

pub mod e2e;
pub mod server;
pub mod shell;
pub mod wire;
pub mod wrapper;

use crate::case::Table;

/// All tables, area by area.
pub const AREAS: &[&[Table]] = &[
    wire::TABLES,
    wrapper::TABLES,
    server::TABLES,
    shell::TABLES,
    e2e::TABLES,
];
