//! The keeper: the supervisor's parent, for the case that the tree stops or kills its supervisor.
//!
//! What it starts and reaps is the supervisor alone; but it is a reaper of orphans, too, so that everything becomes its child
//! when the supervisor is gone. When the tree is to end, it continues a supervisor that was stopped, and takes over from one
//! that doesn't manage. If the tree kills the keeper instead, the supervisor ends the tree; if it stops the keeper, the host
//! continues it, or the kernel does when the host is gone.

use std::os::fd::RawFd;

use nix::errno::Errno;

use super::descendants::kill_children;
use crate::execution::channel::SupervisorEnd;
use crate::execution::raw;

const EVERY_CHILD: i32 = -1;

/// Between two attempts to continue the supervisor.
const INTERVAL: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// As often it is attempted: for a second.
const ATTEMPTS: u32 = 50;

/// Stays until neither the supervisor nor anything that it left is there.
pub(super) fn keep(supervisor: i32, channel: SupervisorEnd, host: RawFd, child_changes: RawFd) {
    let mut ending = false;
    let mut attempts = ATTEMPTS;
    loop {
        match reap(supervisor) {
            Left::Nothing => return,
            Left::Orphans => break,
            Left::Supervisor => {}
        }
        if attempts == 0 {
            break;
        }
        if ending {
            attempts -= 1;
            let _ = raw::kill(supervisor, libc::SIGCONT);
            let mut watched = [raw::pollfd(child_changes, libc::POLLIN)];
            let mut left = INTERVAL;
            let _ = raw::ppoll_within(&mut watched, &mut left);
        } else {
            let mut watched = [
                // The supervisor reads the orders.
                raw::pollfd(channel.descriptor(), libc::POLLRDHUP),
                raw::pollfd(host, libc::POLLIN),
                raw::pollfd(child_changes, libc::POLLIN),
            ];
            ending = match raw::ppoll(&mut watched) {
                Ok(()) => watched[0].revents != 0 || watched[1].revents != 0,
                Err(errno) => errno != Errno::EINTR,
            };
        }
        let mut information = [0_u8; 512];
        let _ = raw::read(child_changes, &mut information);
    }
    kill_all();
}

/// Whom the keeper still has as children.
enum Left {
    /// The supervisor, among others perhaps.
    Supervisor,
    /// Others only.
    Orphans,
    Nothing,
}

/// Collects all children that have ended.
fn reap(supervisor: i32) -> Left {
    let mut left = Left::Supervisor;
    loop {
        match raw::wait4(EVERY_CHILD, libc::WNOHANG) {
            Ok((0, _)) => return left,
            Ok((pid, _)) if pid == supervisor => left = Left::Orphans,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Left::Nothing,
        }
    }
}

/// Kills generation after generation.
fn kill_all() {
    let _ = raw::raise_priority();
    loop {
        kill_children();
        match raw::wait4(EVERY_CHILD, 0) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
