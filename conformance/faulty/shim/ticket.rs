//! What other threads know of a request.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

use crate::events::Bell;
use crate::faults::{Fault, Variant, broken, unusual};

/// One request as threads other than its worker see it: they deliver its decision and its end.
pub struct Ticket {
    number: u64,
    /// The name of its session.
    pub session: String,
    /// The request stream.
    pub stream: Arc<UnixStream>,
    /// Rung when the answer or the end has come.
    pub bell: Bell,
    cancelled: AtomicBool,
    /// Whether a child runs for it.
    pub has_child: AtomicBool,
    /// Whether its worker waits for a frame.
    pub is_reading: AtomicBool,
    /// The policy's answer, once it has arrived.
    pub answer: Mutex<Option<Answer>>,
}

/// What a policy answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Run in the sandbox.
    Run,
    /// Run outside of the sandbox.
    Escalate,
    /// Do not run.
    Deny(Option<String>),
    /// The approver decides.
    Ask(Option<String>),
    /// The policy failed.
    Failed(String),
}

impl Ticket {
    /// The ticket of a new request.
    pub fn new(number: u64, session: &str, stream: UnixStream) -> io::Result<Ticket> {
        if unusual(Variant::NonBlockingStreams) {
            stream.set_nonblocking(true)?;
            // The kernel makes the least of it that there is: long messages are taken in pieces.
            setsockopt(&stream, SndBuf, &1)?;
        }
        Ok(Ticket {
            number,
            session: session.to_owned(),
            stream: Arc::new(stream),
            bell: Bell::new()?,
            cancelled: AtomicBool::new(false),
            has_child: AtomicBool::new(false),
            is_reading: AtomicBool::new(false),
            answer: Mutex::default(),
        })
    }

    /// Its number in its session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the session has ended.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Ends the request.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        // Wakes a worker that writes, and tells the wrapper at once.
        let tells_first = unusual(Variant::KilledToldFirst) && self.has_child.load(Ordering::SeqCst);
        if !broken(Fault::CancellingWaitsForTheTraced) && !tells_first {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        self.bell.ring();
    }
}
