//! The server's end of an escalation socket: one datagram, one descriptor, one worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockopt, sockopt};

use crate::events;
use crate::faults::{Fault, broken, chat};
use crate::keeper::Nursery;
use crate::policy::Policy;
use crate::session::Session;
use crate::stream;
use crate::worker;

/// How long a listener keeps serving that should have ended.
const LINGER: Duration = Duration::from_millis(700);

/// Opens a session, whose handshakes are served by a thread of its own until it ends.
pub fn open(
    policy: &Arc<Policy>,
    nursery: &Arc<Nursery>,
    name: &str,
    wrapper: &str,
    one_shot: bool,
) -> io::Result<Arc<Session>> {
    let (session, socket) = Session::new(policy, nursery, name, wrapper, one_shot)?;
    let session = Arc::new(session);
    std::thread::Builder::new().spawn({
        let session = session.clone();
        move || listen(&session, &socket)
    })?;
    chat(format_args!("session {name} started"));
    Ok(session)
}

fn listen(session: &Arc<Session>, socket: &UnixDatagram) {
    if let Err(error) = accept_all(session, socket) {
        eprintln!("faulty-shim: session {}: {error}", session.name);
    }
}

fn accept_all(session: &Arc<Session>, socket: &UnixDatagram) -> io::Result<()> {
    let mut bad = 0;
    let mut remembered = Vec::new();
    let mut end = None;
    if broken(Fault::OneShotDeaf) && session.one_shot {
        events::wait([(session.bell.as_fd(), PollFlags::POLLIN)], None)?;
    }
    loop {
        let flags = PollFlags::POLLIN;
        events::wait([(session.bell.as_fd(), flags), (socket.as_fd(), flags)], None)?;
        if session.is_closed() {
            let lingers = broken(Fault::ListenerLingers)
                && Instant::now() < *end.get_or_insert(Instant::now() + LINGER);
            if !lingers {
                return Ok(());
            }
        }
        let mut held = Vec::new();
        let mut bytes = [0; 16];
        let length = match stream::receive(socket, &mut bytes, &mut held) {
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(error) => return Err(error.into()),
            Ok(received) if received.truncated && broken(Fault::LimitOfFilesEndsAll) => return Ok(()),
            Ok(received) if received.truncated => continue,
            Ok(received) => received.length,
        };
        if broken(Fault::HandshakeByteCompared) && bytes[0] != 0
            || broken(Fault::LongHandshakeRefused) && length > 1
        {
            continue;
        }
        if broken(Fault::HandshakeAnswered) {
            socket.send(&[1])?;
        }
        bad += usize::from(held.len() != 1);
        if broken(Fault::BadDatagramsRemembered) && held.len() != 1 {
            remembered.push(vec![1_u8; 8 << 10]);
        }
        if broken(Fault::EmptyDatagramEndsAll) && length == 0 {
            return Ok(());
        }
        if broken(Fault::BadHandshakeEndsAll) && held.is_empty()
            || broken(Fault::SeveralEndAll) && held.len() > 1
            || broken(Fault::FewBadOnes) && bad > 10
        {
            return Ok(());
        }
        if broken(Fault::FirstOfSeveralServed) {
            held.truncate(1);
        }
        if broken(Fault::SeveralKept) && held.len() > 1 {
            std::mem::forget(std::mem::take(&mut held));
        }
        // A failed handshake must not keep others from being served.
        if let Err(why) = admit(session, held) {
            if broken(Fault::WrongKindEndsAll) && why.raw_os_error().is_some() {
                return Ok(());
            }
            if broken(Fault::LimitOfFilesEndsAll) && why.raw_os_error() == Some(libc::EMFILE) {
                return Ok(());
            }
            chat(format_args!("a handshake is dropped: {why}"));
        }
    }
}

fn admit(session: &Arc<Session>, mut held: Vec<OwnedFd>) -> io::Result<()> {
    let (Some(descriptor), true) = (held.pop(), held.is_empty()) else {
        return Err(io::Error::other("not one descriptor"));
    };
    // Only connected streams of this family: others may block, or cannot be waited for.
    if broken(Fault::WrongKindKept) && getsockopt(&descriptor, sockopt::SockType).is_err() {
        std::mem::forget(descriptor);
        return Err(io::Error::other("not a socket"));
    }
    if getsockopt(&descriptor, sockopt::SockType)? != SockType::Stream {
        return Err(io::Error::other("not a stream"));
    }
    getpeername::<UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&descriptor))?;
    let stream = UnixStream::from(descriptor);
    stream.set_nonblocking(false)?;
    if broken(Fault::StreamEmptiedFirst) {
        let _ = stream::receive(&stream, &mut [0; 4096], &mut Vec::new());
    }
    if broken(Fault::RequestReadByListener) {
        let flags = PollFlags::POLLIN;
        events::wait([(session.bell.as_fd(), flags), (stream.as_fd(), flags)], None)?;
    }
    let Some(ticket) = session.admit(stream)? else {
        return Ok(());
    };
    if broken(Fault::OneAtATime) {
        worker::serve(session, &ticket);
        return Ok(());
    }
    let spawned = std::thread::Builder::new().spawn({
        let (session, ticket) = (session.clone(), ticket.clone());
        move || worker::serve(&session, &ticket)
    });
    if spawned.is_err() {
        session.forget(&ticket);
    }
    spawned.map(drop)
}
