//! The request stream: the handshake that opens it, the request on its way out, and frames on their way in.

use core::mem::MaybeUninit;
use core::ops::Range;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::descriptors::MAX_DESCRIPTORS;
use crate::failure::{Detail, Failure};
use crate::frame::{self, HEADER, MAX_PAYLOAD};
use crate::output::Output;
use crate::request::Request;
use crate::sys;

const NOT_OPEN: &str = "the descriptor that CODEX_ESCALATE_SOCKET names is not open";

/// The wrapper's end of the request stream, and the memory for what goes over it.
pub struct Stream {
    socket: OwnedFd,
    /// Carries the request out in pieces, then holds what has been received.
    buffer: &'static mut [u8],
    /// What has been received and not yet been taken.
    received: Range<usize>,
}

impl Stream {
    /// Makes a stream, and sends the request over it and its other end to the server, through the escalation socket
    /// (`wire.handshake`). A request that fits is in the stream before the server gets that, and so wakes the server once.
    pub fn ask<'a, A, E>(
        escalation: RawFd,
        buffer: &'static mut [u8],
        request: &Request<'_, A, E>,
    ) -> Result<Self, Failure>
    where
        A: Iterator<Item = &'a [u8]> + Clone,
        E: Iterator<Item = &'a [u8]> + Clone,
    {
        let (ours, theirs) = pair(escalation)?;
        let socket = ours.as_fd();
        if let Ok(frame) = frame::compose(buffer, |output| request.write(output)) {
            let sent = send_what_fits(socket, frame).map_err(cannot_send_request)?;
            hand_over(escalation, theirs)?;
            send_all(socket, &frame[sent..]).map_err(cannot_send_request)?;
        } else {
            hand_over(escalation, theirs)?;
            send_in_pieces(socket, buffer, request)?;
        }
        Ok(Self {
            socket: ours,
            buffer,
            received: 0..0,
        })
    }

    /// Sends a frame with descriptors on its first byte (`wire.fds`). A server that reads no more is not an error here:
    /// it may have sent the result already, and if it hasn't, the next read fails.
    pub fn send_with_descriptors(&self, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let sent = send_with_descriptors(self.socket.as_fd(), frame, descriptors)
            .and_then(|sent| send_all(self.socket.as_fd(), &frame[sent..]));
        match sent {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(error) => Err(Failure::system("cannot send the descriptors to the server")(
                error,
            )),
        }
    }

    /// Sends a small frame unless the socket is full; whether it was sent.
    pub fn try_send(&self, frame: &[u8]) -> Result<bool, Errno> {
        match send(self.socket.as_fd(), frame, SendFlags::DONTWAIT) {
            Ok(sent) => send_all(self.socket.as_fd(), &frame[sent..]).map(|()| true),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the next frame; its payload. `wanted` names it in the message if it doesn't come.
    pub fn receive(&mut self, wanted: &'static str) -> Result<&[u8], Failure> {
        loop {
            if let Some(payload) = self.take_frame()? {
                return Ok(&self.buffer[payload]);
            }
            self.read_more(wanted)?;
        }
    }

    /// The payload of the next frame, if it has arrived completely.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Failure> {
        Ok(self.take_frame()?.map(|payload| &self.buffer[payload]))
    }

    fn take_frame(&mut self) -> Result<Option<Range<usize>>, Failure> {
        let Some(length) = self.payload_length()? else {
            return Ok(None);
        };
        let start = self.received.start + HEADER;
        let end = start + length;
        if end > self.received.end {
            return Ok(None);
        }
        self.received.start = end;
        Ok(Some(start..end))
    }

    /// The length that the next frame announces, once its header is there.
    fn payload_length(&self) -> Result<Option<usize>, Failure> {
        let Some(header) = self.buffer[self.received.clone()].first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = frame::payload_length(*header);
        if length > MAX_PAYLOAD {
            return Err(Failure {
                what: "the server's reply is too large, in bytes",
                detail: Detail::Number(length as i64),
            });
        }
        Ok(Some(length))
    }

    /// Reads once. Descriptors that come along have no place in a reply: read(2) makes the kernel drop them, so they
    /// never become ours (`wire.fds.unexpected`).
    pub fn read_more(&mut self, wanted: &'static str) -> Result<(), Failure> {
        self.make_room()?;
        let room = &mut self.buffer[self.received.end..];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut *room)) {
            Ok(0) | Err(Errno::CONNRESET) => Err(Failure {
                what: "the server closed the request stream before",
                detail: Detail::Bytes(wanted.as_bytes()),
            }),
            Ok(count) => {
                self.received.end += count;
                Ok(())
            }
            Err(error) => Err(Failure {
                what: "cannot read from the server",
                detail: Detail::System(error),
            }),
        }
    }

    /// Ensures that there is room for the next read, and for the whole of the frame that has begun.
    fn make_room(&mut self) -> Result<(), Failure> {
        let needed = HEADER + self.payload_length()?.unwrap_or(0);
        if needed > self.buffer.len() {
            // At least doubled, so that all the buffers before take no more memory than this one.
            let larger = sys::map(needed.max(2 * self.buffer.len()))
                .map_err(Failure::system("cannot allocate memory for the server's reply"))?;
            larger[..self.received.len()].copy_from_slice(&self.buffer[self.received.clone()]);
            self.buffer = larger;
        } else if self.received.start == 0 {
            return Ok(());
        } else {
            self.buffer.copy_within(self.received.clone(), 0);
        }
        self.received = 0..self.received.len();
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes the two ends of a stream: the wrapper's and the server's.
fn pair(escalation: RawFd) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Failure::system("cannot make a socket pair for the request"))?;
    let no_room = Failure::system("cannot keep the request's sockets away from the standard streams");
    let ours = sys::above_standard(ours).map_err(&no_room)?;
    let theirs = sys::above_standard(theirs).map_err(&no_room)?;
    // The number must have been open before: otherwise the handshake would go to the wrapper itself.
    if [&ours, &theirs]
        .iter()
        .any(|socket| socket.as_raw_fd() == escalation)
    {
        return Err(bad(escalation, NOT_OPEN));
    }
    Ok((ours, theirs))
}

/// Hands the server its end.
fn hand_over(escalation: RawFd, theirs: OwnedFd) -> Result<(), Failure> {
    let sent = send_with_descriptors(sys::inherited(escalation), &[0], &[theirs.as_fd()]);
    sent.map(drop).map_err(|error| match error {
        Errno::BADF => bad(escalation, NOT_OPEN),
        Errno::NOTSOCK => bad(
            escalation,
            "the descriptor that CODEX_ESCALATE_SOCKET names is not a socket",
        ),
        Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE => Failure::new(
            "no server reads from the socket that CODEX_ESCALATE_SOCKET names; the session has ended",
        ),
        error => Failure {
            what: "cannot send on the escalation socket",
            detail: Detail::System(error),
        },
    })
}

fn bad(escalation: RawFd, what: &'static str) -> Failure {
    Failure {
        what,
        detail: Detail::Number(escalation.into()),
    }
}

/// Sends a request that is larger than the buffer: it is measured first, since its length comes first.
#[cold]
#[inline(never)]
fn send_in_pieces<'a, A, E>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    request: &Request<'_, A, E>,
) -> Result<(), Failure>
where
    A: Iterator<Item = &'a [u8]> + Clone,
    E: Iterator<Item = &'a [u8]> + Clone,
{
    let header = frame::header(request.length());
    let header = header.ok_or(Failure::new(
        "arguments and environment are too large for a request",
    ))?;
    let mut pieces = Pieces {
        socket,
        buffer,
        filled: 0,
    };
    pieces.put(&header)?;
    request.write(&mut pieces)?;
    pieces.flush()
}

/// Sends what a socket has room for now; how many bytes that were.
fn send_what_fits(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    match send(socket, bytes, SendFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(0),
        sent => sent,
    }
}

fn cannot_send_request(error: Errno) -> Failure {
    match error {
        Errno::PIPE | Errno::CONNRESET => {
            Failure::new("the server closed the request stream before it had read the request")
        }
        error => Failure {
            what: "cannot send the request",
            detail: Detail::System(error),
        },
    }
}

/// A frame of any size on its way out, one buffer at a time.
struct Pieces<'a> {
    socket: BorrowedFd<'a>,
    buffer: &'a mut [u8],
    filled: usize,
}

impl Pieces<'_> {
    fn flush(&mut self) -> Result<(), Failure> {
        send_all(self.socket, &self.buffer[..self.filled]).map_err(cannot_send_request)?;
        self.filled = 0;
        Ok(())
    }
}

impl Output for Pieces<'_> {
    type Error = Failure;

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
            let room = &mut self.buffer[self.filled..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }
}

/// sendmsg(2), since sandboxes refuse send(2), and write(2) would raise SIGPIPE.
fn send(socket: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> Result<usize, Errno> {
    let mut nothing = SendAncillaryBuffer::default();
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut nothing,
            flags | SendFlags::NOSIGNAL,
        )
    })
}

fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        bytes = &bytes[send(socket, bytes, SendFlags::empty())?..];
    }
    Ok(())
}

/// Sends bytes with descriptors, waiting for as long as the socket is full. The socket's own flags, which it shares with
/// other processes, stay as they are (`wrapper.handshake.full`). How many bytes were sent.
fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let data = [IoSlice::new(bytes)];
    let mut wait = Wait::default();
    loop {
        match rustix::net::sendmsg(
            socket,
            &data,
            &mut control,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait.for_room(socket),
            // Too many descriptors are in flight between processes: poll(2) can't wait for that.
            Err(Errno::TOOMANYREFS) => wait.a_moment(),
            result => return result,
        }
    }
}

/// The pauses between attempts to send on a full socket. A datagram socket reports that it's writable later than it
/// would accept a message, so no pause relies on that report alone.
#[derive(Default)]
struct Wait {
    reported_writable: bool,
}

impl Wait {
    const MOMENT: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    const LONGEST: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };

    fn for_room(&mut self, socket: BorrowedFd<'_>) {
        if self.reported_writable {
            // It reported room last time and was full all the same: don't spin.
            self.reported_writable = false;
            return self.a_moment();
        }
        self.reported_writable = matches!(
            poll(
                &mut [PollFd::from_borrowed_fd(socket, PollFlags::OUT)],
                Some(&Self::LONGEST)
            ),
            Ok(1..)
        );
    }

    fn a_moment(&self) {
        // A signal may cut the pause short; the next attempt decides.
        let _ = poll(&mut [], Some(&Self::MOMENT));
    }
}
