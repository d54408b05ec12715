//! The channel between the host and a supervisor: a socket pair (SOCK_SEQPACKET), and what is said on it.
//!
//! One message per event. The kernel keeps messages apart, and reports the end of either side to the other.

mod host_end;
mod message;
mod supervisor_end;

pub(crate) use host_end::HostEnd;
pub(crate) use message::{Ending, Order, Report};
pub(crate) use supervisor_end::{Sent, SupervisorEnd};
