//! Cases about the wire: the suite speaks it to wrappers and to servers.

pub mod server_bytes;
pub mod server_descriptors;
pub mod server_frames;
pub mod server_limits;
pub mod server_malformed;
pub mod server_messages;
pub mod wrapper_bytes;
pub mod wrapper_frames;
pub mod wrapper_replies;
pub mod wrapper_requests;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    wrapper_frames::CASES,
    server_frames::CASES,
    server_messages::CASES,
    server_malformed::CASES,
    server_bytes::CASES,
    server_limits::CASES,
    server_descriptors::CASES,
    wrapper_requests::CASES,
    wrapper_replies::CASES,
    wrapper_bytes::CASES,
];
