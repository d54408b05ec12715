//! The server's end of an escalation socket: one datagram, one descriptor, one worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockopt, sockopt};

use crate::events;
use crate::faults::chat;
use crate::session::Session;
use crate::stream;
use crate::worker;

/// Serves handshakes until the session ends.
pub fn listen(session: &Arc<Session>, socket: UnixDatagram) {
    if let Err(error) = accept_all(session, &socket) {
        eprintln!("faulty-shim: session {}: {error}", session.name);
    }
}

fn accept_all(session: &Arc<Session>, socket: &UnixDatagram) -> io::Result<()> {
    loop {
        let flags = PollFlags::POLLIN;
        events::wait([(session.bell.as_fd(), flags), (socket.as_fd(), flags)], None)?;
        if session.is_closed() {
            return Ok(());
        }
        let mut held = Vec::new();
        match stream::receive(socket, &mut [0; 16], &mut held) {
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(error) => return Err(error.into()),
            Ok(received) if received.truncated => continue,
            Ok(_) => {}
        }
        // One that goes wrong is no reason to serve no other.
        if let Err(why) = admit(session, held) {
            chat(format_args!("a handshake is dropped: {why}"));
        }
    }
}

fn admit(session: &Arc<Session>, mut held: Vec<OwnedFd>) -> io::Result<()> {
    let (Some(descriptor), true) = (held.pop(), held.is_empty()) else {
        return Err(io::Error::other("not one descriptor"));
    };
    // A connected stream of this family, and nothing else: what would block or cannot be waited for stays out.
    if getsockopt(&descriptor, sockopt::SockType)? != SockType::Stream {
        return Err(io::Error::other("not a stream"));
    }
    getpeername::<UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&descriptor))?;
    let stream = UnixStream::from(descriptor);
    stream.set_nonblocking(false)?;
    let Some(ticket) = session.admit(stream)? else {
        return Ok(());
    };
    let spawned = std::thread::Builder::new().spawn({
        let (session, ticket) = (session.clone(), ticket.clone());
        move || worker::serve(&session, &ticket)
    });
    if spawned.is_err() {
        session.forget(&ticket);
    }
    spawned.map(drop)
}
