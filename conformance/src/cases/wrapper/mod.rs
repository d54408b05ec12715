//! Cases that judge a wrapper: the suite is shell and server.

pub mod attributes;
pub mod deny;
pub mod escalate;
pub mod fail_closed;
pub mod request;
pub mod run;
pub mod signals;
pub mod surroundings;
pub mod usage;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[
    usage::CASES,
    request::CASES,
    run::CASES,
    attributes::CASES,
    deny::CASES,
    escalate::CASES,
    signals::CASES,
    fail_closed::CASES,
    surroundings::CASES,
];
