//! Escalated children: program, environment, descriptors, signals, umask, and how their end is reported.

pub mod binary;
pub mod child;
pub mod env;
pub mod eof;
pub mod fd_map;
pub mod fds_only;
pub mod group;
pub mod inherited;
pub mod killed;
pub mod name;
pub mod signals;
pub mod spawn_error;
pub mod umask;
