//! Cases about the wire: the suite speaks it to wrappers and to servers.

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[];
