//! What decides about requests: may this program run, and if so, where?

mod approval;
mod environment;
mod file;
mod sessions;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::clock::{Stopped, Stopwatch};
use crate::confinement::Execution;
use crate::files::{Identity, Judgement, Looks, PinnedFile, Wait, look_up};

pub use crate::protocol::Action;
pub use approval::{Approval, Approvals, Approver, MOST_WAITING, NoApprover, Question};
use environment::child_environment;
pub(crate) use environment::taken_out;
pub use environment::{KeepEnv, directs_programs, loads_code};
pub use file::{Complaint, Explanation, PolicyFile, PolicyFileError, Step};

/// What a policy is asked about: the whole request. The sandboxed side chose everything in it except `canonical`,
/// `canonical_workdir`, `session` and `peer`, which the server determined itself.
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
    /// The same directory's path without symbolic links, as the kernel knows it; `None` if it could not be opened.
    pub canonical_workdir: Option<PathBuf>,
    /// Environment of the program, as received. An escalated child gets it without variables that load code, unless the
    /// decision keeps them (see [`Decision::keeping_env`]).
    pub env: Vec<(OsString, OsString)>,
    /// The file mode creation mask, if the request has one.
    pub umask: Option<u32>,
    /// Process that created the request stream, if the kernel knows it.
    pub peer: Option<i32>,
    /// How the command would be executed, where an [`Approver`] is asked.
    pub execution: Execution,
    /// Whether a script would be executed [in place](Decision::in_place), where an [`Approver`] is asked.
    pub in_place: bool,
    /// Who could put another program there; judged by the server's own look at the file.
    pub(crate) judgement: Judgement,
    /// The program's state when it was looked at; `None` if it could not be opened.
    pub(crate) identity: Option<Identity>,
    pub(crate) clock: Arc<Stopwatch>,
    /// The session's.
    pub(crate) looks: Looks,
}

impl PolicyRequest {
    /// A request without a session, for testing policies: `program` with itself as its only argument, in the root directory,
    /// with an empty environment. The fields can be changed.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let found = look_up(Path::new("/"), program.as_os_str(), Wait::Allowed).ok();
        Self {
            session: 0,
            judgement: found.as_ref().map_or_else(Judgement::default, |found| {
                Judgement::about(Path::new("/"), program.as_os_str(), found)
            }),
            identity: found
                .as_ref()
                .and_then(|found| found.file.as_ref().ok())
                .map(PinnedFile::identity),
            canonical: found.and_then(|found| found.canonical),
            argv: vec![program.clone().into_os_string()],
            program,
            workdir: PathBuf::from("/"),
            canonical_workdir: Some(PathBuf::from("/")),
            env: Vec::new(),
            umask: None,
            execution: Execution::default(),
            in_place: false,
            peer: None,
            clock: Stopwatch::start(),
            looks: Looks::default(),
        }
    }

    /// Stops the clock of a one-shot command's timeout while the returned value lives, for example while a person is asked; in
    /// all no longer than [`ExecParams::longest_stop`](crate::ExecParams::longest_stop).
    pub fn stop_the_clock(&self) -> Stopped {
        self.clock.hold()
    }
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub(crate) action: Action,
    pub(crate) keep_env: KeepEnv,
    pub(crate) env: Option<Vec<(OsString, OsString)>>,
    pub(crate) rule: Option<String>,
    pub(crate) execution: Execution,
    pub(crate) in_place: bool,
}

impl Decision {
    fn new(action: Action) -> Self {
        Self {
            action,
            keep_env: KeepEnv::default(),
            env: None,
            rule: None,
            execution: Execution::default(),
            in_place: false,
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

    /// Says how an escalated command is executed; without this, it is [unsandboxed](Execution::Unsandboxed).
    #[must_use]
    pub fn executed(mut self, execution: Execution) -> Self {
        self.execution = execution;
        self
    }

    /// How an escalated command is executed.
    #[must_use]
    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Executes an escalated script from its file, by the name that was asked for. So `$0`, `__file__`, `__dirname` and the like
    /// are as without a server, and the script finds what lies beside it. Without this, a script that others than root could
    /// change is executed from a sealed copy, as `/dev/fd/N`. Binaries are executed by their names in any case.
    ///
    /// **Risk:** the file is compared with the decision directly before it is executed, but its interpreter opens it after that,
    /// by its name, and most interpreters read while they execute. So until the script's end, a process that can write to the
    /// file, or rename it or a folder above it, can choose what is executed outside of the sandbox. Decide so only about scripts that
    /// no sandboxed process can change, or if what one writes there may be executed. The same goes for a link by which the script
    /// was called: [`SandboxedExecutor`](crate::SandboxedExecutor) has a script that sandboxed processes can't write to executed
    /// from a copy if they can make its name lead elsewhere; with another executor, compare
    /// [`program`](PolicyRequest::program) with [`canonical`](PolicyRequest::canonical).
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.in_place = true;
        self
    }

    /// Whether an escalated script is executed [in place](Self::in_place).
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// The rule behind the decision, if the policy [named](Self::by_rule) one.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// Lets these variables reach the escalated child although they load code.
    #[must_use]
    pub fn keeping_env(mut self, keep_env: KeepEnv) -> Self {
        self.keep_env = keep_env;
        self
    }

    /// Gives the escalated child this environment instead of the request's. Variables that load code are left out of it, too,
    /// unless they are [kept](Self::keeping_env).
    #[must_use]
    pub fn with_env(mut self, env: Vec<(OsString, OsString)>) -> Self {
        self.env = Some(env);
        self
    }

    /// Names the rule behind the decision, for logs.
    #[must_use]
    pub fn by_rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The environment of the escalated child of a request whose own is `requested`.
    #[must_use]
    pub fn child_env(&self, requested: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
        let env = self.env.as_deref().unwrap_or(requested);
        child_environment(env.iter().cloned(), &self.keep_env)
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
