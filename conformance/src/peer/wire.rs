//! Frames and descriptors on a request stream, and the handshake datagram: bytes, no shared message types.
//!
//! O_NONBLOCK belongs to the open file description, which a wrapper hands over with its end: the suite asks for each
//! call not to wait and waits by poll(2), so it never matters how the other side has set the flag. That needs flags
//! for sendmsg(2), which `sendfd` doesn't offer.

use std::fmt::{self, Display};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde_json::Value;

use crate::peer::counterpart::Counterpart;
use crate::shown::Shown;
use crate::system::clock::Moment;
use crate::system::holders::still_open;
use crate::system::poll::{readable_until, writable_until};
use crate::transcript::{Direction, Transcript};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// Payload bytes beyond which the suite refuses to read a frame: over the 16 MiB of `wire.limit`.
const PAYLOAD_LIMIT: usize = 64 << 20;

/// Control buffer room in descriptors: more than the kernel passes in one message (SCM_MAX_FD).
const DESCRIPTOR_ROOM: usize = 256;

/// The number under which a wrapper finds the escalation socket, unless a case says otherwise.
pub const ESCALATION_DESCRIPTOR: RawFd = 20;

/// A received message.
#[derive(Debug)]
pub struct Frame {
    /// The payload, as bytes.
    pub payload: Vec<u8>,
    /// Descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

impl Frame {
    /// The payload as JSON.
    ///
    /// # Errors
    /// A violation of `wire.frame` if it is not a JSON value in UTF-8.
    pub fn json(&self) -> Result<Value, CaseError> {
        let text = std::str::from_utf8(&self.payload).map_err(|error| {
            violation(
                "a payload in UTF-8",
                format_args!("{error}: {}", crate::transcript::shown(&self.payload)),
            )
        })?;
        serde_json::from_str(text).map_err(|error| {
            violation(
                "a payload that is one JSON value",
                format_args!("{error}: {text:?}"),
            )
        })
    }
}

/// One frame's bytes: length as unsigned 32-bit little-endian, then the payload.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload of the suite is shorter than 4 GiB");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// What a stream gave when it was asked for a frame.
#[derive(Debug)]
pub enum Received {
    /// A whole frame.
    Frame(Frame),
    /// The peer closed (or reset) the stream; `bytes` of an unfinished frame had come.
    End {
        /// Bytes of the unfinished frame.
        bytes: usize,
    },
    /// Nothing within the patience; `bytes` of an unfinished frame had come.
    Silence {
        /// Bytes of the unfinished frame.
        bytes: usize,
    },
}

impl Shown for Received {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Received::Frame(frame) => {
                write!(formatter, "a frame: {}", crate::transcript::shown(&frame.payload))?;
                match frame.descriptors.len() {
                    0 => Ok(()),
                    number => write!(formatter, " with {number} descriptors"),
                }
            }
            Received::End { bytes } => write!(formatter, "end of file after {bytes} bytes of a frame"),
            Received::Silence { bytes } => {
                write!(
                    formatter,
                    "nothing more after {bytes} bytes of a frame, and the stream is open"
                )
            }
        }
    }
}

/// The suite's end of a request stream.
pub struct FrameStream {
    socket: UnixStream,
    channel: String,
    transcript: Transcript,
    patience: Duration,
    buffer: Vec<u8>,
    held: Vec<OwnedFd>,
    counterpart: Option<Arc<Counterpart>>,
}

impl FrameStream {
    /// A stream over `socket`; `channel` names it in the transcript, `patience` is how long a read waits.
    pub fn new(socket: UnixStream, channel: &str, transcript: Transcript, patience: Duration) -> FrameStream {
        FrameStream {
            socket,
            channel: channel.to_owned(),
            transcript,
            patience,
            buffer: Vec::new(),
            held: Vec::new(),
            counterpart: None,
        }
    }

    /// The same stream, of which this process should have the other end: its end is told with the stream's.
    pub fn with(mut self, counterpart: Option<Arc<Counterpart>>) -> FrameStream {
        self.counterpart = counterpart;
        self
    }

    /// The socket itself, for what no frame can express.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends a payload as one frame, `descriptors` with its first byte.
    pub fn send(&mut self, payload: &[u8], descriptors: &[RawFd]) -> Verdict {
        self.send_bytes(&frame(payload), descriptors)
    }

    /// Sends a JSON value as one frame.
    pub fn send_json(&mut self, value: &Value) -> Verdict {
        self.send(value.to_string().as_bytes(), &[])
    }

    /// Sends raw bytes, `descriptors` with the first one.
    pub fn send_bytes(&mut self, bytes: &[u8], descriptors: &[RawFd]) -> Verdict {
        self.try_send_bytes(bytes, descriptors).map_err(|error| {
            violation(
                format_args!("{} reads what it is sent", self.channel),
                format_args!(
                    "sending {} bytes to it failed: {error}{}",
                    bytes.len(),
                    self.shown_end()
                ),
            )
        })
    }

    /// Like [`Self::send_bytes`], for cases in which the peer may rightly be gone.
    pub fn try_send_bytes(&mut self, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        self.transcript.message(
            Direction::ToImplementation,
            &self.channel,
            bytes.get(4..).unwrap_or(bytes),
            descriptors.len(),
        );
        let deadline = Moment::now() + self.patience;
        let mut rest = bytes;
        let mut with = descriptors;
        while !rest.is_empty() {
            match send_some(&self.socket, rest, with) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    with = &[];
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if writable_until(&self.socket, deadline)? => {}
                Err(Errno::EAGAIN) => {
                    let sent = bytes.len() - rest.len();
                    let text = format!("only {sent} bytes were taken within {:?}", self.patience);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Up to `most` bytes as they come, none at end of file, and the descriptors that came with them by control
    /// message; for cases that look at the stream below its frames. `what` names what is to come.
    ///
    /// # Errors
    /// A violation where nothing comes.
    pub fn receive_bytes(
        &mut self,
        most: usize,
        what: &str,
    ) -> Result<(Vec<u8>, Vec<Vec<OwnedFd>>), CaseError> {
        let deadline = Moment::now() + self.patience;
        loop {
            if !readable_until(&self.socket, deadline)? {
                let seen = format!("nothing within {:?}", self.patience);
                return Err(violation(format_args!("{what} on {}", self.channel), seen));
            }
            match receive_at_most(&self.socket, most) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                received => return Ok(received?),
            }
        }
    }

    /// Sends raw bytes cut into pieces at `cuts` (offsets), each piece written when the one before was taken.
    pub fn send_pieces(&mut self, bytes: &[u8], cuts: &[usize], descriptors: &[RawFd]) -> Verdict {
        let mut start = 0;
        for end in cuts
            .iter()
            .copied()
            .filter(|cut| *cut > 0 && *cut < bytes.len())
            .chain([bytes.len()])
        {
            if end <= start {
                continue;
            }
            let with = if start == 0 { descriptors } else { &[] };
            self.send_bytes(&bytes[start..end], with)?;
            self.drained()?;
            start = end;
        }
        Ok(())
    }

    /// Waits until the peer has read all that was sent, so that the next piece is a read of its own.
    pub fn drained(&self) -> Verdict {
        let deadline = Moment::now() + self.patience;
        loop {
            let mut unread: libc::c_int = 0;
            // SAFETY: SIOCOUTQ writes one int through the pointer, which outlives the call.
            let status = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
            Errno::result(status)?;
            if unread == 0 {
                return Ok(());
            }
            if deadline.is_over() {
                return Err(violation(
                    format_args!("{} reads what it is sent", self.channel),
                    format_args!("{unread} bytes of send buffer unread after {:?}", self.patience),
                ));
            }
            // The kernel sends no event when a receive queue of this kind has been emptied; yield and check again.
            std::thread::yield_now();
        }
    }

    /// The next frame, whatever happens.
    pub fn receive(&mut self) -> Result<Received, CaseError> {
        self.receive_within(self.patience)
    }

    /// The next frame, or what happened instead within `patience`.
    pub fn receive_within(&mut self, patience: Duration) -> Result<Received, CaseError> {
        let deadline = Moment::now() + patience;
        loop {
            if let Some(length) = self.announced() {
                if length > PAYLOAD_LIMIT {
                    return Err(violation(
                        format_args!("a frame of at most {PAYLOAD_LIMIT} bytes on {}", self.channel),
                        format_args!("an announced length of {length} bytes"),
                    ));
                }
                if self.buffer.len() >= 4 + length {
                    let rest = self.buffer.split_off(4 + length);
                    let mut whole = std::mem::replace(&mut self.buffer, rest);
                    let payload = whole.split_off(4);
                    let descriptors = std::mem::take(&mut self.held);
                    self.transcript.message(
                        Direction::FromImplementation,
                        &self.channel,
                        &payload,
                        descriptors.len(),
                    );
                    return Ok(Received::Frame(Frame { payload, descriptors }));
                }
            }
            if !readable_until(&self.socket, deadline)? {
                return Ok(Received::Silence {
                    bytes: self.buffer.len(),
                });
            }
            match receive_some(&self.socket, &mut self.held) {
                Ok(bytes) if bytes.is_empty() => return Ok(self.ended()),
                Ok(bytes) => self.buffer.extend_from_slice(&bytes),
                Err(Errno::ECONNRESET) => return Ok(self.ended()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&self) -> Received {
        self.transcript
            .message(Direction::FromImplementation, &self.channel, b"(end of file)", 0);
        Received::End {
            bytes: self.buffer.len(),
        }
    }

    /// How the process on the other side has ended, if it has.
    fn shown_end(&self) -> String {
        let Some(counterpart) = &self.counterpart else {
            return String::new();
        };
        match counterpart.ended() {
            None => String::new(),
            Some(ended) => {
                self.transcript
                    .note(format_args!("{} ended: {ended}", counterpart.what));
                format!("; {}: {ended}", counterpart.what)
            }
        }
    }

    fn announced(&self) -> Option<usize> {
        let length: [u8; 4] = self.buffer.get(..4)?.try_into().ok()?;
        Some(u32::from_le_bytes(length) as usize)
    }

    /// The next frame; anything else is a violation. `what` names the expected message.
    pub fn expect_frame(&mut self, what: &str) -> Result<Frame, CaseError> {
        let expected = format!("{what} on {}", self.channel);
        match self.receive()? {
            Received::Frame(frame) => Ok(frame),
            Received::End { bytes } => Err(violation(
                expected,
                format_args!("end of file after {bytes} bytes of a frame{}", self.shown_end()),
            )),
            Received::Silence { bytes } => Err(violation(
                expected,
                format_args!("nothing within {:?} ({bytes} bytes of a frame)", self.patience),
            )),
        }
    }

    /// Demands that the peer closes the stream without another frame.
    pub fn expect_end(&mut self, why: &str) -> Verdict {
        let expected = format!("{} is closed: {why}", self.channel);
        match self.receive()? {
            Received::End { bytes: 0 } => Ok(()),
            Received::End { bytes } => Err(violation(
                expected,
                format_args!("closed after {bytes} bytes of another frame"),
            )),
            Received::Frame(frame) => Err(violation(
                expected,
                format_args!("a frame: {}", crate::transcript::shown(&frame.payload)),
            )),
            Received::Silence { .. } => Err(violation(expected, still_open(&self.socket, self.patience))),
        }
    }

    /// Closes the writing half only.
    pub fn shutdown_write(&self) -> Verdict {
        Ok(self.socket.shutdown(std::net::Shutdown::Write)?)
    }
}

/// One sendmsg that doesn't wait, whatever the socket's flags: how many bytes were taken.
fn send_some(socket: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) -> nix::Result<usize> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        None,
    )
}

/// One recvmsg: bytes (empty at end of file); descriptors go to `held`.
pub(crate) fn receive_some(socket: &UnixStream, held: &mut Vec<OwnedFd>) -> nix::Result<Vec<u8>> {
    let (bytes, groups) = receive_at_most(socket, 1 << 16)?;
    held.extend(groups.into_iter().flatten());
    Ok(bytes)
}

/// One recvmsg that doesn't wait, whatever the socket's flags: up to `most` bytes, and descriptors by control message.
fn receive_at_most(socket: &UnixStream, most: usize) -> nix::Result<(Vec<u8>, Vec<Vec<OwnedFd>>)> {
    let mut bytes = vec![0; most];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTOR_ROOM]);
    let (length, groups) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
        )?;
        let groups = message.cmsgs()?.map(|part| owned_descriptors([part].into_iter()));
        (message.bytes, groups.filter(|group| !group.is_empty()).collect())
    };
    bytes.truncate(length);
    Ok((bytes, groups))
}

fn owned_descriptors(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    messages
        .flat_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors,
            _ => Vec::new(),
        })
        // SAFETY: the kernel has just made these descriptors for us; nothing else owns them.
        .map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) })
        .collect()
}

/// A received handshake.
#[derive(Debug)]
pub struct Handshake {
    /// The datagram's bytes.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// The next datagram of an escalation socket's server end, or none until `deadline`.
pub fn receive_handshake(socket: &UnixDatagram, deadline: Moment) -> Result<Option<Handshake>, CaseError> {
    if !readable_until(socket, deadline)? {
        return Ok(None);
    }
    let mut bytes = vec![0; 1 << 16];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTOR_ROOM]);
    let (length, descriptors) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
        );
        match message {
            Ok(message) => (message.bytes, owned_descriptors(message.cmsgs()?)),
            // A pair whose client ends are all closed reads as reset once.
            Err(Errno::ECONNRESET | Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    bytes.truncate(length);
    Ok(Some(Handshake { bytes, descriptors }))
}

/// Sends one datagram with descriptors, waiting while the queue is full.
///
/// # Errors
/// What sendmsg(2) says, or a timeout after `patience`.
pub fn send_datagram(
    socket: &impl AsFd,
    bytes: &[u8],
    descriptors: &[RawFd],
    patience: Duration,
) -> io::Result<()> {
    let deadline = Moment::now() + patience;
    let rights = [ControlMessage::ScmRights(descriptors)];
    // `sendfd` always sends a control message; a datagram without one needs none at all.
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::ETOOMANYREFS) if !deadline.is_over() => {
                // POLLOUT comes back later than sendmsg would succeed, so this is a bounded nap, then a new try.
                let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut set, PollTimeout::from(5_u16))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Demands end of file on a pipe: no process holds its writing end any more.
pub fn expect_end_of_file(mut reader: impl Read + AsFd, what: &str, patience: Duration) -> Verdict {
    if !readable_until(&reader, Moment::now() + patience)? {
        return Err(violation(
            what,
            format_args!("no end of file: {}", still_open(&reader, patience)),
        ));
    }
    let mut byte = [0];
    match reader.read(&mut byte)? {
        0 => Ok(()),
        _ => Err(violation(what, "bytes arrive instead of end of file")),
    }
}

/// Reads a stream to its end, which must come within `patience`; `what` is what the report says that it comes by.
pub fn read_whole(
    mut stream: impl Read + AsFd,
    what: impl Display,
    patience: Duration,
) -> Result<Vec<u8>, CaseError> {
    let read = read_to_end(&mut stream, Moment::now() + patience)?;
    read.ok_or_else(|| violation(what, still_open(&stream, patience)))
}

/// Reads a stream to its end; none where that doesn't come until `deadline`.
pub fn read_to_end(mut stream: impl Read + AsFd, deadline: Moment) -> Result<Option<Vec<u8>>, CaseError> {
    let mut bytes = Vec::new();
    let mut part = [0; 1 << 14];
    loop {
        if !readable_until(&stream, deadline)? {
            return Ok(None);
        }
        match stream.read(&mut part) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(harness(format_args!("reading a stream to its end: {error}"))),
        }
    }
}
