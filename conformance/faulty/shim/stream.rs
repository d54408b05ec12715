//! Frames on a stream: a length in little-endian, a payload, descriptors with the first byte.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::events::{self, lock};
use crate::faults::{Fault, Variant, broken, unusual};

/// The longest payload that is read.
const PAYLOAD_LIMIT: usize = 32 << 20;

/// Room for descriptors: more than a message may have. The kernel makes no more of the 253 that one can bring (SCM_MAX_FD).
const DESCRIPTOR_ROOM: usize = 32;

/// The most bytes that are read at once; memory grows with what has come.
const CHUNK: usize = 64 << 10;

/// What one frame brought.
pub struct Frame {
    /// The payload.
    pub payload: Vec<u8>,
    /// The descriptors, all close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// The kernel could not deliver all descriptors.
    pub truncated: bool,
}

/// What reading from the stream gave.
pub enum Progress {
    /// A whole frame.
    Frame(Frame),
    /// Nothing more for now.
    Pending,
    /// The peer has closed its end.
    End,
    /// A length over the limit.
    TooLong(usize),
}

/// The receiving side of a stream. It never reads beyond the current frame, because a read could bring descriptors
/// of the next one.
pub struct FrameReader {
    socket: Arc<UnixStream>,
    buffer: Vec<u8>,
    held: Vec<OwnedFd>,
    truncated: bool,
    /// How many frames have come.
    frames: u32,
    /// Whether a wrapper is at the other end: faults apply only to those streams.
    of_wrapper: bool,
}

impl FrameReader {
    /// Reads what a wrapper sends.
    pub fn of_wrapper(socket: Arc<UnixStream>) -> FrameReader {
        FrameReader {
            of_wrapper: true,
            ..FrameReader::new(socket)
        }
    }

    /// Reads what another process of ours sends.
    pub fn new(socket: Arc<UnixStream>) -> FrameReader {
        FrameReader {
            of_wrapper: false,
            socket,
            buffer: Vec::new(),
            held: Vec::new(),
            truncated: false,
            frames: 0,
        }
    }

    /// Reads what has arrived, without waiting.
    pub fn advance(&mut self) -> io::Result<Progress> {
        loop {
            let wanted = match self.announced() {
                None => 4 - self.buffer.len(),
                Some(length) if self.is_too_long(length) => return Ok(self.refuse(length)),
                Some(length) if self.buffer.len() == 4 + length => {
                    return Ok(Progress::Frame(self.take_frame()));
                }
                Some(length) => 4 + length - self.buffer.len(),
            };
            let start = self.buffer.len();
            self.buffer.resize(start + wanted.min(CHUNK), 0);
            let received = receive(&*self.socket, &mut self.buffer[start..], &mut self.held);
            let length = received.as_ref().map_or(0, |received| received.length);
            self.buffer.truncate(start + length);
            match received {
                Ok(received) => {
                    self.truncated |= received.truncated;
                    // A request has none: what came with it is not held until the frame is whole.
                    if self.of_wrapper && self.frames == 0 && !keeps_those_of_requests() {
                        self.held.clear();
                    }
                }
                Err(Errno::EAGAIN) if self.of_wrapper => return Ok(self.wait_for_the_rest()),
                Err(Errno::EAGAIN) => return Ok(Progress::Pending),
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) => return Ok(Progress::End),
                Err(error) => return Err(error.into()),
            }
            if length == 0 {
                return Ok(Progress::End);
            }
        }
    }

    fn is_too_long(&self, length: usize) -> bool {
        let is_wrong = self.of_wrapper
            && (broken(Fault::LimitOfOneMib) && length > 1 << 20
                || broken(Fault::SixteenMibTooLong) && length >= 16 << 20
                || broken(Fault::LongDescriptorMessagesRefused)
                    && !self.held.is_empty()
                    && length > 64 << 10);
        is_wrong || length > PAYLOAD_LIMIT
    }

    /// Handles a length over the limit.
    fn refuse(&mut self, length: usize) -> Progress {
        if self.of_wrapper && broken(Fault::AllocatedOnAnnouncement) {
            drop(std::hint::black_box(Vec::<u8>::with_capacity(length)));
        }
        let awaited =
            broken(Fault::LongPayloadAwaited) || broken(Fault::LongSignalFramesAwaited) && self.frames == 2;
        if self.of_wrapper && awaited {
            let _ = self.discard();
            return Progress::Pending;
        }
        Progress::TooLong(length)
    }

    /// Called when there is nothing to read for now.
    fn wait_for_the_rest(&mut self) -> Progress {
        if broken(Fault::FirstDescriptorsLost) {
            self.held.clear();
        }
        let begun = self.buffer.len();
        let gives_up = broken(Fault::OneReadIsAFrame) && begun > 0
            || broken(Fault::LengthInOneRead) && (1..4).contains(&begun);
        if gives_up {
            Progress::End
        } else {
            Progress::Pending
        }
    }

    /// Whether part of a frame has arrived.
    pub fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Never closes the descriptors that came with a part of a frame.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.held));
    }

    /// Discards what has arrived, and returns how many bytes it was.
    pub fn discard(&mut self) -> usize {
        let mut bytes = vec![0; CHUNK];
        let mut discarded = 0;
        while let Ok(received) = receive(&*self.socket, &mut bytes, &mut Vec::new()) {
            if received.length == 0 {
                break;
            }
            discarded += received.length;
        }
        discarded
    }

    fn announced(&self) -> Option<usize> {
        let length: [u8; 4] = self.buffer.get(..4)?.try_into().ok()?;
        Some(u32::from_le_bytes(length) as usize)
    }

    fn take_frame(&mut self) -> Frame {
        self.frames += 1;
        let mut payload = std::mem::take(&mut self.buffer);
        payload.drain(..4);
        Frame {
            payload,
            descriptors: std::mem::take(&mut self.held),
            truncated: std::mem::take(&mut self.truncated),
        }
    }
}

/// Whether a fault is about the descriptors that come with a request.
fn keeps_those_of_requests() -> bool {
    [
        Fault::RequestDescriptorsKept,
        Fault::RequestDescriptorsInherited,
        Fault::MalformedDescriptorsKept,
        Fault::HalfFrameDescriptorsKept,
        Fault::TruncatedKept,
    ]
    .into_iter()
    .any(broken)
}

/// What one call of recvmsg(2) gave.
pub struct Received {
    /// Bytes.
    pub length: usize,
    /// The kernel could not deliver all descriptors.
    pub truncated: bool,
}

/// The peer's pidfd, which the peer can request for the server's end of its stream (SO_PASSPIDFD, Linux 6.5).
const SCM_PIDFD: libc::c_int = 0x04;

/// Receives without waiting; descriptors go to `held`, close-on-exec from their first moment.
///
/// Not by nix's recvmsg, which loses the descriptors that were made before the process ran out of them.
pub fn receive(socket: &impl AsFd, bytes: &mut [u8], held: &mut Vec<OwnedFd>) -> nix::Result<Received> {
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTOR_ROOM]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.capacity();
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the message points to buffers of ours of the lengths it says, and they outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let length = Errno::result(length)? as usize;
    // SAFETY: the kernel has filled the control buffer and its length; CMSG_* walk it within that length, and the
    // descriptors in it are new and have no other owner.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let size = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            let numbers = (0..size / size_of::<RawFd>()).map(|index| data.add(index).read_unaligned());
            match (*header).cmsg_type {
                libc::SCM_RIGHTS => held.extend(numbers.map(|number| OwnedFd::from_raw_fd(number))),
                SCM_PIDFD if broken(Fault::PidfdsKept) => {}
                SCM_PIDFD => drop(
                    numbers
                        .map(|number| OwnedFd::from_raw_fd(number))
                        .collect::<Vec<_>>(),
                ),
                libc::SCM_CREDENTIALS if broken(Fault::CredentialsForDescriptors) => {
                    // Not as owned descriptors: Rust aborts a program that closes one that isn't open.
                    for number in numbers {
                        libc::close(number);
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Received {
        length,
        truncated: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Sends bytes, `descriptors` with the first one. Waits if the peer is slow.
pub fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let mut control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    let mut rest = bytes;
    while !rest.is_empty() {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(rest)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(length) => rest = &rest[length..],
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                events::wait([(socket.as_fd(), PollFlags::POLLOUT)], None)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        control = &[];
    }
    Ok(())
}

/// The bytes of a frame.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Sends a message of the wire to a wrapper.
pub fn send_message(socket: &UnixStream, payload: &[u8]) -> io::Result<()> {
    static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = broken(Fault::StalledReaderBlocks).then(|| lock(&WRITING));
    let mut payload = payload;
    if broken(Fault::LongMessagesCut) {
        payload = &payload[..payload.len().min(64 << 10)];
    }
    let mut bytes = frame(payload);
    if broken(Fault::NewlineAfterFrame) {
        bytes.push(b'\n');
    }
    if broken(Fault::NoLength) {
        bytes.drain(..4);
    }
    if broken(Fault::LengthBigEndian) {
        bytes[..4].reverse();
    }
    if broken(Fault::LengthCountsItself) {
        bytes[..4].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
    }
    if unusual(Variant::Bytewise) {
        // Long frames go in larger pieces: a system call per byte would exceed the case's deadline.
        let piece = bytes.len().div_ceil(10_000).max(1);
        return bytes.chunks(piece).try_for_each(|bytes| send(socket, bytes, &[]));
    }
    send(socket, &bytes, &[])
}
