//! The escalation socket, and the datagram by which a new stream's other end is handed over.

use std::os::fd::RawFd;

use crate::descriptors::send_with;
use crate::faults::{Fault, Variant, broken, unusual};
use crate::refusal::fail_closed;
use crate::signals::{block, unblock};

/// SIGHUP, SIGINT and SIGTERM, bit N-1 for signal N.
const ENDING: u64 = 1 << (libc::SIGHUP - 1) | 1 << (libc::SIGINT - 1) | 1 << (libc::SIGTERM - 1);

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
    } else if broken(Fault::EmptyVariableIs0) && text.is_empty() {
        Some(0)
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

/// A new stream: the wrapper's end, and the other one where the wrapper is broken by keeping it.
pub struct Ends {
    /// The wrapper's end.
    pub ours: RawFd,
    /// The server's end.
    pub kept: Option<RawFd>,
}

/// Makes a pair and sends its other end.
pub fn connect(escalation: RawFd) -> Ends {
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
    if broken(Fault::SignalsHeldByAFullSocket) {
        block(ENDING);
    }
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
            Err(libc::ETOOMANYREFS) if broken(Fault::TooManyReferencesFail) => {
                fail_closed("the handshake cannot be sent")
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
    if broken(Fault::SignalsHeldByAFullSocket) {
        unblock(ENDING);
    }
    set_flags(flags);
    let kept = if broken(Fault::OtherEndKept) {
        Some(pair[1])
    } else {
        // SAFETY: a descriptor of ours.
        unsafe { libc::close(pair[1]) };
        None
    };
    Ends { ours: pair[0], kept }
}
