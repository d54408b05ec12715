//! Cases that judge a server through its shim: the suite is shell and wrapper.

pub mod child_signals;
pub mod closing;
pub mod concurrent;
pub mod courses;
pub mod decision;
pub mod descriptor_map;
pub mod disconnect;
pub mod end_of_file;
pub mod environment;
pub mod escalate;
pub mod exec;
pub mod handshake;
pub mod hostile_handshakes;
pub mod hostile_streams;
pub mod invalid_descriptors;
pub mod leak;
pub mod overlay;
pub mod policy;
pub mod policy_error;
pub mod same_file;
pub mod server_killed;
pub mod sessions;
pub mod signal_frame;
pub mod socket;
pub mod socket_race;
pub mod spawn_error;
pub mod stopped;
pub mod stress;
pub mod teardown;
pub mod toctou;
pub mod tree;
pub mod umask;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    overlay::CASES,
    socket::CASES,
    sessions::CASES,
    policy::CASES,
    decision::CASES,
    handshake::CASES,
    concurrent::CASES,
    escalate::CASES,
    exec::CASES,
    closing::CASES,
    environment::CASES,
    descriptor_map::CASES,
    end_of_file::CASES,
    child_signals::CASES,
    spawn_error::CASES,
    umask::CASES,
    signal_frame::CASES,
    stopped::CASES,
    disconnect::CASES,
    teardown::CASES,
    tree::CASES,
    server_killed::CASES,
    socket_race::CASES,
    toctou::CASES,
    invalid_descriptors::CASES,
    policy_error::CASES,
    same_file::CASES,
    hostile_handshakes::CASES,
    hostile_streams::CASES,
    leak::CASES,
    stress::CASES,
    courses::CASES,
];
