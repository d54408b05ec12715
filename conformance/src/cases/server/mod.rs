//! Cases that judge a server through its shim: the suite is shell and wrapper.

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[];
