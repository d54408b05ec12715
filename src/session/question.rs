//! From a wrapper's first message to the question for the policy, and from the decision to the command.

use std::ffi::OsString;
use std::sync::Arc;

use super::core::SessionCore;
use super::error::RequestError;
use crate::confinement::Execution;
use crate::execution::{FilesAtDecision, PreparedExec};
use crate::policy::{Decision, FileStamp, PolicyRequest};
use crate::protocol::Request;

/// A request whose files have been looked at.
#[derive(Debug)]
pub(super) struct Question {
    /// What the policy is asked.
    pub asked: Arc<PolicyRequest>,
    file: OsString,
    files: FilesAtDecision,
}

impl Question {
    /// Looks at a request's files. Blocks as long as the file systems do.
    ///
    /// # Errors
    /// When the files change while they are looked at.
    pub(super) fn look(
        request: Request,
        session: &SessionCore,
        peer: Option<i32>,
    ) -> Result<Self, RequestError> {
        let files = FilesAtDecision::look(&request)?;
        let asked = PolicyRequest {
            session: session.id,
            program: files.requested.clone(),
            canonical: files.canonical.clone(),
            judgement: files.judgement.clone(),
            stamp: files.status.as_ref().map(FileStamp::from),
            argv: request.argv,
            workdir: request.workdir.into(),
            canonical_workdir: files.canonical_workdir.clone(),
            env: request.env,
            umask: request.umask,
            execution: Execution::default(),
            peer,
            clock: Arc::clone(&session.clock),
        };
        Ok(Self {
            asked: Arc::new(asked),
            file: request.file,
            files,
        })
    }

    /// The command that was decided to be escalated, and the files that the decision was about.
    pub(super) fn into_command(self, decision: &Decision) -> (PreparedExec, FilesAtDecision) {
        let asked = Arc::unwrap_or_clone(self.asked);
        let exec = PreparedExec {
            file: self.file,
            argv: asked.argv,
            workdir: asked.workdir,
            env: decision.child_env(&asked.env),
            umask: asked.umask,
            execution: decision.execution().clone(),
            launcher: None,
        };
        (exec, self.files)
    }
}
