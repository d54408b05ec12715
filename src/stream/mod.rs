//! The request stream: frames in both directions, one of them with descriptors.

pub(crate) mod ancillary;
mod budget;
mod frame;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::watch::watch_shared;
pub(crate) use budget::{Budget, Pool, Share};
use frame::FrameReader;
pub(crate) use frame::{Frame, StreamError};

/// The server's end of one wrapper's stream. The runtime watches it from the first time on that it has to be waited for, which a
/// request that is there already, and is answered at once, never does.
///
/// Does not rely on O_NONBLOCK: the sender of the descriptor may hold a copy and change its flags.
#[derive(Debug)]
pub(crate) struct RequestStream {
    socket: Socket,
    reader: FrameReader,
}

#[derive(Debug)]
struct Socket {
    descriptor: Arc<OwnedFd>,
    watched: OnceLock<AsyncFd<Arc<OwnedFd>>>,
}

impl Socket {
    /// As the runtime watches it; what has happened before counts.
    ///
    /// # Errors
    /// When the runtime cannot register the descriptor.
    fn watched(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        let watched = watch_shared(Arc::clone(&self.descriptor), interest)?;
        Ok(self.watched.get_or_init(|| watched))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl RequestStream {
    /// Takes the stream; `limit` is the longest payload in bytes, `budget` the memory for all streams of the session.
    pub(crate) fn new(socket: OwnedFd, limit: usize, budget: &Budget) -> Self {
        Self {
            socket: Socket {
                descriptor: Arc::new(socket),
                watched: OnceLock::new(),
            },
            reader: FrameReader::new(limit, budget.share()),
        }
    }

    /// The next frame, of a kind without descriptors; `None` at the end of the stream. Descriptors that arrive
    /// all the same are never installed (`wire.fds.unexpected`). Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            // Read first: the data may have arrived before this waited for it.
            match self.reader.advance(self.socket.as_fd()) {
                Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let mut ready = self.socket.watched()?.readable().await?;
            match self.reader.advance(self.socket.as_fd()) {
                Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                result => return result,
            }
        }
    }

    /// Takes the descriptors of the next frame, which come with its first byte; [`Self::receive`] then reads the rest. Their
    /// number; `None` at the end of the stream. Cancel safe.
    pub(crate) async fn descriptors(&mut self) -> Result<Option<usize>, StreamError> {
        loop {
            // Read first: the data may have arrived before this waited for it.
            match self.reader.advance_header(self.socket.as_fd(), true) {
                Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let mut ready = self.socket.watched()?.readable().await?;
            match self.reader.advance_header(self.socket.as_fd(), true) {
                Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                result => return result,
            }
        }
    }

    /// Sends one message as one frame.
    pub(crate) async fn send<T: Serialize>(&self, message: &T) -> Result<(), StreamError> {
        let payload = serde_json::to_vec(message).map_err(io::Error::from)?;
        let length = u32::try_from(payload.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "message over 4 GiB"))?;
        let frame = [&length.to_le_bytes()[..], &payload].concat();
        let mut rest = &frame[..];
        loop {
            // Send first: mostly there is room.
            self.send_what_fits(&mut rest)?;
            if rest.is_empty() {
                return Ok(());
            }
            let mut ready = self.socket.watched()?.writable().await?;
            let before = rest.len();
            self.send_what_fits(&mut rest)?;
            if rest.len() == before {
                ready.clear_ready();
            }
        }
    }

    fn send_what_fits(&self, rest: &mut &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), rest, flags) {
                Ok(sent) => *rest = &rest[sent..],
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes nothing more, and discards unread data. To the peer, a stream that is closed with unread data looks reset instead
    /// of ended.
    pub(crate) fn drain(&self) {
        // From here on the peer's writes fail, so that none comes after the last read. An error says that it is gone.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Read);
        let mut nowhere = [0; 4096];
        // A peer that sends more than this isn't waiting for the end.
        for _ in 0..16 {
            if !matches!(ancillary::receive(self.socket.as_fd(), &mut nowhere), Ok(1..)) {
                return;
            }
        }
    }

    /// Completes when the peer has closed its end or shut it down for writing, even behind unread data.
    pub(crate) async fn closed(&self) {
        loop {
            let Ok(watched) = self.socket.watched() else {
                return;
            };
            match watched.ready(Interest::READABLE).await {
                Ok(ready) if ready.ready().is_read_closed() => return,
                // Data, or a spurious wake-up. The reader reads before it waits, so nothing is lost.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }
}

impl AsFd for RequestStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::budget::tests::alone;
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn pair(limit: usize) -> (UnixStream, RequestStream) {
        let (client, server) = UnixStream::pair().unwrap();
        (client, RequestStream::new(server.into(), limit, &alone(1 << 20)))
    }

    #[tokio::test]
    async fn closing_is_noticed_behind_unread_data() {
        let (mut client, stream) = pair(100);
        client.write_all(b"unread").unwrap();
        let closed = stream.closed();
        tokio::pin!(closed);
        tokio::select! {
            biased;
            () = &mut closed => panic!("closed before it was"),
            () = tokio::task::yield_now() => {}
        }
        drop(client);
        closed.await;
    }

    #[tokio::test]
    async fn what_is_there_already_is_read_and_answered_without_being_watched() {
        let (mut client, mut stream) = pair(100);
        client.write_all(b"\x02\0\0\0hi").unwrap();
        assert_eq!(stream.receive().await.unwrap().unwrap().payload, b"hi");
        stream.send(&1).await.unwrap();
        assert!(stream.socket.watched.get().is_none());
        drop(client);
        stream.closed().await;
        assert!(stream.socket.watched.get().is_some());
    }

    #[tokio::test]
    async fn a_drained_stream_ends_and_is_not_reset() {
        let (mut client, stream) = pair(100);
        client.write_all(&[0; 10_000]).unwrap();
        stream.drain();
        drop(stream);
        assert_eq!(std::io::Read::read(&mut client, &mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cancelled_receive_loses_no_byte() {
        let (mut client, mut stream) = pair(100);
        for part in [&b"\x02"[..], b"\0\0", b"\0h", b"i"] {
            client.write_all(part).unwrap();
            if part == b"i" {
                break;
            }
            tokio::select! {
                biased;
                frame = stream.receive() => panic!("a frame too early: {frame:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(stream.receive().await.unwrap().unwrap().payload, b"hi");
    }

    #[tokio::test]
    async fn what_was_sent_is_one_frame() {
        let (client, stream) = pair(100);
        let mut peer = RequestStream::new(client.into(), 100, &alone(1 << 20));
        stream.send(&serde_json::json!({"exit_code": 3})).await.unwrap();
        drop(stream);
        assert_eq!(
            peer.receive().await.unwrap().unwrap().payload,
            br#"{"exit_code":3}"#
        );
        assert!(peer.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn sending_to_a_closed_peer_is_an_error_without_a_signal() {
        let (client, stream) = pair(100);
        drop(client);
        assert!(stream.send(&1).await.is_err());
    }
}
