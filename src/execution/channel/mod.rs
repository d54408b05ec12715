//! The channel between the host and a supervisor: a socket pair (SOCK_SEQPACKET) with typed messages.
//!
//! One message per event. The kernel keeps message boundaries, and each end sees when the other is closed.

mod host_end;
mod message;
mod supervisor_end;

pub(crate) use host_end::HostEnd;
pub(crate) use message::{Ending, Order, Report, Stop};
pub(crate) use supervisor_end::{Sent, SupervisorEnd};
