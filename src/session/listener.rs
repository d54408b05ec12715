//! Listens on a session's socket: each valid datagram brings a request stream.
//!
//! Every process that inherited the socket can send anything here. An invalid datagram is dropped and affects no other request.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockopt, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::Instrument;

use super::core::SessionCore;
use super::places::{Ledger, Places};
use super::worker;
use crate::execution::open_file_limit;
use crate::stream::ancillary::{Received, receive_with_descriptors};
use crate::watch::watch;

/// The accept loop of a session.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: AsyncFd<OwnedFd>,
    session: Arc<SessionCore>,
    places: Places,
}

impl Listener {
    pub(super) fn new(socket: OwnedFd, session: Arc<SessionCore>, ledger: &Ledger) -> io::Result<Self> {
        let socket = watch(socket, Interest::READABLE)?;
        // The rest of the process needs descriptors too.
        let half = usize::try_from(open_file_limit()? / 2).unwrap_or(usize::MAX);
        let idle = session.settings.limits.idle_streams.min(half / 2);
        let places = Places::new(ledger, session.id, half, idle);
        Ok(Self {
            socket,
            session,
            places,
        })
    }

    /// Serves until the session ends; then the socket closes, and with it every stream still queued in it.
    pub(super) async fn run(self) {
        if let Ok(error) = self.session.until_ended(self.accept()).await {
            tracing::error!(%error, "cannot wait for the session's socket; the session accepts no more requests");
        }
    }

    async fn accept(&self) -> io::Error {
        static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);
        loop {
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(error) => return error,
            };
            // The content doesn't matter (`wire.handshake`).
            let datagram = match receive_with_descriptors(self.socket.as_fd(), &mut [0; 1]) {
                Ok(datagram) => datagram,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::warn!(%error, "receiving a handshake failed");
                    }
                    ready.clear_ready();
                    continue;
                }
            };
            let stream = match stream_of(datagram) {
                Ok(stream) => stream,
                Err(reason) => {
                    tracing::warn!(reason, "handshake dropped");
                    continue;
                }
            };
            if self.places.is_full() {
                // Let the requests that are already queued be read before evicting an idle stream.
                tokio::task::yield_now().await;
            }
            let request = NEXT_REQUEST.fetch_add(1, Ordering::Relaxed);
            let peer = getsockopt(&stream, sockopt::PeerCredentials)
                .ok()
                .map(|credentials| credentials.pid());
            let span = tracing::info_span!(parent: &self.session.span, "request", number = request, peer);
            let session = Arc::clone(&self.session);
            let worker = worker::serve(session, stream, request, peer, self.places.enter());
            self.session.tasks.spawn(worker.instrument(span));
        }
    }
}

/// The request stream that a datagram brings (`wire.handshake`), or why it is none. All other descriptors are closed.
fn stream_of(datagram: Received) -> Result<OwnedFd, &'static str> {
    if datagram.truncated {
        return Err("it has more descriptors than one, or this process has too many open");
    }
    let [stream] =
        <[OwnedFd; 1]>::try_from(datagram.descriptors).map_err(|_| "expected exactly one descriptor")?;
    connected_unix_stream(&stream)?;
    Ok(stream)
}

/// Checks that a descriptor is a connected AF_UNIX stream, without touching any file system.
fn connected_unix_stream(descriptor: &OwnedFd) -> Result<(), &'static str> {
    match getsockopt(descriptor, sockopt::SockType) {
        Ok(SockType::Stream) => {}
        Ok(_) => return Err("the descriptor is a socket, but not a stream socket"),
        Err(Errno::ENOTSOCK) => return Err("the descriptor is not a socket"),
        Err(_) => return Err("the kind of the descriptor cannot be determined"),
    }
    // Fails for addresses of other families.
    match getpeername::<UnixAddr>(descriptor.as_raw_fd()) {
        Ok(_) => Ok(()),
        Err(Errno::ENOTCONN) => Err("the socket is not connected"),
        Err(_) => Err("the socket is not an AF_UNIX socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod fuzz;

    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    #[test]
    fn only_a_connected_unix_stream_is_a_request_stream() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        assert_eq!(connected_unix_stream(&stream.into()), Ok(()));

        let folder = tempfile::tempdir().unwrap();
        let tcp_listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(tcp_listener.local_addr().unwrap()).unwrap();
        let (pipe, _writer) = nix::unistd::pipe().unwrap();
        let (datagram, _other) = UnixDatagram::pair().unwrap();
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty()).unwrap();
        let wrong: Vec<(&str, OwnedFd)> = vec![
            ("file", File::open("/etc/passwd").unwrap().into()),
            ("directory", File::open("/").unwrap().into()),
            ("device", File::open("/dev/null").unwrap().into()),
            ("pipe", pipe),
            ("epoll", epoll.0),
            ("datagram", datagram.into()),
            (
                "listener",
                UnixListener::bind(folder.path().join("s")).unwrap().into(),
            ),
            ("TCP listener", tcp_listener.into()),
            ("TCP", tcp.into()),
            (
                "unconnected",
                nix::sys::socket::socket(
                    nix::sys::socket::AddressFamily::Unix,
                    SockType::Stream,
                    nix::sys::socket::SockFlag::empty(),
                    None,
                )
                .unwrap(),
            ),
        ];
        for (kind, descriptor) in wrong {
            assert!(connected_unix_stream(&descriptor).is_err(), "accepted: {kind}");
        }
    }
}
