//! The host's end of the channel, registered with the runtime.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, send, sendmsg, shutdown,
    socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{Order, Report};
use crate::watch::watch;

/// The host's end of a channel.
#[derive(Debug)]
pub(crate) struct HostEnd {
    socket: AsyncFd<OwnedFd>,
    /// Whether the end of the tree was ordered.
    is_ending: AtomicBool,
    /// How many orders that can continue the child were sent.
    continuing: AtomicI32,
}

impl HostEnd {
    /// A new channel: the host's end, not registered yet, and the supervisor's. Both close on exec and never block.
    ///
    /// # Errors
    /// When no more descriptors can be opened.
    pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
    }

    /// Registers the host's end of a pair.
    ///
    /// # Errors
    /// When the runtime can't watch it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn new(ours: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: watch(ours, Interest::READABLE | Interest::WRITABLE)?,
            is_ending: AtomicBool::new(false),
            continuing: AtomicI32::new(0),
        })
    }

    /// The host's end for the next tree, no longer registered.
    ///
    /// # Errors
    /// Itself, if the end of this tree was ordered: that is the end of the channel, too.
    pub(crate) fn for_next_tree(self) -> Result<OwnedFd, Self> {
        if self.is_ending.load(Ordering::Relaxed) {
            return Err(self);
        }
        Ok(self.socket.into_inner())
    }

    /// Sends the job, before anything else about its tree: a file with its bytes, and the descriptors that it speaks of. They wait
    /// in the channel until a keeper receives them, and may be closed here.
    ///
    /// # Errors
    /// What sendmsg(2) says, for example ETOOMANYREFS.
    pub(crate) fn send_job(&self, bytes: usize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let size = (bytes as u64).to_ne_bytes();
        let descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&size)],
            &rights,
            flags,
            None,
        )?;
        Ok(())
    }

    /// The next report; `None` when no process holds the other end any more. Cancel safe.
    ///
    /// # Errors
    /// What recv(2) says; [`io::ErrorKind::InvalidData`] for a message that isn't a report.
    pub(crate) async fn receive(&self) -> io::Result<Option<Report>> {
        loop {
            let mut ready = self.socket.readable().await?;
            // One byte more than a report has, so that a longer message isn't cut to one.
            let mut message = [0_u8; Report::SIZE + 1];
            match recv(self.socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Ok(None),
                Ok(size) => {
                    return match Report::from_bytes(&message[..size]) {
                        Some(report) => Ok(Some(report)),
                        None => Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "not a supervisor's report",
                        )),
                    };
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // A supervisor that ended with an order unread resets the socket; its reports come after the error.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Orders the supervisor to send the child that signal.
    pub(crate) fn signal(&self, signal: i32) {
        self.order(&Order::signal_to_bytes(signal), signal == libc::SIGCONT);
    }

    /// Orders the supervisor to continue the child if it is still in that stop, or in one that [`Self::signal`] has caused.
    pub(crate) fn continue_after(&self, stop: i32) {
        self.order(&Order::continue_to_bytes(stop), true);
    }

    /// Orders the supervisor to send the child SIGCONT, unless it is in a stop that [`Self::signal`] hasn't caused.
    pub(crate) fn resume(&self) {
        self.order(&Order::resume_to_bytes(), true);
    }

    fn order(&self, message: &[u8], can_continue: bool) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // If the socket is full, hundreds of signals are queued already; a supervisor that is gone needs none.
        if send(self.socket.as_raw_fd(), message, flags).is_ok() && can_continue {
            self.continuing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a report of a stop was sent before the supervisor had obeyed all orders that can have ended the stop. If they
    /// haven't, it reports once more.
    pub(crate) fn is_stale(&self, report: Report) -> bool {
        matches!(report, Report::Stopped(_, obeyed) if obeyed != self.continuing.load(Ordering::Relaxed))
    }

    /// Orders the end of the tree, for good. Reports still arrive.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::channel::message::Stop;
    use crate::execution::channel::message::tests::reports;
    use crate::execution::channel::supervisor_end::{Sent, SupervisorEnd};
    use proptest::prelude::*;

    const STOPPED: Report = stopped(0);

    const fn stopped(obeyed: i32) -> Report {
        let (signal, number) = (libc::SIGSTOP, 1);
        Report::Stopped(Stop { signal, number }, obeyed)
    }

    fn pair() -> (HostEnd, OwnedFd) {
        let (ours, theirs) = HostEnd::pair().unwrap();
        (HostEnd::new(ours).unwrap(), theirs)
    }

    proptest! {
        #[test]
        fn reports_arrive_one_by_one_and_then_the_end(sent in proptest::collection::vec(reports(), 0..5)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            let received = runtime.block_on(async {
                let (host, theirs) = pair();
                let supervisor = SupervisorEnd::new(theirs.as_raw_fd());
                for &report in &sent {
                    assert_eq!(supervisor.report(report), Sent::Done);
                }
                drop(theirs);
                let mut received = Vec::new();
                while let Some(report) = host.receive().await.unwrap() {
                    received.push(report);
                }
                received
            });
            prop_assert_eq!(received, sent);
        }
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        let report = STOPPED.to_bytes();
        let longer = [&report[..], &[0]].concat();
        for garbage in [&report[..4], &longer, &[0xff; Report::SIZE]] {
            let (host, theirs) = pair();
            send(theirs.as_raw_fd(), garbage, MsgFlags::empty()).unwrap();
            let error = host.receive().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn signals_arrive_in_order_and_then_the_order_to_end() {
        let (host, theirs) = pair();
        let supervisor = SupervisorEnd::new(theirs.as_raw_fd());
        assert_eq!(supervisor.order(), None);
        host.signal(libc::SIGINT);
        host.signal(libc::SIGTERM);
        host.continue_after(3);
        host.resume();
        host.end();
        for order in [
            Order::Signal(libc::SIGINT),
            Order::Signal(libc::SIGTERM),
            Order::Continue(3),
            Order::Resume,
            Order::End,
        ] {
            assert_eq!(supervisor.order(), Some(order));
        }
        assert_eq!(supervisor.report(STOPPED), Sent::Done);
        assert_eq!(host.receive().await.unwrap(), Some(STOPPED));
    }

    #[tokio::test]
    async fn a_stop_is_stale_until_all_is_obeyed_that_can_have_ended_it() {
        let (host, _theirs) = pair();
        host.signal(libc::SIGTSTP);
        assert!(!host.is_stale(stopped(0)));
        host.signal(libc::SIGCONT);
        host.continue_after(1);
        host.resume();
        assert_eq!(
            [0, 1, 2, 3].map(|obeyed| host.is_stale(stopped(obeyed))),
            [true, true, true, false]
        );
        assert!(!host.is_stale(Report::Emptied));
    }

    #[tokio::test]
    async fn a_host_that_does_not_read_leaves_no_room_and_one_that_is_gone_needs_none() {
        let (host, theirs) = pair();
        let supervisor = SupervisorEnd::new(theirs.as_raw_fd());
        while supervisor.report(STOPPED) == Sent::Done {}
        assert_eq!(supervisor.report(STOPPED), Sent::NoRoom);
        drop(host);
        assert_eq!(supervisor.report(STOPPED), Sent::Done);
        assert_eq!(supervisor.order(), Some(Order::End));
    }
}
