//! Decisions made by a person: they may take minutes, may be withdrawn, and are remembered for the session on request.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use super::{Decision, PolicyError, PolicyRequest};

/// A person's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Escalate this one.
    Yes,
    /// Escalate this one, and, without asking again, all later ones in the same session with the same program, arguments
    /// and working directory.
    Always,
    /// Don't execute it.
    No {
        /// Shown to the user of the shell.
        reason: Option<String>,
    },
}

/// Asks a person. Requests may come concurrently; a future is dropped when its answer is no longer needed.
pub trait Approver: Send + Sync + 'static {
    /// Asks about escalating `request`; `reason` is the rule's. While this runs, the timeout of a one-shot command is
    /// suspended.
    fn approve(
        &self,
        request: &PolicyRequest,
        reason: Option<&str>,
    ) -> impl Future<Output = Result<Approval, PolicyError>> + Send;
}

/// The approver when there is no person to ask: it says no.
#[derive(Clone, Copy, Debug)]
pub struct NoApprover;

impl Approver for NoApprover {
    async fn approve(&self, _: &PolicyRequest, _: Option<&str>) -> Result<Approval, PolicyError> {
        Ok(Approval::No {
            reason: Some("needs approval, but there is no one to ask".to_owned()),
        })
    }
}

/// [`Approver`] as an object.
pub(super) trait AnyApprover: Send + Sync {
    fn approve<'a>(
        &'a self,
        request: &'a PolicyRequest,
        reason: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Approval, PolicyError>> + Send + 'a>>;
}

impl<A: Approver> AnyApprover for A {
    fn approve<'a>(
        &'a self,
        request: &'a PolicyRequest,
        reason: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Approval, PolicyError>> + Send + 'a>> {
        Box::pin(Approver::approve(self, request, reason))
    }
}

/// An approver, and what it has approved for whole sessions.
pub(super) struct Approvals {
    approver: Box<dyn AnyApprover>,
    always: Mutex<HashSet<Approved>>,
}

/// What `Always` applies to. The file itself is compared again when it is executed.
#[derive(PartialEq, Eq, Hash)]
struct Approved {
    session: u64,
    program: PathBuf,
    argv: Vec<OsString>,
    workdir: PathBuf,
}

impl Approved {
    fn of(request: &PolicyRequest) -> Self {
        Self {
            session: request.session,
            program: request
                .canonical
                .clone()
                .unwrap_or_else(|| request.program.clone()),
            argv: request.argv.clone(),
            workdir: request.workdir.clone(),
        }
    }
}

impl fmt::Debug for Approvals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Approvals").finish_non_exhaustive()
    }
}

impl Approvals {
    pub(super) fn new(approver: impl Approver) -> Self {
        Self {
            approver: Box::new(approver),
            always: Mutex::default(),
        }
    }

    /// The decision of the approver, or of its earlier `Always`.
    pub(super) async fn ask(
        &self,
        request: &PolicyRequest,
        reason: Option<&str>,
    ) -> Result<Decision, PolicyError> {
        let approved = Approved::of(request);
        if self.always().contains(&approved) {
            return Ok(Decision::escalate());
        }
        let _stopped = request.stop_the_clock();
        match self.approver.approve(request, reason).await? {
            Approval::Yes => Ok(Decision::escalate()),
            Approval::Always => {
                self.always().insert(approved);
                Ok(Decision::escalate())
            }
            Approval::No { reason } => Ok(Decision::deny(reason)),
        }
    }

    fn always(&self) -> std::sync::MutexGuard<'_, HashSet<Approved>> {
        self.always.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
