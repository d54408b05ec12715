//! The wire: handshake, frames, and bytes that are not UTF-8.

use std::os::fd::RawFd;

use serde_json::Value;

use crate::faults::{Fault, Variant, broken, unusual};
use crate::process;
use crate::refusal::fail_closed;

/// The longest payload that is accepted, in bytes.
const LIMIT: usize = 16 << 20;

/// The deepest nesting of a reply that is read: it must be 500 at least, and the stack has room for more.
const DEEPEST: usize = 1000;

/// Marks a byte that is not UTF-8 in strings that become JSON: this character, then the byte as U+00XX.
/// It is a private use character that no string of a case contains.
const MARK: char = '\u{10fffd}';

/// The escalation socket's number, checked.
pub fn escalation_socket() -> RawFd {
    let Some(value) = std::env::var_os("CODEX_ESCALATE_SOCKET") else {
        fail_closed("CODEX_ESCALATE_SOCKET is not set");
    };
    let text = value.to_string_lossy();
    let number = if broken(Fault::NumberTrimmed) {
        text.trim().parse().ok()
    } else if broken(Fault::PlusSignAccepted) {
        text.parse::<RawFd>().ok().filter(|number| *number >= 0)
    } else if broken(Fault::NumberWraps) {
        text.parse::<u128>().ok().map(|number| number as u64 as RawFd)
    } else if broken(Fault::NumberReadLeniently) {
        text.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    } else {
        text.parse::<RawFd>()
            .ok()
            .filter(|number| *number >= 0 && !text.starts_with('+'))
    };
    let Some(number) = number else {
        if broken(Fault::VariableNotNamed) {
            fail_closed("no escalation socket");
        }
        fail_closed(&format!(
            "CODEX_ESCALATE_SOCKET is not a descriptor number: {}",
            text.escape_debug()
        ));
    };
    if broken(Fault::SocketMadeNonblocking) {
        // SAFETY: fcntl on a number fails with EBADF where it is closed.
        unsafe { libc::fcntl(number, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) };
    }
    if broken(Fault::SocketMadeBlocking) {
        // SAFETY: as above.
        unsafe { libc::fcntl(number, libc::F_SETFL, libc::O_RDWR) };
    }
    number
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
    decided: bool,
    escalation: RawFd,
    /// A second request stream, of a wrapper that asks again.
    second: Option<Box<Stream>>,
}

/// Makes a pair and sends its other end.
pub fn handshake(escalation: RawFd) -> Stream {
    let kind = match () {
        () if broken(Fault::HandshakeDatagramPair) => libc::SOCK_DGRAM,
        () if broken(Fault::StreamLeaksIntoTheCommand) => libc::SOCK_STREAM,
        () if unusual(Variant::NonblockingStreams) => {
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK
        }
        () => libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
    };
    let mut pair = [0; 2];
    // SAFETY: socketpair writes two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) } < 0 {
        fail_closed("no socket pair");
    }
    // Never at 0, 1 or 2: the command's standard streams may be closed.
    let command = if broken(Fault::StreamLeaksIntoTheCommand) {
        libc::F_DUPFD
    } else {
        libc::F_DUPFD_CLOEXEC
    };
    for end in pair.iter_mut().filter(|end| **end < 3) {
        // SAFETY: fcntl and close on descriptors of ours.
        unsafe {
            let low = *end;
            *end = libc::fcntl(low, command, 3);
            libc::close(low);
        }
    }
    if broken(Fault::HandshakeBySendtoFirst) {
        // SAFETY: sendto reads nothing of length 0; sandboxes refuse it, and this wrapper gives up then.
        if unsafe { libc::sendto(pair[0], [0_u8].as_ptr().cast(), 0, 0, std::ptr::null(), 0) } < 0 {
            fail_closed("sendto is refused");
        }
    }
    let byte = if broken(Fault::HandshakeByte1) { 1 } else { 0 };
    let bytes: &[u8] = match () {
        () if broken(Fault::HandshakeTwoBytes) => &[0, 0],
        () => &[byte],
    };
    let descriptors: &[RawFd] = match () {
        () if broken(Fault::HandshakeTwoDescriptors) => &[pair[1], pair[0]],
        () if broken(Fault::HandshakeWithoutDescriptor) => &[],
        () => &[pair[1]],
    };
    if broken(Fault::SocketOptionReadFirst) {
        let (mut kind, mut size) = (0_i32, 4_u32);
        // SAFETY: getsockopt writes one integer.
        let status = unsafe {
            let kind = (&raw mut kind).cast();
            libc::getsockopt(escalation, libc::SOL_SOCKET, libc::SO_TYPE, kind, &raw mut size)
        };
        if status < 0 {
            fail_closed("CODEX_ESCALATE_SOCKET does not name a socket");
        }
    }
    // SAFETY: fcntl on a number fails with EBADF where it is closed.
    let flags = unsafe { libc::fcntl(escalation, libc::F_GETFL) };
    let set_flags = |flags: i32| {
        if broken(Fault::SocketMadeBlockingForTheWait) {
            // SAFETY: as above.
            unsafe { libc::fcntl(escalation, libc::F_SETFL, flags) };
        }
    };
    let mut attempts = 0;
    loop {
        match send_with(
            escalation,
            bytes,
            descriptors,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        ) {
            Ok(_) => break,
            Err(libc::EAGAIN | libc::ETOOMANYREFS) if unusual(Variant::WaitsForPollout) => {
                let mut poll = libc::pollfd {
                    fd: escalation,
                    events: libc::POLLOUT,
                    revents: 0,
                };
                // SAFETY: poll reads and writes one pollfd.
                unsafe { libc::poll(&raw mut poll, 1, -1) };
            }
            Err(libc::EAGAIN | libc::ETOOMANYREFS)
                if !(broken(Fault::FullSocketFails) || broken(Fault::GivesUpWhenFull) && attempts > 20) =>
            {
                attempts += 1;
                set_flags(flags & !libc::O_NONBLOCK);
                if !broken(Fault::SpinsOnAFullSocket) {
                    // SAFETY: usleep takes an integer.
                    unsafe { libc::usleep(2_000) };
                }
            }
            Err(libc::ENOTSOCK) if broken(Fault::HandshakeByWrite) => {
                // SAFETY: write reads one byte.
                unsafe { libc::write(escalation, [0_u8].as_ptr().cast(), 1) };
                fail_closed("no server listens on the escalation socket");
            }
            Err(libc::ENOTCONN | libc::ECONNREFUSED) if broken(Fault::MissingPeerAwaited) => {
                // SAFETY: as above.
                unsafe { libc::usleep(2_000) };
            }
            Err(_) => fail_closed("no server listens on the escalation socket"),
        }
    }
    set_flags(flags);
    let other_end = if broken(Fault::OtherEndKept) {
        Some(pair[1])
    } else {
        // SAFETY: a descriptor of ours.
        unsafe { libc::close(pair[1]) };
        None
    };
    Stream {
        socket: pair[0],
        buffer: Vec::new(),
        other_end,
        deadline: -1,
        unsent: Vec::new(),
        signals_sent: 0,
        stopped: false,
        stop_came: false,
        decided: false,
        escalation,
        second: None,
    }
}

/// Bytes as a string for [`Stream::send_request`], with bytes that are not UTF-8 marked.
pub fn placeholder_text(bytes: &[u8]) -> String {
    if broken(Fault::BytesReplaced) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::new();
    if broken(Fault::EveryByteEscaped) {
        for byte in bytes {
            if !byte.is_ascii() {
                text.push(MARK);
            }
            text.push(char::from(*byte));
        }
        return text;
    }
    if broken(Fault::EncodedSurrogatesKept)
        && let Some(at) = bytes
            .windows(3)
            .position(|window| window[0] == 0xed && (0xb0..=0xbf).contains(&window[1]))
    {
        let low = u32::from(bytes[at + 1] & 0x0f) << 6 | u32::from(bytes[at + 2] & 0x3f);
        let mut text = placeholder_text(&bytes[..at]);
        text.push(MARK);
        text.extend(char::from_u32(low));
        return text + &placeholder_text(&bytes[at + 3..]);
    }
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            if unusual(Variant::CoreOnly) || unusual(Variant::NoBytes) {
                fail_closed("bytes that are not UTF-8 cannot be sent");
            }
            if broken(Fault::BytesDropped) {
                continue;
            }
            text.push(MARK);
            let byte = if broken(Fault::BytesAsLatin1) {
                *byte & 0x7f | 0x80
            } else {
                *byte
            };
            text.push(char::from(byte));
        }
    }
    text
}

impl Stream {
    /// Gives up after this many milliseconds without data.
    pub fn give_up_after(&mut self, milliseconds: i32) {
        self.deadline = milliseconds;
    }

    /// Sends the request.
    pub fn send_request(&mut self, request: &Value) {
        if unusual(Variant::EverythingEscaped) {
            self.send_frame(everything_escaped(request).as_bytes(), &[]);
            return;
        }
        let mut payload = if unusual(Variant::PrettyJson) {
            format!("{request:#}\n ")
        } else {
            request.to_string()
        };
        let mut marked = String::new();
        let mut characters = payload.chars();
        while let Some(character) = characters.next() {
            match character {
                MARK => {
                    let byte = characters.next().map_or(0, u32::from);
                    let base = if broken(Fault::BytesAsLatin1) { 0 } else { 0xdc00 };
                    marked.push_str(&format!("\\u{:04x}", base + byte));
                }
                character if unusual(Variant::EscapedNonAscii) && !character.is_ascii() => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        marked.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                character => marked.push(character),
            }
        }
        payload = marked;
        let mut payload = payload.into_bytes();
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
        // The server has not read for long: more frames would only grow the queue.
        if self.unsent.len() < 4096 {
            self.unsent.extend((payload.len() as u32).to_le_bytes());
            self.unsent.extend(payload);
        }
        self.send_rest();
    }

    /// Remembers what came for the child: a terminal's stop signals, until SIGCONT.
    pub fn note_signal(&mut self, signal: i32) {
        if [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal) {
            self.stop_came = true;
        } else if signal == libc::SIGCONT {
            self.stop_came = false;
        }
    }

    /// Whether a terminal's stop signal has come since the wrapper stopped last.
    pub fn has_seen_stop(&self) -> bool {
        self.stop_came
    }

    /// Whether part of a signal frame still has to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
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
                // The reader is gone; the end of file will tell.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// How many signal frames have been sent.
    pub fn signals_sent(&self) -> usize {
        self.signals_sent
    }

    /// Whether the wrapper has stopped itself before.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Notes a stop.
    pub fn note_stop(&mut self) {
        self.stopped = true;
        self.stop_came = false;
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
        Some(self.parse(&frame[4..]))
    }

    fn parse(&self, payload: &[u8]) -> Value {
        if broken(Fault::CompactRepliesOnly) && payload.contains(&b' ') {
            fail_closed("white space in a reply");
        }
        if broken(Fault::EscapesNotDecoded) {
            let doubled = String::from_utf8_lossy(payload).replace("\\u", "\\\\u");
            return serde_json::from_str(&doubled).unwrap_or_else(|_| fail_closed("a malformed reply"));
        }
        if broken(Fault::TrailingDataIgnored) {
            let mut values = serde_json::Deserializer::from_slice(payload).into_iter();
            return match values.next() {
                Some(Ok(value)) => value,
                _ => fail_closed("a malformed reply"),
            };
        }
        if broken(Fault::ReplySearchedForRun) && payload.windows(3).any(|part| part == b"Run") {
            return serde_json::json!({"action": "Run"});
        }
        if broken(Fault::SingleQuotesAccepted) && payload.contains(&b'\'') {
            let text = String::from_utf8_lossy(payload).replace('\'', "\"");
            return serde_json::from_str(&text).unwrap_or_else(|_| fail_closed("a malformed reply"));
        }
        if broken(Fault::EscapedSlashRefused) && payload.windows(2).any(|two| two == br"\/") {
            fail_closed("a malformed reply");
        }
        let lossy;
        let payload = if broken(Fault::UndecodableRepliesMended) {
            lossy = String::from_utf8_lossy(payload).into_owned();
            lossy.as_bytes()
        } else if broken(Fault::PaddingCutOff) {
            payload.trim_ascii_end().strip_suffix(b"\0").unwrap_or(payload)
        } else {
            payload
        };
        match read_value(payload, broken(Fault::NestingOf128AtMost)) {
            Ok(value) if value.is_object() => value,
            Ok(Value::Array(values)) if broken(Fault::ArraysReadAsMessages) && !values.is_empty() => {
                serde_json::json!({"action": values[0], "exit_code": values[0]})
            }
            _ if broken(Fault::MalformedReplyDenies) => {
                serde_json::json!({"action": {"Deny": {"reason": null}}})
            }
            _ if broken(Fault::MalformedReplyPanics) => process::abort(),
            _ => fail_closed("a malformed reply"),
        }
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
                    self.second = Some(Box::new(handshake(self.escalation)));
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

/// The JSON text of `value` in which no character of a string stands for itself.
pub fn everything_escaped(value: &Value) -> String {
    let string = |text: &str| {
        let mut escaped = String::from("\"");
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character == MARK {
                let byte = characters.next().map_or(0, u32::from);
                escaped.push_str(&format!("\\u{:04x}", 0xdc00 + byte));
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
        escaped + "\""
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(everything_escaped).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", string(name), everything_escaped(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// How deep brackets are open outside of strings, at the deepest place.
fn depth(payload: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => open += 1,
            b']' | b'}' if !in_text => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

fn read_value(payload: &[u8], limited: bool) -> serde_json::Result<Value> {
    let limited_value = parse(serde_json::Deserializer::from_slice(payload));
    if limited_value.is_ok() || limited {
        return limited_value;
    }
    if depth(payload) > DEEPEST && !broken(Fault::NestingOverflowsTheStack) {
        return limited_value;
    }
    // Nested beyond 128, which serde_json stops at.
    let mut reader = serde_json::Deserializer::from_slice(payload);
    reader.disable_recursion_limit();
    parse(reader)
}

fn parse(mut reader: serde_json::Deserializer<serde_json::de::SliceRead<'_>>) -> serde_json::Result<Value> {
    use serde::Deserialize;
    let value = Value::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn close_descriptors(message: &libc::msghdr, most: usize) -> usize {
    let mut closed = 0;
    // SAFETY: the CMSG functions walk what the kernel wrote into our control buffer.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..count.min(most) {
                    libc::close(data.add(index).read_unaligned());
                    closed += 1;
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    closed
}

/// sendmsg(2) with descriptors.
fn send_with(socket: RawFd, bytes: &[u8], descriptors: &[RawFd], flags: i32) -> Result<usize, i32> {
    let mut control = [0_u64; 32];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: an all-zero msghdr is valid; the control buffer has room for 16 descriptors and more.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let size = size_of_val(descriptors) as u32;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            std::ptr::copy_nonoverlapping(
                descriptors.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                size as usize,
            );
        }
        let sent = libc::sendmsg(socket, &raw const message, flags);
        usize::try_from(sent).map_err(|_| *libc::__errno_location())
    }
}
