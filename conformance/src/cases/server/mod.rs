//! Cases that judge a server through its shim: the suite is shell and wrapper.

pub mod concurrent;
pub mod decision;
pub mod escalate;
pub mod exec;
pub mod handshake;
pub mod overlay;
pub mod policy;
pub mod scene;
pub mod sessions;
pub mod socket;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[
    overlay::CASES,
    socket::CASES,
    sessions::CASES,
    policy::CASES,
    decision::CASES,
    handshake::CASES,
    concurrent::CASES,
    escalate::CASES,
    exec::CASES,
];
