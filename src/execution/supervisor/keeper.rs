//! The keeper: the supervisor's parent, for the case that the tree stops or kills its supervisor.
//!
//! What it starts and reaps is the supervisor alone; but it is a reaper of orphans, too, so that everything becomes its child
//! when the supervisor is gone. It continues a supervisor that is stopped, and takes over from one that doesn't manage when the
//! tree is to end. If the tree kills the keeper instead, the supervisor ends the tree, and if it stops the keeper, the guardian
//! continues that.

use std::time::Duration;

use nix::errno::Errno;

use super::descendants::kill_children;
use super::numbers::{CHILD_CHANGES, GUARDIAN, HOST};
use crate::execution::channel::SupervisorEnd;
use crate::execution::raw::{self, Deadline};

const EVERY_CHILD: i32 = -1;

/// How long the supervisor has for the end of the tree, before the keeper takes over.
const PATIENCE: Duration = Duration::from_secs(1);

/// Stays until neither the supervisor nor anything that it left is there.
pub(super) fn keep(supervisor: i32, channel: SupervisorEnd) {
    let mut deadline: Option<Deadline> = None;
    loop {
        match reap(supervisor) {
            Left::Nothing => return,
            Left::Orphans => break,
            Left::Supervisor => {}
        }
        if let Some(deadline) = deadline {
            let mut watched = [raw::pollfd(CHILD_CHANGES, libc::POLLIN)];
            let polled = raw::ppoll_until(&mut watched, deadline);
            if deadline.is_over() || !matches!(polled, Ok(_) | Err(Errno::EINTR)) {
                break;
            }
        } else {
            let mut watched = [
                // The supervisor reads the orders.
                raw::pollfd(channel.descriptor(), libc::POLLRDHUP),
                raw::pollfd(HOST, libc::POLLIN),
                raw::pollfd(GUARDIAN, libc::POLLIN),
                raw::pollfd(CHILD_CHANGES, libc::POLLIN),
            ];
            let polled = raw::ppoll(&mut watched);
            let [from_host, host_end, guardian_end, _] = watched.map(|entry| entry.revents != 0);
            let is_to_end = match polled {
                Ok(()) => from_host || host_end || guardian_end,
                Err(errno) => errno != Errno::EINTR,
            };
            deadline = is_to_end.then(|| Deadline::after(PATIENCE));
            if guardian_end {
                // Nothing continues this process any more if the tree stops it: the supervisor gets no time.
                break;
            }
        }
        let mut information = [0_u8; 512];
        let _ = raw::read(CHILD_CHANGES, &mut information);
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

/// Collects all children that have ended, and continues those that have stopped.
fn reap(supervisor: i32) -> Left {
    let mut left = Left::Supervisor;
    loop {
        match raw::wait4(EVERY_CHILD, libc::WNOHANG | libc::WUNTRACED) {
            Ok((0, _)) => return left,
            Ok((pid, status)) if libc::WIFSTOPPED(status) => {
                let _ = raw::kill(pid, libc::SIGCONT);
            }
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
