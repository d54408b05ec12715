//! From a wrapper's first message to the question for the policy, and from the decision to the command.

use std::ffi::OsString;
use std::sync::Arc;

use super::core::SessionCore;
use crate::confinement::Execution;
use crate::execution::{FilesAtDecision, Foresight, PreparedExec};
use crate::policy::{Decision, PolicyRequest};
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
    /// About a request whose files have been looked at.
    pub(super) fn new(
        request: Request,
        files: FilesAtDecision,
        session: &SessionCore,
        peer: Option<i32>,
    ) -> Self {
        let asked = PolicyRequest {
            session: session.id,
            program: files.requested.clone(),
            canonical: files.canonical.clone(),
            judgement: files.judgement.clone(),
            identity: files.identity(),
            argv: request.argv,
            workdir: request.workdir.into(),
            canonical_workdir: files.canonical_workdir.clone(),
            env: request.env,
            umask: request.umask,
            execution: Execution::default(),
            in_place: false,
            peer,
            clock: Arc::clone(&session.clock),
            looks: session.looks.clone(),
        };
        Self {
            asked: Arc::new(asked),
            file: request.file,
            files,
        }
    }

    /// What the start of the command will need.
    pub(super) fn foresee(&self) -> Foresight {
        self.files.foresee()
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
            in_place: decision.is_in_place(),
            launcher: None,
            writers: None,
        };
        (exec, self.files)
    }
}
