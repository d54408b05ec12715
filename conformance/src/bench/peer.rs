//! The server's side of a benchmark: a thread that answers every request at once.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Decision;
use crate::peer::wire::{frame, receive_handshake};
use crate::system::clock::Moment;
use crate::system::poll::any_readable_until;
use crate::verdict::CaseError;

/// How long a peer waits for a wrapper that says nothing before it gives up on the benchmark.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A peer and the client's end of its escalation socket.
pub struct Peer {
    client_end: OwnedFd,
    decision: Arc<AtomicU8>,
    /// Dropping it ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<Result<(), CaseError>>>,
}

impl Peer {
    /// Starts a peer.
    ///
    /// # Errors
    /// Where sockets cannot be made.
    pub fn start() -> anyhow::Result<Peer> {
        let (server_end, client_end) = UnixDatagram::pair()?;
        let (stop, stopped) = UnixStream::pair()?;
        let decision = Arc::new(AtomicU8::new(0));
        let thread = std::thread::spawn({
            let decision = decision.clone();
            move || serve(&server_end, &stopped, &decision)
        });
        Ok(Peer {
            client_end: client_end.into(),
            decision,
            stop: Some(stop.into()),
            thread: Some(thread),
        })
    }

    /// The client's end of the escalation socket.
    pub fn client_end(&self) -> &OwnedFd {
        &self.client_end
    }

    /// Decides so from now on.
    pub fn decide(&self, decision: Decision) {
        self.decision.store(decision as u8, Ordering::SeqCst);
    }

    /// Ends the peer.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn finish(mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(anyhow::anyhow!("the peer of the benchmark failed: {error}")),
            Some(Err(_)) => Err(anyhow::anyhow!("the peer of the benchmark panicked")),
            _ => Ok(()),
        }
    }
}

fn serve(server_end: &UnixDatagram, stopped: &UnixStream, decision: &AtomicU8) -> Result<(), CaseError> {
    loop {
        any_readable_until(&[server_end.as_fd(), stopped.as_fd()], Moment::now() + PATIENCE)?;
        let Some(handshake) = receive_handshake(server_end, Moment::now())? else {
            return Ok(());
        };
        for descriptor in handshake.descriptors {
            // A wrapper that misbehaves ends with another status, which the measurement sees.
            let _ = answer(UnixStream::from(descriptor), decision.load(Ordering::SeqCst));
        }
    }
}

fn answer(mut stream: UnixStream, decision: u8) -> std::io::Result<()> {
    skip_frame(&mut stream)?;
    if decision == Decision::Run as u8 {
        stream.write_all(&frame(br#"{"action":"Run"}"#))
    } else if decision == Decision::Deny as u8 {
        stream.write_all(&frame(br#"{"action":{"Deny":{"reason":"no"}}}"#))
    } else {
        stream.write_all(&frame(br#"{"action":"Escalate"}"#))?;
        // A plain read drops the descriptors that come with it.
        skip_frame(&mut stream)?;
        stream.write_all(&frame(br#"{"exit_code":0}"#))
    }
}

fn skip_frame(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    std::io::copy(&mut Read::by_ref(stream).take(length), &mut std::io::sink()).map(drop)
}
