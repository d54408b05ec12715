//! The state that all tasks of a session share, and the session's end.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::AuditLog;
use crate::clock::Stopwatch;
use crate::execution::{ENDING_TIME, SessionLeader, SharedExecutor, Survivor, Tree};
use crate::files::Looks;
use crate::limits::Limits;
use crate::policy::SharedPolicy;
use crate::stream::Budget;

/// How many requests of a session are decoded at a time: their memory is reserved by what they could need.
pub(super) const DECODING: usize = 2;

/// What all sessions of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub policy: SharedPolicy,
    pub executor: SharedExecutor,
    pub limits: Limits,
    pub audit: Option<Arc<AuditLog>>,
    /// Escalated children may join this process's own group.
    pub shares_group: bool,
}

/// What the tasks of a session share.
#[derive(Debug)]
pub(crate) struct SessionCore {
    pub id: u64,
    /// The parent of everything that is logged about the session.
    pub span: tracing::Span,
    pub settings: Arc<Settings>,
    /// Cancelled when the session is to end, for any reason.
    pub ended: CancellationToken,
    /// The tasks that still work for the session.
    pub tasks: TaskTracker,
    /// One permit for each request between its first message and its end.
    pub open_requests: Arc<Semaphore>,
    /// One permit for each child that has ended and left processes running.
    pub left_running: Semaphore,
    /// Memory that open requests may use.
    pub memory: Budget,
    /// One permit for each request that is being decoded.
    pub decoding: Arc<Semaphore>,
    /// Where files are looked at that may have to be waited for.
    pub looks: Looks,
    pub survivors: Mutex<Vec<Survivor>>,
    /// Who leads the session of the shell's terminal, if the host has started that there: escalated commands run there, too.
    pub leader: OnceLock<SessionLeader>,
    /// The clock of a one-shot command's timeout.
    pub clock: Arc<Stopwatch>,
}

/// The session ended before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub(super) struct SessionEnded;

impl SessionCore {
    /// Ends a tree, and notes what could not be ended.
    pub(super) async fn end(&self, tree: Tree) {
        let left = tree.end().await;
        self.survivors().extend(left);
    }

    /// Processes of the session that could not be ended.
    pub(super) fn survivors(&self) -> MutexGuard<'_, Vec<Survivor>> {
        self.survivors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the session should have ended some time ago.
    pub(super) async fn overdue(&self) {
        self.ended.cancelled().await;
        tokio::time::sleep(ENDING_TIME).await;
    }

    /// The future's output, unless the session ends first; if both are ready, the end wins. At the end the future is dropped.
    pub(super) async fn until_ended<T>(&self, future: impl Future<Output = T>) -> Result<T, SessionEnded> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(SessionEnded),
            output = future => Ok(output),
        }
    }
}
