//! What belongs to a process that a backend has prepared.

use std::os::fd::{AsFd, BorrowedFd};

use crate::execution::{ClientSocket, SessionLeader, Survivor};
use crate::session::EscalationSession;

/// What has to live as long as a prepared process, and what has to be done when it has been started. Whatever starts the
/// process need not know what that is. Dropping it ends what belongs to the process.
#[derive(Debug, Default)]
#[must_use = "dropping it ends what belongs to the process"]
pub struct SpawnLifecycle {
    session: Option<EscalationSession>,
    socket: Option<ClientSocket>,
}

impl SpawnLifecycle {
    /// Of a process to which nothing belongs.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// Of a session's shell.
    pub(super) fn of_session(session: EscalationSession) -> Self {
        Self {
            socket: session.take_client_socket(),
            session: Some(session),
        }
    }

    /// The descriptors that the process must inherit, each under the number that it has here. They are close-on-exec here and
    /// must stay so: no other process may get them.
    #[must_use]
    pub fn inherited_descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.socket.iter().map(AsFd::as_fd).collect()
    }

    /// To be called before the process is started in the session of a terminal of its own.
    pub(super) fn on_terminal(&self, leader: &SessionLeader) {
        if let Some(session) = &self.session {
            session.escalate_in(leader);
        }
    }

    /// To be called directly after the process has been started, or could not be: closes this process's copies of the
    /// descriptors.
    pub fn after_spawn(&mut self) {
        self.socket = None;
    }

    /// Ends what belongs to the process, and waits until nothing is left, for about three seconds at most. Returns the processes
    /// that could not be ended.
    pub async fn end(mut self) -> Vec<Survivor> {
        match self.session.take() {
            Some(session) => session.close().await,
            None => Vec::new(),
        }
    }
}
