//! Hostile wrappers, and files that change: others are served, and nothing runs but what was decided on.

pub mod handshakes;
pub mod shares;
pub mod siege;
pub mod streams;
pub mod stuck;
pub mod toctou;
