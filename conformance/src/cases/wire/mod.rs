//! Cases about the wire: the suite speaks it to wrappers and to servers.

pub mod server_frames;
pub mod server_messages;
pub mod wrapper_frames;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[
    wrapper_frames::CASES,
    server_frames::CASES,
    server_messages::CASES,
];
