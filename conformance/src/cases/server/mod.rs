//! Cases that judge a server through its shim: the suite is shell and wrapper.

pub mod child_signals;
pub mod descriptor_map;
pub mod end_of_file;
pub mod environment;
pub mod escalated;
pub mod signal_frame;
pub mod spawn_error;
pub mod stopped;
pub mod umask;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[
    environment::CASES,
    descriptor_map::CASES,
    end_of_file::CASES,
    child_signals::CASES,
    spawn_error::CASES,
    umask::CASES,
    signal_frame::CASES,
    stopped::CASES,
];
