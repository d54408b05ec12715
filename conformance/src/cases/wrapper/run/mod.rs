//! Run: the wrapper becomes the command.

pub mod attributes;
pub mod binary;
pub mod command;
pub mod fds;
pub mod kernel_state;
pub mod missing;
pub mod script_bare;
pub mod signals;
