//! The wire as a server speaks it.

pub mod bytes;
pub mod fds;
pub mod fds_unexpected;
pub mod frame;
pub mod handshake;
pub mod json;
pub mod limit;
pub mod malformed;
