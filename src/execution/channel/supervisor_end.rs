//! The supervisor's end of the channel. It shares the host's memory, so only [`raw`] calls here.

use std::os::fd::RawFd;

use nix::errno::Errno;

use super::message::{Order, Report};
use crate::execution::raw;

/// The supervisor's end of a channel, in the supervisor's descriptor table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SupervisorEnd(RawFd);

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The host will read it, or is gone and needs none.
    Done,
    /// The host has too much to read already; poll(2) for POLLOUT tells when there is room.
    NoRoom,
}

impl SupervisorEnd {
    pub(crate) fn new(socket: RawFd) -> Self {
        Self(socket)
    }

    pub(crate) fn descriptor(self) -> RawFd {
        self.0
    }

    /// Reports without waiting.
    pub(crate) fn report(self, report: Report) -> Sent {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match raw::send(self.0, &report.to_bytes(), flags) {
            Err(Errno::EAGAIN) => Sent::NoRoom,
            Ok(_) | Err(_) => Sent::Done,
        }
    }

    /// The next order, without waiting; a host that is gone, and any error, is an order to end.
    pub(crate) fn order(self) -> Option<Order> {
        let mut message = [0_u8; Order::SIZE + 1];
        loop {
            match raw::recv(self.0, &mut message, libc::MSG_DONTWAIT) {
                Ok(size) => return Some(Order::from_bytes(message.get(..size).unwrap_or_default())),
                Err(Errno::EAGAIN) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => return Some(Order::End),
            }
        }
    }
}
