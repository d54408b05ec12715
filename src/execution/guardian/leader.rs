//! A guardian that leads a session of its own on a terminal.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::unistd::Pid;

use super::handle::{Guardian, Keeper};

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
    pub(in crate::execution) fn keeper(&self) -> io::Result<Keeper> {
        Keeper::of(Arc::clone(&self.0))
    }

    /// Lets it end with its last tree, and completes when it has.
    pub(crate) async fn retire(self) {
        if let Err(error) = self.0.retire().await {
            tracing::warn!(%error, "cannot wait for the leader of a terminal's session");
        }
    }
}
