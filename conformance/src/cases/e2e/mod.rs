//! End-to-end cases: shell, wrapper and server are the implementations, the suite is caller and policy.
//!
//! [`support`] drives the three; each other file begins with its table.

mod support;

pub mod deny;
pub mod nested;
pub mod pipeline;
pub mod random;
pub mod scripts;
pub mod status;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[
    scripts::CASES,
    random::CASES,
    status::CASES,
    deny::CASES,
    pipeline::CASES,
    nested::CASES,
];
