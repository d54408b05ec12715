//! The line about a failed start, on the standard error that the child would have had.

use std::os::fd::RawFd;

use nix::errno::Errno;

use crate::execution::channel::SupervisorEnd;
use crate::execution::raw;

/// Writes `parts` to `output`, unless that would block longer than the host lives.
pub(super) fn complain(output: RawFd, parts: [&[u8]; 3], channel: SupervisorEnd) {
    for part in parts {
        let mut rest = part;
        while !rest.is_empty() {
            let mut watched = [
                raw::pollfd(output, libc::POLLOUT),
                raw::pollfd(channel.descriptor(), libc::POLLIN),
            ];
            if raw::ppoll(&mut watched).is_err() || watched[1].revents != 0 {
                return;
            }
            match raw::write(output, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
