//! A session: the escalation socket, the requests that are open, and their common end.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::events::Bell;
use crate::faults::{Variant, chat, unusual};
use crate::handshake;
use crate::methods::Server;

/// A session.
pub struct Session {
    /// The suite's name for it.
    pub name: String,
    /// The server that it belongs to.
    pub server: Arc<Server>,
    /// Rung when the session ends.
    pub bell: Bell,
    overlay: Vec<(String, String)>,
    client: Mutex<Option<OwnedFd>>,
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    closed: bool,
    open: HashMap<u64, Arc<Ticket>>,
}

/// One request from outside of its worker: where its end and its decision come from.
pub struct Ticket {
    number: u64,
    /// The request stream.
    pub stream: Arc<UnixStream>,
    /// Rung when there is an answer or the end.
    pub bell: Bell,
    cancelled: AtomicBool,
    /// The policy's answer, when it is there.
    pub answer: Mutex<Option<Answer>>,
}

/// What a policy answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Run where it is.
    Run,
    /// Run outside.
    Escalate,
    /// Do not run.
    Deny(Option<String>),
    /// The policy failed.
    Failed(String),
}

impl Ticket {
    /// Whether the session has ended.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        // Wakes a worker that writes, and tells the wrapper at once.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.bell.ring();
    }
}

impl Session {
    /// Opens the escalation socket and listens on it.
    pub fn start(server: &Arc<Server>, name: &str, wrapper: &str) -> io::Result<Arc<Session>> {
        let (ours, theirs) = UnixDatagram::pair()?;
        let number = theirs.as_raw_fd().to_string();
        let mut overlay = vec![
            ("CODEX_ESCALATE_SOCKET".to_owned(), number),
            ("EXEC_WRAPPER".to_owned(), wrapper.to_owned()),
        ];
        if unusual(Variant::OlderName) {
            overlay.push(("BASH_EXEC_WRAPPER".to_owned(), wrapper.to_owned()));
        }
        let session = Arc::new(Session {
            name: name.to_owned(),
            server: server.clone(),
            bell: Bell::new()?,
            overlay,
            client: Mutex::new(Some(OwnedFd::from(theirs))),
            state: Mutex::default(),
            next: AtomicU64::new(1),
        });
        std::thread::Builder::new().spawn({
            let session = session.clone();
            move || handshake::listen(&session, ours)
        })?;
        chat(format_args!("session {name} started"));
        Ok(session)
    }

    /// The variables for the shell.
    pub fn overlay(&self) -> &[(String, String)] {
        &self.overlay
    }

    /// The client's end, for the one process that may have it.
    pub fn take_client(&self) -> Option<OwnedFd> {
        lock(&self.client).take()
    }

    /// Registers a request; none where the session has ended.
    pub fn admit(&self, stream: UnixStream) -> io::Result<Option<Arc<Ticket>>> {
        let ticket = Arc::new(Ticket {
            number: self.next.fetch_add(1, Ordering::SeqCst),
            stream: Arc::new(stream),
            bell: Bell::new()?,
            cancelled: AtomicBool::new(false),
            answer: Mutex::default(),
        });
        let mut state = lock(&self.state);
        if state.closed {
            return Ok(None);
        }
        state.open.insert(ticket.number, ticket.clone());
        Ok(Some(ticket))
    }

    /// A request is over.
    pub fn forget(&self, ticket: &Ticket) {
        lock(&self.state).open.remove(&ticket.number);
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Ends the session: the listener, the pending requests, the escalated trees.
    pub fn close(&self) {
        let open = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.open)
        };
        drop(self.take_client());
        self.bell.ring();
        for ticket in open.values() {
            ticket.cancel();
        }
        chat(format_args!(
            "session {} ended with {} requests open",
            self.name,
            open.len()
        ));
    }
}

/// A lock that a panic elsewhere does not take away.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
