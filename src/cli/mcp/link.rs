//! The connection to the client: who is asked for approval, and when it is gone.

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rmcp::{Peer, RoleServer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// The client, once it has introduced itself.
#[derive(Debug, Default)]
pub(super) struct Link {
    client: OnceLock<Peer<RoleServer>>,
    /// How many questions it is being asked, or waits to be asked.
    pub(super) questions: Questions,
}

impl Link {
    /// The client as a request of it names it; always the same one.
    pub(super) fn introduce(&self, client: &Peer<RoleServer>) {
        self.client.get_or_init(|| client.clone());
    }

    pub(super) fn client(&self) -> Option<&Peer<RoleServer>> {
        self.client.get()
    }
}

/// Counts the questions that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Questions(AtomicUsize);

/// One question, while this lives.
pub(super) struct Waiting<'a>(&'a Questions);

impl Questions {
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The client's messages. Their end ends everything: the protocol's own loop would first wait for the commands that run.
pub(super) struct Input<R> {
    inner: R,
    ending: CancellationToken,
}

impl<R> Input<R> {
    pub(super) fn new(inner: R, ending: CancellationToken) -> Self {
        Self { inner, ending }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let ended = match &polled {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => buffer.filled().len() == before,
            Poll::Ready(Err(_)) => true,
        };
        if ended {
            self.ending.cancel();
        }
        polled
    }
}

/// The server's messages. When the client can't be written to, all ends, as at the end of its own.
pub(super) struct Output<W> {
    inner: W,
    /// Cancelled when the client reads no more.
    unread: CancellationToken,
}

impl<W> Output<W> {
    pub(super) fn new(inner: W, unread: CancellationToken) -> Self {
        Self { inner, unread }
    }

    fn seen<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &polled {
            self.unread.cancel();
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Output<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.seen(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.seen(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
