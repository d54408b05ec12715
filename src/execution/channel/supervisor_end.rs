//! The supervisor's end of the channel, which its keeper holds, too: only [`raw`] calls here.

use std::os::fd::RawFd;

use nix::errno::Errno;

use super::message::{Order, Report};
use crate::execution::raw::{self, Received};

/// The supervisor's end of a channel, in the supervisor's descriptor table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SupervisorEnd(RawFd);

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The host will read it, or is gone and needs none.
    Done,
    /// The host has too many unread reports; poll(2) for POLLOUT waits for room.
    NoRoom,
}

impl SupervisorEnd {
    pub(crate) fn new(socket: RawFd) -> Self {
        Self(socket)
    }

    pub(crate) fn descriptor(self) -> RawFd {
        self.0
    }

    /// Waits for the host's next job: how many bytes it has, and the descriptors that come with it. `None` if there won't be one:
    /// the host has closed its end, or `owner` has become readable. Orders that come first are about a child that has ended. So are
    /// `signals`, which are read as they come.
    pub(crate) fn job(self, owner: RawFd, signals: RawFd) -> raw::Result<Option<(usize, Received)>> {
        let mut size = [0_u8; size_of::<u64>()];
        loop {
            match raw::receive(self.0, &mut size, libc::MSG_DONTWAIT) {
                Ok(received) if received.bytes == 0 => return Ok(None),
                Ok(received) if received.bytes == size.len() && received.descriptors > 0 => {
                    let size = usize::try_from(u64::from_ne_bytes(size)).map_err(|_| Errno::EBADMSG)?;
                    return Ok(Some((size, received)));
                }
                Ok(received) if received.bytes <= Order::SIZE && received.descriptors == 0 => {}
                Ok(_) => return Err(Errno::EBADMSG),
                Err(Errno::EAGAIN) => {
                    let mut watched =
                        [self.0, owner, signals].map(|number| raw::pollfd(number, libc::POLLIN));
                    match raw::ppoll(&mut watched) {
                        Ok(()) if watched[1].revents != 0 => return Ok(None),
                        Ok(()) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno),
                    }
                    if watched[2].revents != 0 {
                        let mut information = [0_u8; 512];
                        let _ = raw::read(signals, &mut information);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Reports without waiting.
    pub(crate) fn report(self, report: Report) -> Sent {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match raw::send(self.0, &report.to_bytes(), flags) {
            Err(Errno::EAGAIN) => Sent::NoRoom,
            Ok(_) | Err(_) => Sent::Done,
        }
    }

    /// Reports, and waits for room however slowly the host reads.
    pub(crate) fn report_in_any_case(self, report: Report) {
        while self.report(report) == Sent::NoRoom {
            let mut watched = [raw::pollfd(self.0, libc::POLLOUT)];
            let polled = raw::ppoll(&mut watched);
            let is_gone = watched[0].revents & (libc::POLLHUP | libc::POLLERR) != 0;
            if is_gone || polled.is_err_and(|errno| errno != Errno::EINTR) {
                return;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
    use std::os::fd::AsRawFd;

    #[test]
    fn an_order_that_is_not_a_signal_is_to_end() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (host, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let end = SupervisorEnd::new(theirs.as_raw_fd());
        let signal = Order::signal_to_bytes(libc::SIGINT);
        let longer = [&signal[..], &[0]].concat();
        for (message, order) in [
            (&signal[..], Order::Signal(libc::SIGINT)),
            (&longer, Order::End),
            (&signal[..3], Order::End),
        ] {
            send(host.as_raw_fd(), message, MsgFlags::empty()).unwrap();
            assert_eq!(end.order(), Some(order), "{message:?}");
        }
    }

    #[test]
    fn a_report_waits_for_room() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (host, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let end = SupervisorEnd::new(theirs.as_raw_fd());
        let started = Report::Started(nix::unistd::Pid::from_raw(1));
        while end.report(started) == Sent::Done {}
        let reading = std::thread::spawn(move || {
            let mut message = [0; Report::SIZE];
            loop {
                recv(host.as_raw_fd(), &mut message, MsgFlags::empty()).unwrap();
                match Report::from_bytes(&message) {
                    Some(report) if report == started => {}
                    last => break last,
                }
            }
        });
        end.report_in_any_case(Report::Emptied);
        assert_eq!(reading.join().unwrap(), Some(Report::Emptied));
        // The host is gone.
        end.report_in_any_case(Report::Emptied);
    }

    #[test]
    fn an_end_that_cannot_be_read_is_an_order_to_end() {
        assert_eq!(SupervisorEnd::new(-1).order(), Some(Order::End));
    }
}
