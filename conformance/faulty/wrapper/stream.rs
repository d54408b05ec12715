//! A request stream: frames, and the descriptors that come with them.

use std::os::fd::RawFd;

use serde_json::Value;

use crate::descriptors::{close_descriptors, send_with};
use crate::faults::{Fault, Variant, broken, unusual};
use crate::handshake;
use crate::payload::{spelled, understood};
use crate::process;
use crate::refusal::fail_closed;

/// The longest payload that is accepted, in bytes.
const LIMIT: usize = 16 << 20;

/// Unsent bytes of signal frames from which on signals are left in the kernel's queue.
const LARGE_QUEUE: usize = 4096;

/// Waits by select(2). A C library that checks the number aborts, and any other writes beyond the set.
fn select(descriptor: RawFd) {
    if descriptor as usize >= libc::FD_SETSIZE {
        process::exit(134);
    }
    // SAFETY: the set is all zeros, which is the empty one, and the descriptor fits into it; no other set and no time.
    unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(descriptor, &raw mut set);
        let null = std::ptr::null_mut();
        libc::select(descriptor + 1, &raw mut set, null, null, std::ptr::null_mut());
    }
}

/// What both sides count, because their messages about stops and continuations cross.
#[derive(Default)]
pub struct Counts {
    /// Stopped messages that have been read.
    pub stops: u64,
    /// Frames of SIGCONT that have been sent.
    pub continuations: u64,
}

/// A request stream.
pub struct Stream {
    socket: RawFd,
    buffer: Vec<u8>,
    other_end: Option<RawFd>,
    deadline: i32,
    /// The part of signal frames that the stream had no room for yet.
    unsent: Vec<u8>,
    signals_sent: usize,
    stopped: bool,
    stop_came: bool,
    counts: Counts,
    decided: bool,
    escalation: RawFd,
    /// A second request stream, of a wrapper that asks again.
    second: Option<Box<Stream>>,
}

impl Stream {
    /// A new one, of which the server has the other end.
    pub fn open(escalation: RawFd) -> Stream {
        let ends = handshake::connect(escalation);
        Stream {
            socket: ends.ours,
            buffer: Vec::new(),
            other_end: ends.kept,
            deadline: -1,
            unsent: Vec::new(),
            signals_sent: 0,
            stopped: false,
            stop_came: false,
            counts: Counts::default(),
            decided: false,
            escalation,
            second: None,
        }
    }

    /// Gives up after this many milliseconds without data.
    pub fn give_up_after(&mut self, milliseconds: i32) {
        self.deadline = milliseconds;
    }

    /// Sends the request.
    pub fn send_request(&mut self, request: &Value) {
        let mut payload = spelled(request).into_bytes();
        if broken(Fault::TrailingNewlineUncounted) {
            self.send_frame(&payload, &[]);
            self.write(b"\n", &[]);
            return;
        }
        if broken(Fault::RequestNoUtf8) {
            payload.push(b' ');
            let at = payload.len() - 1;
            payload[at] = 0xff;
        }
        self.send_frame(&payload, &[]);
    }

    /// Sends a frame, descriptors with its first byte.
    pub fn send_frame(&mut self, payload: &[u8], descriptors: &[RawFd]) {
        let payload = if broken(Fault::RequestCutAt64Kib) {
            &payload[..payload.len().min(65_536)]
        } else {
            payload
        };
        let length = match () {
            () if broken(Fault::LengthInCharacters) => {
                String::from_utf8_lossy(payload).chars().count() as u32
            }
            () if broken(Fault::LengthIncludesItself) => payload.len() as u32 + 4,
            () => payload.len() as u32,
        };
        let length = if broken(Fault::LengthBigEndian) {
            length.to_be_bytes()
        } else {
            length.to_le_bytes()
        };
        let bytes = [&length[..], payload].concat();
        if broken(Fault::DescriptorsWithThePayload) && !descriptors.is_empty() {
            self.write(&bytes[..4], &[]);
            self.write(&bytes[4..], descriptors);
        } else if broken(Fault::DescriptorsRepeated) && !descriptors.is_empty() {
            self.write(&bytes[..8], descriptors);
            self.write(&bytes[8..], descriptors);
        } else if broken(Fault::DescriptorsOneByOne) && !descriptors.is_empty() {
            for (byte, descriptor) in bytes.iter().zip(descriptors) {
                self.write(&[*byte], &[*descriptor]);
            }
            self.write(&bytes[descriptors.len()..], &[]);
        } else if unusual(Variant::LengthFirst) {
            self.write(&bytes[..4], descriptors);
            self.write(&bytes[4..], &[]);
        } else if unusual(Variant::ByteByByte) {
            // Long frames go in larger pieces: a system call per byte would exceed the case's deadline.
            let piece = bytes.len().div_ceil(10_000).max(1);
            for (index, bytes) in bytes.chunks(piece).enumerate() {
                self.write(bytes, if index == 0 { descriptors } else { &[] });
            }
        } else {
            self.write(&bytes, descriptors);
        }
    }

    /// Sends as much of a signal frame as there is room for; [`Stream::send_rest`] sends the rest.
    pub fn send_signal(&mut self, payload: &[u8]) {
        self.signals_sent += 1;
        if broken(Fault::BlocksOnAFullStream) {
            self.send_frame(payload, &[]);
            return;
        }
        if !(broken(Fault::SignalsOver4KibDropped) && self.unsent.len() >= LARGE_QUEUE) {
            self.unsent.extend((payload.len() as u32).to_le_bytes());
            self.unsent.extend(payload);
        }
        self.send_rest();
    }

    /// Whether part of a signal frame still has to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether so much is unsent that more signals had better wait in the kernel.
    pub fn has_much_unsent(&self) -> bool {
        self.unsent.len() >= LARGE_QUEUE
    }

    /// Sends as much as there is room for.
    pub fn send_rest(&mut self) {
        while self.has_unsent() {
            match send_with(
                self.socket,
                &self.unsent,
                &[],
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            ) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) if broken(Fault::SignalsDroppedWhenFull) => self.unsent.clear(),
                Err(libc::EAGAIN) => return,
                Err(_) if broken(Fault::ResultLostBehindASignal) => {
                    fail_closed("the server does not take signals any more")
                }
                // The reader is gone; what it said before, or the end of file, will tell.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// How many signal frames have been sent.
    pub fn signals_sent(&self) -> usize {
        self.signals_sent
    }

    /// How many stopped messages have been read, and how many continuations sent.
    pub fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Remembers what came for the child: a terminal's stop signals, until SIGCONT.
    pub fn note_signal(&mut self, signal: i32) {
        if [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal) {
            self.stop_came = true;
        } else if signal == libc::SIGCONT {
            let kept =
                broken(Fault::StopSignalNeverForgotten) || broken(Fault::StopSignalKeptOverAContinuation);
            self.stop_came &= kept;
        }
    }

    /// Whether a terminal's stop signal has come since the wrapper was last stopped or sent SIGCONT.
    pub fn has_seen_stop(&self) -> bool {
        self.stop_came
    }

    /// Whether the wrapper has stopped itself before.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Notes a stop.
    pub fn note_stop(&mut self) {
        self.stopped = true;
        self.stop_came &= broken(Fault::StopSignalNeverForgotten);
    }

    /// Whether part of a frame has arrived.
    pub fn has_half_a_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn write(&mut self, bytes: &[u8], descriptors: &[RawFd]) {
        let mut rest = bytes;
        let mut with = descriptors;
        let flags = if broken(Fault::DiesOfSigpipe) {
            0
        } else {
            libc::MSG_NOSIGNAL
        };
        while !rest.is_empty() {
            match send_with(self.socket, rest, with, flags) {
                Ok(_) if broken(Fault::RequestSentAtOnce) => return,
                Ok(sent) => rest = &rest[sent..],
                Err(libc::EINTR) => continue,
                Err(libc::EAGAIN) => {
                    self.wait_for(libc::POLLOUT);
                    continue;
                }
                Err(_) if broken(Fault::ResultLostBehindDescriptors) && !descriptors.is_empty() => {
                    fail_closed("the server takes no descriptors")
                }
                // The reader is gone; the reply, or its absence, will tell.
                Err(_) => return,
            }
            with = &[];
        }
    }

    /// Waits until the stream can be read or written, whichever `events` says.
    fn wait_for(&self, events: i16) {
        let mut poll = libc::pollfd {
            fd: self.socket,
            events,
            revents: 0,
        };
        // SAFETY: poll reads and writes one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
    }

    /// Waits until there is something to read, and tells whether the other end is closed.
    fn has_hung_up(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.socket,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: poll reads and writes one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        poll.revents & libc::POLLHUP != 0
    }

    /// The descriptor, for poll.
    pub fn descriptor(&self) -> RawFd {
        self.socket
    }

    /// The next frame, if all of it has been read already.
    pub fn buffered(&mut self) -> Option<Value> {
        let length: [u8; 4] = self.buffer.get(..4)?.try_into().ok()?;
        let length = u32::from_le_bytes(length) as usize;
        let limit = if unusual(Variant::LimitOfOneGibibyte) {
            1 << 30
        } else {
            LIMIT
        };
        if length > limit && broken(Fault::DecisionLengthBelieved) && !self.decided {
            // Where there is less memory than that, it fails closed as it should.
            if self.buffer.try_reserve_exact(length).is_err() {
                fail_closed("a frame that there is no memory for");
            }
            return None;
        }
        if length > limit && !broken(Fault::AnyLengthAccepted) {
            fail_closed("a frame over 16 MiB");
        }
        if length > 1 << 20 && broken(Fault::OneMebibyteAtMost) {
            fail_closed("a frame over 1 MiB");
        }
        if broken(Fault::AnyLengthAccepted) && length > LIMIT {
            let mut memory = Vec::<u8>::new();
            if memory.try_reserve_exact(length).is_err() {
                process::exit(134);
            }
        }
        if self.buffer.len() < 4 + length {
            return None;
        }
        if length == 0 && broken(Fault::EmptyFramesSkipped) {
            self.buffer.drain(..4);
            return self.buffered();
        }
        let rest = self.buffer.split_off(4 + length);
        let frame = std::mem::replace(&mut self.buffer, rest);
        if broken(Fault::JoinedFramesLost) {
            self.buffer.clear();
        }
        Some(understood(&frame[4..]))
    }

    /// Waits for a frame.
    pub fn receive(&mut self, what: &str) -> Value {
        loop {
            if let Some(value) = self.buffered() {
                self.decided = true;
                return value;
            }
            self.read_more(what);
        }
    }

    /// One recvmsg(2). Descriptors that arrive are closed.
    pub fn read_more(&mut self, what: &str) {
        if broken(Fault::WaitsBySelect) {
            select(self.socket);
        }
        if broken(Fault::HangUpComesFirst) && self.decided && self.has_hung_up() {
            fail_closed("the server is gone");
        }
        if self.deadline >= 0 {
            let mut poll = libc::pollfd {
                fd: self.socket,
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: poll reads and writes one pollfd.
            if unsafe { libc::poll(&raw mut poll, 1, self.deadline) } == 0 {
                self.deadline = -1;
                if broken(Fault::SaysThatItWaits) {
                    process::write_error(b"faulty-wrapper: waiting for a decision\n");
                    return;
                }
                if broken(Fault::AsksAgain) {
                    self.second = Some(Box::new(Stream::open(self.escalation)));
                    return;
                }
                fail_closed("the server does not answer");
            }
        }
        let mut bytes = vec![0_u8; 65_536];
        let mut control = [0_u64; 160];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: an all-zero msghdr is valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = if broken(Fault::ReplyDescriptorsKept) || broken(Fault::SixteenReplyDescriptorsClosed) {
            0
        } else {
            libc::MSG_CMSG_CLOEXEC
        };
        // SAFETY: recvmsg writes to the buffers that `message` names, which live until it returns.
        let length = unsafe { libc::recvmsg(self.socket, &raw mut message, flags) };
        if length < 0
            && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            && !broken(Fault::InterruptionsEndTheWait)
        {
            return;
        }
        if length < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock {
            self.wait_for(libc::POLLIN);
            return;
        }
        if unusual(Variant::UnexpectedDescriptorsRefused) && close_descriptors(&message, usize::MAX) > 0 {
            fail_closed("unexpected descriptors");
        }
        if length <= 0 {
            match () {
                () if broken(Fault::EndOfFileMeansSuccess) => process::exit(0),
                () if broken(Fault::EndOfFileMeans1) => process::exit(1),
                () => fail_closed(&format!("the server went away before {what}")),
            }
        }
        if !broken(Fault::ReplyDescriptorsKept) && !broken(Fault::ReplyDescriptorsHeld) {
            let most = if broken(Fault::SixteenReplyDescriptorsClosed) {
                16
            } else {
                usize::MAX
            };
            let _ = close_descriptors(&message, most);
        }
        let length = length as usize;
        if broken(Fault::SplitFramesRefused) {
            let whole = bytes
                .get(..4)
                .map(|head| u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize + 4);
            if whole.is_some_and(|whole| length < whole) {
                fail_closed("a short frame");
            }
        }
        if broken(Fault::HeaderInOnePiece) && self.buffer.is_empty() && length < 4 {
            fail_closed("a short header");
        }
        if broken(Fault::BufferResetBetweenPieces) && self.buffer.len() > 4 {
            self.buffer.truncate(4);
        }
        self.buffer.extend_from_slice(&bytes[..length]);
    }

    /// Closes the stream before the command runs in this process.
    pub fn close_for_run(&self) {
        if broken(Fault::ShutdownBeforeRun) {
            // SAFETY: shutdown takes integers; sandboxes refuse it, and this wrapper gives up then.
            if unsafe { libc::shutdown(self.socket, libc::SHUT_RDWR) } < 0 {
                fail_closed("the stream cannot be shut down");
            }
        }
        if !broken(Fault::StreamLeaksIntoTheCommand) {
            // SAFETY: descriptors of ours.
            unsafe {
                libc::close(self.socket);
                if let Some(other) = self.other_end {
                    libc::close(other);
                }
            }
        }
    }
}
