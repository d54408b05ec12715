//! Cases about the wire: the suite speaks it to wrappers and to servers.

pub mod server;
pub mod wrapper;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    wrapper::frame::CASES,
    server::frame::CASES,
    wrapper::handshake::CASES,
    server::handshake::CASES,
    wrapper::fds::CASES,
    server::fds::CASES,
    wrapper::json::CASES,
    server::json::CASES,
    wrapper::malformed::CASES,
    server::malformed::CASES,
    wrapper::bytes::CASES,
    server::bytes::CASES,
    wrapper::limit::CASES,
    server::limit::CASES,
    wrapper::fds_unexpected::CASES,
    server::fds_unexpected::CASES,
];
