//! One-shots: the shell that `exec` runs, its timeout, and its end.

pub mod shell;
pub mod teardown;
pub mod timeout;
