//! From a wrapper's first message to the question for the policy, and from the decision to the command.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::core::SessionCore;
use super::environment::child_environment;
use super::error::RequestError;
use super::resolve::resolve;
use crate::execution::{FilesAtDecision, PreparedExec};
use crate::policy::{Decision, PolicyRequest};
use crate::protocol::Request;

/// A request whose files have been looked at.
#[derive(Debug)]
pub(super) struct Question {
    /// What the policy is asked.
    pub asked: Arc<PolicyRequest>,
    file: OsString,
    umask: Option<u32>,
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
        let program = resolve(Path::new(&request.workdir), Path::new(&request.file));
        let files = FilesAtDecision::look(&request, program.as_os_str())?;
        let asked = PolicyRequest {
            session: session.id,
            program,
            canonical: files.canonical.clone(),
            argv: request.argv,
            workdir: request.workdir.into(),
            env: request.env,
            peer,
            clock: Arc::clone(&session.clock),
        };
        Ok(Self {
            asked: Arc::new(asked),
            file: request.file,
            umask: request.umask,
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
            env: child_environment(asked.env, &decision.keep_env),
            umask: self.umask,
        };
        (exec, self.files)
    }
}
