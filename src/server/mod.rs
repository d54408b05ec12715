//! The server: its configuration, its sessions, and its one-shot commands.

mod one_shot;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::audit::AuditLog;
use crate::execution::{Guardian, LocalExecutor, ShellCommandExecutor, ShellStart};
use crate::limits::Limits;
use crate::policy::EscalationPolicy;
use crate::session::{EscalationSession, Settings};

pub(crate) use one_shot::with_overlay;
pub use one_shot::{ExecParams, ExecResult};

/// Decides for every command of its sessions' shells where it runs, and runs the escalated ones.
///
/// All methods must be called within a tokio runtime with I/O and time enabled.
#[derive(Debug)]
pub struct EscalateServer {
    shell: PathBuf,
    wrapper: PathBuf,
    settings: Arc<Settings>,
}

impl EscalateServer {
    /// A server whose one-shot commands run in `shell`, and whose sessions name `wrapper` to their shells. Both must be
    /// absolute; neither is checked before it is needed.
    #[must_use]
    pub fn new(
        shell: impl Into<PathBuf>,
        wrapper: impl Into<PathBuf>,
        policy: impl EscalationPolicy,
    ) -> Self {
        let settings = Settings {
            policy: Arc::new(policy),
            executor: Arc::new(LocalExecutor::default()),
            limits: Limits::default(),
            audit: None,
            shares_group: false,
        };
        Self {
            shell: shell.into(),
            wrapper: wrapper.into(),
            settings: Arc::new(settings),
        }
    }

    /// Lets `executor` start the shells and prepare the escalated commands. Existing sessions keep theirs.
    #[must_use]
    pub fn with_executor(mut self, executor: impl ShellCommandExecutor) -> Self {
        Arc::make_mut(&mut self.settings).executor = Arc::new(executor);
        self
    }

    /// Replaces the default limits. Existing sessions keep theirs.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.settings).limits = limits;
        self
    }

    /// Writes one line per request to `log`. Existing sessions keep the log that they have, if any.
    #[must_use]
    pub fn with_audit(mut self, log: AuditLog) -> Self {
        Arc::make_mut(&mut self.settings).audit = Some(Arc::new(log));
        self
    }

    /// Says whether escalated commands may join the process group of this process, where the wrapper that asked is in it: then
    /// they share its terminal, and what they or the terminal send to the group reaches this process as well: `kill 0` in a
    /// command ends a host that doesn't catch SIGTERM. For a program that stands in for its shell. Default: false. Any other group of this process's session is joined in any case.
    #[must_use]
    pub fn sharing_process_group(mut self, shares: bool) -> Self {
        Arc::make_mut(&mut self.settings).shares_group = shares;
        self
    }

    /// The shell of one-shot commands.
    pub(crate) fn shell(&self) -> &Path {
        &self.shell
    }

    /// Puts before a shell that the caller starts what the executor confines its own shells with: the launcher of a
    /// [`SandboxedExecutor`](crate::SandboxedExecutor).
    ///
    /// # Errors
    /// When the executor can't confine it; then don't start it.
    pub fn confine(&self, shell: ShellStart) -> io::Result<ShellStart> {
        self.settings.executor.confine(shell)
    }

    /// Starts a session for a shell that the caller starts. It ends when it is dropped, or when `parent` is cancelled.
    ///
    /// # Errors
    /// When the system has no room for the session's sockets, or the wrapper's path is not UTF-8.
    pub fn start_session(&self, parent: &CancellationToken) -> io::Result<EscalationSession> {
        Guardian::start_early();
        EscalationSession::start(Arc::clone(&self.settings), &self.wrapper, parent)
    }

    /// Runs one command to its end: `SHELL -lc COMMAND`, in a session of its own. When this returns, no process of the command
    /// is left but those in [`ExecResult::survivors`]. Cancelling `parent`, or dropping the future, kills all of them.
    ///
    /// # Errors
    /// When the shell could not be started.
    pub async fn exec(&self, params: ExecParams, parent: &CancellationToken) -> io::Result<ExecResult> {
        one_shot::exec(
            &self.shell,
            self.start_session(parent)?,
            &self.settings,
            params,
            parent,
        )
        .await
    }
}
