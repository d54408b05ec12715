//! End-to-end cases: shell, wrapper and server are the implementations, the suite is caller and policy.
//!
//! `stage::e2e` drives the three; each file begins with its table.

pub mod deny;
pub mod inherited;
pub mod nested;
pub mod pipeline;
pub mod scripts;
pub mod signals;
pub mod status;
pub mod terminal;
pub mod terminal_teardown;
pub mod tty_job;
pub mod tty_prompt;
pub mod tty_signals;
pub mod tty_teardown;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    scripts::fixtures::CASES,
    scripts::as_stock::CASES,
    scripts::reported::CASES,
    scripts::shell_features::CASES,
    scripts::random::CASES,
    status::CASES,
    deny::CASES,
    pipeline::CASES,
    nested::CASES,
    tty_prompt::CASES,
    tty_signals::CASES,
    tty_job::keys::CASES,
    tty_job::programs::CASES,
    signals::CASES,
    inherited::CASES,
    tty_teardown::CASES,
    terminal::CASES,
    terminal_teardown::CASES,
];
