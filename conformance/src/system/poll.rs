//! Waits for descriptors with a deadline.

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::system::clock::Moment;
use crate::verdict::CaseError;

/// Waits until `socket` can be read (or has ended); false at the deadline.
pub fn readable_until(socket: &impl AsFd, deadline: Moment) -> Result<bool, CaseError> {
    any_readable_until(&[socket.as_fd()], deadline)
}

/// Waits until one of `descriptors` can be read (or has ended); false at the deadline.
pub fn any_readable_until(descriptors: &[BorrowedFd<'_>], deadline: Moment) -> Result<bool, CaseError> {
    Ok(any_until(descriptors, PollFlags::POLLIN, deadline)?)
}

/// Waits until `socket` can be written (or its peer is gone); false at the deadline.
pub fn writable_until(socket: &impl AsFd, deadline: Moment) -> nix::Result<bool> {
    any_until(&[socket.as_fd()], PollFlags::POLLOUT, deadline)
}

/// Waits until the pipe that `writer` writes to has no reader; false at the deadline.
pub fn broken_until(writer: &impl AsFd, deadline: Moment) -> nix::Result<bool> {
    any_until(&[writer.as_fd()], PollFlags::empty(), deadline)
}

fn any_until(descriptors: &[BorrowedFd<'_>], events: PollFlags, deadline: Moment) -> nix::Result<bool> {
    loop {
        let left = deadline.next_wait();
        // Rounded up, so that the last wait is not a busy one.
        let milliseconds = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut set: Vec<_> = descriptors
            .iter()
            .map(|descriptor| PollFd::new(*descriptor, events))
            .collect();
        match poll(&mut set, PollTimeout::from(milliseconds)) {
            Ok(0) if deadline.is_over() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
