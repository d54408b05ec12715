//! What decides about requests: may this program run, and if so, where?

mod approval;
mod environment;
mod file;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::clock::{Stopped, Stopwatch};

pub use crate::protocol::Action;
pub use approval::{Approval, Approver, NoApprover};
pub use environment::{KeepEnv, loads_code};
pub use file::{PolicyFile, PolicyFileError};

/// What a policy is asked about: the whole request. The sandboxed side chose everything in it except `canonical`, `session`
/// and `peer`, which the server determined itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PolicyRequest {
    /// Number of the session within this process.
    pub session: u64,
    /// Absolute path of the file that the kernel would execute, without `.` and `..`; a `~` is a name like any other. Symbolic
    /// links are resolved only before a `..`.
    pub program: PathBuf,
    /// The same file's path without symbolic links; `None` if the file does not exist.
    pub canonical: Option<PathBuf>,
    /// Arguments, including `argv[0]`, as received.
    pub argv: Vec<OsString>,
    /// Working directory, as received.
    pub workdir: PathBuf,
    /// Environment of the program, as received. An escalated child gets it without variables that load code, unless the
    /// decision keeps them (see [`Decision::keeping_env`]).
    pub env: Vec<(OsString, OsString)>,
    /// Process that created the request stream, if the kernel knows it.
    pub peer: Option<i32>,
    pub(crate) clock: Arc<Stopwatch>,
}

impl PolicyRequest {
    /// A request without a session, for testing policies: `program` with itself as its only argument, in the root directory,
    /// with an empty environment. The fields can be changed.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self {
            session: 0,
            canonical: std::fs::canonicalize(&program).ok(),
            argv: vec![program.clone().into_os_string()],
            program,
            workdir: PathBuf::from("/"),
            env: Vec::new(),
            peer: None,
            clock: Stopwatch::start(),
        }
    }

    /// Stops the clock of a one-shot command's timeout while the returned value lives, for example while a person is asked.
    pub fn stop_the_clock(&self) -> Stopped {
        self.clock.hold()
    }
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub(crate) action: Action,
    pub(crate) keep_env: KeepEnv,
    pub(crate) rule: Option<String>,
}

impl Decision {
    fn new(action: Action) -> Self {
        Self {
            action,
            keep_env: KeepEnv::default(),
            rule: None,
        }
    }

    /// The program runs where the shell runs.
    #[must_use]
    pub fn run() -> Self {
        Self::new(Action::Run)
    }

    /// The server runs the program.
    #[must_use]
    pub fn escalate() -> Self {
        Self::new(Action::Escalate)
    }

    /// The program does not run; the user is shown the reason.
    #[must_use]
    pub fn deny(reason: Option<String>) -> Self {
        Self::new(Action::Deny { reason })
    }

    /// Lets these variables reach the escalated child although they load code.
    #[must_use]
    pub fn keeping_env(mut self, keep_env: KeepEnv) -> Self {
        self.keep_env = keep_env;
        self
    }

    /// Names the rule behind the decision, for logs.
    #[must_use]
    pub fn by_rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// What the wrapper is to do.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }
}

/// Why a policy could not decide. The request's stream is closed and nothing runs.
pub type PolicyError = Box<dyn std::error::Error + Send + Sync>;

/// Decides about requests. Decisions may take any time, and run concurrently; a future is dropped when its decision is no
/// longer needed.
///
/// If a policy fails or panics, the command does not run anywhere.
pub trait EscalationPolicy: Send + Sync + 'static {
    /// Decides about one request.
    fn decide(&self, request: &PolicyRequest) -> impl Future<Output = Result<Decision, PolicyError>> + Send;
}

/// [`EscalationPolicy`] as an object.
pub(crate) trait AnyPolicy: Send + Sync {
    fn decide<'a>(
        &'a self,
        request: &'a PolicyRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Decision, PolicyError>> + Send + 'a>>;
}

impl<P: EscalationPolicy> AnyPolicy for P {
    fn decide<'a>(
        &'a self,
        request: &'a PolicyRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Decision, PolicyError>> + Send + 'a>> {
        Box::pin(EscalationPolicy::decide(self, request))
    }
}

impl fmt::Debug for dyn AnyPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EscalationPolicy")
    }
}

/// The policy of all requests of a server.
pub(crate) type SharedPolicy = Arc<dyn AnyPolicy>;
