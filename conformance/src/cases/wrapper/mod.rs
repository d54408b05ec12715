//! Cases that judge a wrapper: the suite is shell and server.

pub mod attributes;
pub mod confinement;
pub mod deny;
pub mod endings;
pub mod escalate;
pub mod fail_closed;
pub mod forwarding;
pub mod handed_over;
pub mod inherited;
pub mod patience;
pub mod refusals;
pub mod request;
pub mod run;
pub mod signals;
pub mod support;
pub mod surroundings;
pub mod usage;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    usage::CASES,
    request::CASES,
    run::CASES,
    attributes::CASES,
    deny::CASES,
    escalate::CASES,
    signals::CASES,
    fail_closed::CASES,
    surroundings::CASES,
    inherited::CASES,
    handed_over::CASES,
    forwarding::CASES,
    endings::CASES,
    refusals::CASES,
    patience::CASES,
    confinement::CASES,
];
