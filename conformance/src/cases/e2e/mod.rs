//! Cases in which shell, wrapper and server work together, all three under test.

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[];
