//! The process group of the wrapper, as the kernel knows it: where an escalated child can share the wrapper's terminal.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, getpgid, getpgrp, getsid};

use crate::execution::SessionLeader;

/// From asm-generic/socket.h; Linux has it since 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// A wrapper's process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrappersGroup {
    /// Of the session in which children are started: a child can join it.
    OfSession(Pid),
    /// This process's own: what a child sends to it would reach this process, too.
    OfServer(Pid),
    /// Of another session, or unknown.
    Elsewhere,
}

impl WrappersGroup {
    /// The group of the process that made the stream. No message is trusted in this: that process can only name itself, or one
    /// that made a stream and gave it away. Children are started in the leader's session if there is one, else in this process's.
    pub(super) fn of(stream: BorrowedFd<'_>, leader: Option<&SessionLeader>) -> Self {
        Self::find(stream, leader).unwrap_or(Self::Elsewhere)
    }

    fn find(stream: BorrowedFd<'_>, leader: Option<&SessionLeader>) -> Option<Self> {
        let wrapper = getsockopt(&stream, sockopt::PeerCredentials).ok()?.pid();
        // 0 for a process of another pid namespace that can't be seen from here.
        let wrapper = (wrapper > 0).then(|| Pid::from_raw(wrapper))?;
        let process = peer(stream).or_else(|| open(wrapper))?;
        let session = getsid(Some(wrapper)).ok()?;
        let group = getpgid(Some(wrapper)).ok()?;
        // The number was the wrapper's all the time if that still runs.
        let own = leader.map_or_else(|| getsid(None), |leader| Ok(leader.session()));
        if has_ended(&process) || own.ok()? != session {
            return None;
        }
        Some(if group == getpgrp() {
            Self::OfServer(group)
        } else {
            Self::OfSession(group)
        })
    }
}

/// A pidfd of the process that made the stream; `None` where the kernel doesn't give it.
fn peer(stream: BorrowedFd<'_>) -> Option<OwnedFd> {
    let mut descriptor: RawFd = -1;
    let mut size = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the kernel writes at most as many bytes as a number has.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut size,
        )
    };
    // SAFETY: the call has just made it, close-on-exec.
    (got == 0 && descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn open(process: Pid) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    let descriptor = RawFd::try_from(descriptor)
        .ok()
        .filter(|&descriptor| descriptor >= 0)?;
    // SAFETY: the call has just made it, close-on-exec.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::ZERO) != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_stream_of_this_process_is_of_its_own_group() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        assert_eq!(
            WrappersGroup::of(stream.as_fd(), None),
            WrappersGroup::OfServer(getpgrp())
        );
    }

    #[test]
    fn a_process_that_has_ended_has_no_group() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let process = open(Pid::from_raw(child.id().cast_signed())).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(has_ended(&process));
    }
}
