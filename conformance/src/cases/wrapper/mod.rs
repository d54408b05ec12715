//! Cases that judge a wrapper: the suite is shell and server.

pub mod deny;
pub mod escalate;
pub mod request;
pub mod run;
pub mod usage;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[
    usage::CASES,
    request::CASES,
    run::CASES,
    deny::CASES,
    escalate::CASES,
];
