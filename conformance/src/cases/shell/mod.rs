//! Cases that judge a patched shell: the suite is wrapper and server.

use crate::suite::Case;

/// The tables of this area.
pub const TABLES: &[&[Case]] = &[];
