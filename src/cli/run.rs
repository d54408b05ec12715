//! `run` and `shell`: a one-shot command, or an interactive shell, under a policy file.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::{getpgrp, tcsetpgrp};
use shell_escalation::{
    AuditLog, EscalateServer, ExecParams, ExecResult, Limits, LocalExecutor, PolicyFile, Profile,
    SandboxedExecutor, StandardStreams,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::approve::TerminalApprover;
use super::interrupts::Interrupts;
use super::locate;
use super::rules::Rules;

/// The options that `run` and `shell` share.
#[derive(Args)]
pub(super) struct Environment {
    /// Policy file (TOML) that decides about every command, see `shell-escalation help-policy` [default: run everything in
    /// the sandbox]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    rules: Rules,
    /// What the shell is confined to: read-only, workspace-write (the current directory is writable, except its .git; no
    /// network), full-access (no sandbox), or a profile of the policy file
    #[arg(long, value_name = "PROFILE", default_value = "workspace-write")]
    sandbox: String,
    /// Refuse to start if this system can't hold everything that the profile promises
    #[arg(long)]
    sandbox_strict: bool,
    /// Another file or folder that the sandbox may write to (repeatable)
    #[arg(long, value_name = "PATH")]
    writable: Vec<PathBuf>,
    /// Patched shell [default: SHELL_ESCALATION_SHELL, then one next to this program]
    #[arg(long, value_name = "PATH")]
    shell: Option<PathBuf>,
    /// Wrapper that the shell executes for every command [default: SHELL_ESCALATION_WRAPPER, then
    /// `execve-wrapper` next to this program]
    #[arg(long, value_name = "PATH")]
    wrapper: Option<PathBuf>,
    /// Append one line of JSON per request to this file, two if it is escalated; if that fails, refuse to escalate
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Do not start a login shell
    #[arg(long)]
    no_login: bool,
}

/// Runs one command and exits with its status.
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    environment: Environment,
    /// Kill everything after this many seconds, not counting time spent waiting for approval
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Time spent waiting for approval that --timeout does not count, in all
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    approval_time: Duration,
    /// The command, as the shell will read it; multiple arguments are joined with spaces
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Starts an interactive shell and exits with its status.
#[derive(Args)]
pub(super) struct Shell {
    #[command(flatten)]
    environment: Environment,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Run {
    pub(super) async fn serve(self, inherited_open_files: Option<(u64, u64)>) -> anyhow::Result<ExitCode> {
        let command = self.command.join(&OsString::from(" "));
        let mut params = ExecParams::new(
            command,
            std::env::current_dir().context("cannot determine the current directory")?,
        );
        params.timeout = self.timeout;
        params.longest_stop = self.approval_time;
        self.environment.exec(params, inherited_open_files).await
    }
}

impl Shell {
    pub(super) async fn serve(self, inherited_open_files: Option<(u64, u64)>) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "`shell` needs a terminal on standard input; without one, use `run`"
        );
        let params = ExecParams::interactive(
            std::env::current_dir().context("cannot determine the current directory")?,
        );
        self.environment.exec(params, inherited_open_files).await
    }
}

impl Environment {
    async fn exec(
        self,
        mut params: ExecParams,
        inherited_open_files: Option<(u64, u64)>,
    ) -> anyhow::Result<ExitCode> {
        params.login = !self.no_login;
        let shell = locate::shell(self.shell.clone())?;
        let wrapper = locate::wrapper(self.wrapper.clone())?;
        let interrupts = Arc::new(Interrupts::default());
        let audit = self
            .audit
            .as_ref()
            .map(|path| AuditLog::open(path).with_context(|| format!("--audit {}", path.display())));
        let audit = audit.transpose()?;
        let policy = self.rules.policy(self.policy.as_deref())?;
        let executor = LocalExecutor::new(StandardStreams::Inherited).open_files(inherited_open_files);
        let executor = self.sandboxed(executor, &policy, &params.workdir)?;
        let mut shells_env = params.env.clone();
        shells_env.retain(|(name, _)| name != "TMPDIR" || executor.temporary_folder().is_none());
        shells_env.extend(
            executor
                .temporary_folder()
                .map(|folder| ("TMPDIR".into(), folder.into())),
        );
        let approver = TerminalApprover::new(shells_env, Arc::clone(&interrupts));
        let policy = policy
            .with_approver(approver)
            .with_notices(|line| eprintln!("shell-escalation: {line}"));
        let mut limits = Limits::default();
        limits.child_open_files = inherited_open_files;
        let mut server = EscalateServer::new(shell, wrapper, policy)
            .with_limits(limits)
            .sharing_process_group(true)
            .with_executor(executor);
        if let Some(log) = audit {
            server = server.with_audit(log);
        }

        let parent = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let (result, told) = {
            let running = server.exec(params, &parent);
            tokio::pin!(running);
            tokio::select! {
                result = &mut running => (result, None),
                _ = terminate.recv() => {
                    parent.cancel();
                    (running.await, Some(Signal::SIGTERM))
                }
                () = interrupts.sent_to_us(&mut interrupt) => {
                    parent.cancel();
                    (running.await, Some(Signal::SIGINT))
                }
                () = interrupts.sent_to_us(&mut quit) => {
                    parent.cancel();
                    (running.await, Some(Signal::SIGQUIT))
                }
                _ = hang_up.recv() => {
                    parent.cancel();
                    (running.await, Some(Signal::SIGHUP))
                }
            }
        };
        // A signal may be what ends this process, and the sandbox has files to remove.
        drop(server);
        take_terminal_back();
        let result = result.context("cannot run the shell")?;
        if let Some(signal) = told {
            return die_by(signal);
        }
        status_of(&result)
    }
}

impl Environment {
    /// Puts the sandbox around what `executor` starts.
    fn sandboxed(
        &self,
        executor: LocalExecutor,
        policy: &PolicyFile,
        workspace: &Path,
    ) -> anyhow::Result<SandboxedExecutor<LocalExecutor>> {
        let name = &self.sandbox;
        let profile = policy.profile(name).with_context(|| {
            format!(
                "--sandbox {name}: no such profile; expected read-only, workspace-write, full-access, or a [profile.{name}] in \
                 the policy file"
            )
        })?;
        let writable = self.writable.iter().cloned();
        let profile = writable.fold(profile, Profile::with_write);
        if !profile.confines() {
            anyhow::ensure!(
                !self.sandbox_strict && self.writable.is_empty(),
                "--sandbox {name} confines nothing, so --sandbox-strict and --writable have no effect"
            );
            eprintln!("shell-escalation: no sandbox: commands may do all that you may (--sandbox {name})");
        }
        let sandboxed = || -> std::io::Result<_> {
            let mut sandboxed = SandboxedExecutor::new(executor, workspace, name, &profile)?;
            for (name, profile) in policy.profiles_of_rules() {
                sandboxed = sandboxed.with_profile(name, &profile)?;
            }
            let files = self.policy.iter().chain(self.rules.files()).chain(&self.audit);
            Ok(files
                .fold(sandboxed, |sandboxed, file| sandboxed.protecting(file))
                .strict(self.sandbox_strict))
        };
        sandboxed().with_context(|| format!("--sandbox {name}"))
    }
}

/// An interactive shell that was killed leaves its terminal to a process group that no longer exists.
fn take_terminal_back() {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        // SAFETY: ignoring a signal needs no handler. Without it, a background process would be stopped here.
        let ignored = unsafe { nix::sys::signal::signal(Signal::SIGTTOU, SigHandler::SigIgn) };
        // Best effort: the terminal may be gone, or not be this session's.
        if ignored.is_ok() {
            let _ = tcsetpgrp(&stdin, getpgrp());
        }
    }
}

fn status_of(result: &ExecResult) -> anyhow::Result<ExitCode> {
    for process in &result.survivors {
        eprintln!("shell-escalation: cannot end {process}");
    }
    if result.timed_out {
        eprintln!("shell-escalation: the command timed out and was killed");
    }
    match result.signal.map(Signal::try_from) {
        Some(Ok(signal)) => die_by(signal),
        // `Signal` has no real-time signals: for them this exits with 128 + N.
        Some(Err(_)) | None => Ok(ExitCode::from(
            u8::try_from(result.exit_code).context("the exit status is over 255")?,
        )),
    }
}

/// Ends this process the way the shell ended, so that its parent sees the same status.
fn die_by(signal: Signal) -> anyhow::Result<ExitCode> {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    if signal != Signal::SIGKILL && signal != Signal::SIGSTOP {
        // SAFETY: the default action is no handler.
        unsafe { sigaction(signal, &default) }?;
    }
    SigSet::from(signal).thread_unblock()?;
    raise(signal)?;
    // The signal's default action is to ignore it: exit with 128 + N instead.
    Ok(ExitCode::from(128 + signal as u8))
}
