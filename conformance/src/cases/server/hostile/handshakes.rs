//! Hostile input on the escalation socket: wrong kinds of descriptors, odd datagrams, floods.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::spec::requirements::Role;
use crate::stage::descriptors::{objects, watched_pipes};
use crate::stage::siege::{Siege, expect_any_answer};
use crate::system::launch::{duplicate, pipe};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.hostile/files-for-streams", files_for_streams),
    case("server.hostile/events-for-streams", events_for_streams),
    case("server.hostile/other-sockets-for-streams", other_sockets_for_streams),
    case("server.hostile/streams-without-a-peer", streams_without_a_peer),
    case("server.hostile/the-escalation-socket-itself", the_escalation_socket_itself),
    case("server.hostile/one-stream-again-and-again", one_stream_again_and_again),
    case("server.hostile/odd-datagrams", odd_datagrams),
    case("server.hostile/flood-of-datagrams", flood_of_datagrams).within_seconds(90),
    case("server.hostile/flood-of-streams", flood_of_streams).within_seconds(90),
    case("server.hostile/at-the-limit-of-files", at_the_limit_of_files).within_seconds(90),
]);

/// Hands each of these over as if it were a stream, several times; after each others are served.
fn hand_over(context: &mut Context, what: &str, wrong: Vec<OwnedFd>) -> Verdict {
    const TIMES: usize = 3;
    let mut siege = Siege::new(context)?;
    for descriptor in &wrong {
        for _ in 0..TIMES {
            siege.stage.session.socket.datagram(&[0], &[descriptor])?;
        }
        siege.others_are_served()?;
    }
    drop(wrong);
    siege.lift(context, what)
}

/// Files that have a path, or could have one.
fn files_for_streams(context: &mut Context) -> Verdict {
    let path = context.write_file("file", b"\x02\x00\x00\x00{}", 0o644)?;
    let only_a_path = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(&path)?;
    let wrong: Vec<OwnedFd> = vec![
        File::open(&path)?.into(),
        File::options().append(true).open(&path)?.into(),
        File::open(context.directory())?.into(),
        File::open("/dev/null")?.into(),
        File::open("/dev/zero")?.into(),
        File::open("/proc/self/status")?.into(),
        only_a_path.into(),
        memfd_create(c"frames", MFdFlags::MFD_CLOEXEC)?,
    ];
    hand_over(context, "handshakes with files", wrong)
}

/// Descriptors that can be polled, but are not sockets.
fn events_for_streams(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let (lone_reader, _) = pipe()?;
    let (_, lone_writer) = pipe()?;
    let wrong: Vec<OwnedFd> = vec![
        reader.into(),
        writer.into(),
        lone_reader.into(),
        lone_writer.into(),
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0,
        EventFd::new()?.into(),
        TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())?.into(),
        Inotify::init(InitFlags::IN_CLOEXEC)?.into(),
    ];
    hand_over(context, "handshakes with pipes and events", wrong)
}

/// Sockets that are not connected streams of the right family.
fn other_sockets_for_streams(context: &mut Context) -> Verdict {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connected = TcpStream::connect(listener.local_addr()?)?;
    let (datagrams, _other_end) = UnixDatagram::pair()?;
    let none = SockFlag::SOCK_CLOEXEC;
    let (packets, _other_packets) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, none)?;
    let wrong: Vec<OwnedFd> = vec![
        datagrams.into(),
        UnixDatagram::unbound()?.into(),
        UnixListener::bind(context.path("listener"))?.into(),
        socket(AddressFamily::Unix, SockType::Stream, none, None)?,
        packets,
        connected.into(),
        listener.into(),
        UdpSocket::bind("127.0.0.1:0")?.into(),
        socket(AddressFamily::Inet, SockType::Stream, none, None)?,
    ];
    hand_over(context, "handshakes with other sockets", wrong)
}

/// Valid streams whose other end is gone, in every possible way.
fn streams_without_a_peer(context: &mut Context) -> Verdict {
    let closed = || Ok::<_, CaseError>(UnixStream::pair()?.0);
    let shut = || {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.shutdown(std::net::Shutdown::Both)?;
        drop(ours);
        Ok::<_, CaseError>(theirs)
    };
    let reset = || {
        let (ours, theirs) = UnixStream::pair()?;
        // What was sent to the peer and never read makes the end a reset.
        std::io::Write::write_all(&mut &theirs, b"unread")?;
        drop(ours);
        Ok::<_, CaseError>(theirs)
    };
    let wrong: Vec<OwnedFd> = vec![closed()?.into(), shut()?.into(), reset()?.into()];
    hand_over(context, "handshakes with streams without a peer", wrong)
}

/// The client's end of the very session, and of another one.
fn the_escalation_socket_itself(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let own = duplicate(siege.stage.session.socket.descriptor())?;
    for _ in 0..5 {
        siege.stage.session.socket.datagram(&[0], &[&own])?;
        siege.others_are_served()?;
    }
    // Several at once, and one with its own descriptor in its queue.
    for _ in 0..5 {
        siege.stage.session.socket.datagram(&[0], &[&own, &own])?;
    }
    siege.others_are_served()?;
    drop(own);
    siege.lift(context, "handshakes with the escalation socket itself")
}

/// One stream is handed over many times: several may read from it, and other streams are not harmed.
fn one_stream_again_and_again(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let (ours, theirs) = UnixStream::pair()?;
    for index in 0..20 {
        siege.stage.session.socket.datagram(&[0], &[&theirs])?;
        if index % 5 == 0 {
            // One of the readers may have ended the stream for all of them.
            let _ = std::io::Write::write_all(&mut &ours, &[7, 0, 0]);
            siege.others_are_served()?;
        }
    }
    drop((ours, theirs));
    siege.lift(context, "one stream in twenty handshakes")
}

/// Empty and huge datagrams, and as many descriptors as the kernel passes at once.
fn odd_datagrams(context: &mut Context) -> Verdict {
    const AT_ONCE: usize = 253;
    let mut siege = Siege::new(context)?;
    let (watch, pipes) = watched_pipes(1)?;
    let many: Vec<OwnedFd> = (0..AT_ONCE)
        .map(|_| duplicate(&pipes[0]))
        .collect::<Result<_, _>>()?;
    drop(pipes);
    let huge = vec![0xff; 65_000];
    for bytes in [&[][..], &[0], &huge] {
        siege.stage.session.socket.datagram(bytes, &[])?;
        siege.others_are_served()?;
        for count in [1, 2, 17, 128, AT_ONCE] {
            siege
                .stage
                .session
                .socket
                .datagram(bytes, &objects(&many[..count]))?;
            siege.others_are_served()?;
        }
    }
    drop(many);
    watch.expect_closed("the server", context.patience())?;
    siege.lift(context, "odd datagrams")
}

/// Twenty thousand datagrams that are not handshakes, with requests of others among them.
fn flood_of_datagrams(context: &mut Context) -> Verdict {
    const DATAGRAMS: usize = 20_000;
    let mut siege = Siege::new(context)?;
    let bytes = [0; 1024];
    for index in 0..DATAGRAMS {
        siege.stage.session.socket.datagram(&bytes, &[])?;
        if index % (DATAGRAMS / 10) == DATAGRAMS / 20 {
            siege.others_are_served()?;
        }
    }
    siege.lift(context, "a flood of datagrams")
}

/// Thousands of streams on which nothing is ever said, each gone before the next hundred.
fn flood_of_streams(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 30;
    const STREAMS: usize = 100;
    let mut siege = Siege::new(context)?;
    for _ in 0..ROUNDS {
        let silent = (0..STREAMS)
            .map(|_| siege.stage.session.socket.open())
            .collect::<Result<Vec<_>, _>>()?;
        drop(silent);
    }
    siege.lift(context, "a flood of silent streams")
}

/// More silent streams than the server can have files: a newcomer is served or refused, and when they are gone all
/// is as before.
fn at_the_limit_of_files(context: &mut Context) -> Verdict {
    const LIMIT: u64 = 256;
    const STREAMS: usize = 320;
    let mut siege = Siege::on(context, |launch| launch.limit(libc::RLIMIT_NOFILE, LIMIT))?;
    let mut silent = Vec::new();
    for index in 0..STREAMS {
        silent.push(siege.stage.session.socket.open()?);
        if index % 80 == 79 {
            let mut newcomer = siege.stage.session.socket.open()?;
            let request = siege.stage.request_for("/bin/true");
            let payload = request.value().to_string();
            // A server that has refused it may have closed the stream already.
            let bytes = crate::peer::wire::frame(payload.as_bytes());
            let _ = newcomer.frames.try_send_bytes(&bytes, &[]);
            expect_any_answer(
                &mut newcomer,
                "a newcomer at the limit of files",
                context.patience(),
            )?;
        }
    }
    drop(silent);
    // Until the server has noticed that they are gone, it may refuse newcomers.
    siege.expect_rest(context, "streams up to the limit of files")?;
    siege.lift(context, "streams up to the limit of files")
}
