//! Cases that judge a wrapper: the suite is shell and server.

pub mod deny;

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[deny::CASES];
