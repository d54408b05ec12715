//! The server: what its sessions share, the sessions, and the processes that it has started.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::handshake;
use crate::keeper::Nursery;
use crate::policy::Policy;
use crate::session::Session;
use crate::spawn::Process;
use crate::terminals::Terminals;

/// The server with everything that it knows.
pub struct Server {
    /// What decides about requests.
    pub policy: Arc<Policy>,
    /// Where escalated trees come from.
    pub nursery: Arc<Nursery>,
    /// The sessions that are open, by name.
    pub sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// The processes that were started, by session and process id.
    pub processes: Mutex<HashMap<(String, i64), Arc<Process>>>,
    /// The terminals that are there.
    pub terminals: Terminals,
}

impl Server {
    /// A server without sessions.
    pub fn new(nursery: Nursery) -> Server {
        Server {
            policy: Arc::default(),
            nursery: Arc::new(nursery),
            sessions: Mutex::default(),
            processes: Mutex::default(),
            terminals: Terminals::default(),
        }
    }

    /// Opens a session.
    pub fn open(&self, name: &str, wrapper: &str, one_shot: bool) -> io::Result<Arc<Session>> {
        handshake::open(&self.policy, &self.nursery, name, wrapper, one_shot)
    }
}
