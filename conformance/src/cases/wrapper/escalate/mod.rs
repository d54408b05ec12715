//! Escalate: descriptors go out, signals too, and the child's end comes back.

pub mod continued;
pub mod eof;
pub mod fds;
pub mod group;
pub mod inherited;
pub mod interrupted;
pub mod killed;
pub mod more_fds;
pub mod remote;
pub mod signal;
pub mod signal_bursts;
pub mod status;
pub mod stopped;
pub mod umask;
