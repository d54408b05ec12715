//! Cases that judge a patched shell: the suite is wrapper and server.
//!
//! Each file begins with its table; `support` has what several of them need.

pub mod argv;
pub mod builtin;
pub mod contexts;
pub mod env;
pub mod fail_closed;
pub mod fds;
pub mod file;
pub mod memory;
pub mod not_found;
pub mod off;
pub mod own_suite;
pub mod pid;
pub mod script;
pub mod signals;
pub mod status;
pub mod sticky;
pub mod transparent;
pub mod wrap;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    wrap::CASES,
    file::CASES,
    argv::CASES,
    env::CASES,
    off::CASES,
    contexts::CASES,
    builtin::CASES,
    fds::CASES,
    status::CASES,
    pid::CASES,
    script::CASES,
    not_found::CASES,
    signals::CASES,
    fail_closed::CASES,
    sticky::CASES,
    memory::CASES,
    transparent::CASES,
    own_suite::CASES,
];
