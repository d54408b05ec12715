//! The end of sessions, of escalated trees and of the server.

pub mod cancel;
pub mod close_child;
pub mod close_listener;
pub mod close_worker;
pub mod server_killed;
pub mod shutdown;
pub mod tree;
