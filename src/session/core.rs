//! What belongs to a session as a whole.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::AuditLog;
use crate::clock::Stopwatch;
use crate::execution::SharedExecutor;
use crate::limits::Limits;
use crate::policy::SharedPolicy;
use crate::stream::Budget;

/// What all sessions of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub policy: SharedPolicy,
    pub executor: SharedExecutor,
    pub limits: Limits,
    pub audit: Option<Arc<AuditLog>>,
}

/// What the tasks of a session share.
#[derive(Debug)]
pub(crate) struct SessionCore {
    pub id: u64,
    /// Everything that is logged about the session is within.
    pub span: tracing::Span,
    pub settings: Arc<Settings>,
    /// Cancelled when the session is to end, for whatever reason.
    pub ended: CancellationToken,
    /// Counts the tasks that still work for the session.
    pub tasks: TaskTracker,
    /// One permit for each request between its first message and its end.
    pub open_requests: Arc<Semaphore>,
    /// One permit for each child that has ended and left processes running.
    pub left_running: Semaphore,
    /// Memory that open requests may take.
    pub memory: Budget,
    /// The clock of a one-shot command's timeout.
    pub clock: Arc<Stopwatch>,
}

/// The session has ended, and what was to happen in it doesn't happen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub(super) struct SessionEnded;

impl SessionCore {
    /// The future's output, unless the session ends first; its end takes precedence, and drops the future.
    pub(super) async fn until_ended<T>(&self, future: impl Future<Output = T>) -> Result<T, SessionEnded> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(SessionEnded),
            output = future => Ok(output),
        }
    }
}
