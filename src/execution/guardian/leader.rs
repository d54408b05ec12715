//! A guardian that leads a session of its own on a terminal.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;

use super::handle::{Guardian, Keeper};
use crate::execution::supervisor::Placement;

/// How long a leader whose trees have ended may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The leader of a terminal's session: a guardian of the trees in it alone. Being outside of any sandbox, it lets the shell and
/// what is escalated share the terminal, its foreground and its signals. Its trees have what the host had when it was started.
///
/// It ends with the last of its trees once it is retired or dropped, and with the host.
#[derive(Clone, Debug)]
pub(crate) struct SessionLeader(Arc<Guardian>);

impl SessionLeader {
    /// Starts the leader of a session on `terminal`, which must not be another session's. Blocks for the start of a process.
    ///
    /// # Errors
    /// When no process can be made.
    pub(crate) fn start(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        Guardian::of_terminal(terminal).map(|guardian| Self(Arc::new(guardian)))
    }

    /// The session, which has the number of its leader.
    pub(crate) fn session(&self) -> Pid {
        self.0.pid()
    }

    /// A keeper of a tree in its session.
    ///
    /// # Errors
    /// When it was killed.
    pub(in crate::execution) fn keeper(&self, placement: Placement) -> io::Result<Keeper> {
        self.waiting_keeper(placement)
            .map_or_else(|| Keeper::of(&self.0), Ok)
    }

    /// A keeper of a tree in its session that another tree has left.
    pub(in crate::execution) fn waiting_keeper(&self, placement: Placement) -> Option<Keeper> {
        Keeper::idle_of(&self.0, placement)
    }

    /// Lets it end with its last tree, and completes when it has, or some time later: what can't be ended keeps it.
    pub(crate) async fn retire(self) {
        match tokio::time::timeout(PATIENCE, self.0.retire()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot wait for the leader of a terminal's session"),
            Err(_) => tracing::warn!("the leader of a terminal's session lives on, with what can't be ended"),
        }
    }
}
