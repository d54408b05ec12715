//! `run` and `shell`: a one-shot command, or an interactive shell, under a policy file.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::{getpgrp, tcsetpgrp};
use shell_escalation::{ExecParams, ExecResult, LocalExecutor, StandardStreams};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::approve::TerminalApprover;
use super::host::{Host, HostOptions};
use super::interrupts::Interrupts;
use super::signals::Signals;

/// Runs one command and exits with its status.
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    host: HostOptions,
    /// When the command fails, don't say on standard error what the sandbox allows
    #[arg(long, short)]
    quiet: bool,
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
    host: HostOptions,
    /// Don't say on standard error what the sandbox allows
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Run {
    pub(super) async fn serve(
        self,
        inherited_open_files: Option<(u64, u64)>,
        signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        let command = self.command.join(&OsString::from(" "));
        let mut params = ExecParams::new(
            command,
            std::env::current_dir().context("cannot determine the current directory")?,
        );
        params.timeout = self.timeout;
        params.longest_stop = self.approval_time;
        let says = if self.quiet {
            Says::Nothing
        } else {
            Says::AfterFailure
        };
        self.host.exec(params, says, inherited_open_files, signals).await
    }
}

impl Shell {
    pub(super) async fn serve(
        self,
        inherited_open_files: Option<(u64, u64)>,
        signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "`shell` needs a terminal on standard input; without one, use `run`"
        );
        let params = ExecParams::interactive(
            std::env::current_dir().context("cannot determine the current directory")?,
        );
        let says = if self.quiet { Says::Nothing } else { Says::AtStart };
        self.host.exec(params, says, inherited_open_files, signals).await
    }
}

/// When to say what the sandbox allows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    AtStart,
    AfterFailure,
}

impl HostOptions {
    async fn exec(
        self,
        mut params: ExecParams,
        says: Says,
        inherited_open_files: Option<(u64, u64)>,
        signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        params.login = !self.no_login;
        let interrupts = Arc::new(Interrupts::default());
        let executor = LocalExecutor::new(StandardStreams::Inherited);
        let Host {
            server,
            confined,
            denied,
            ..
        } = self.host(executor, &params.workdir, inherited_open_files, |env| {
            TerminalApprover::new(env, Arc::clone(&interrupts))
        })?;
        if let (Says::AtStart, Some(line)) = (says, confined.at_start()) {
            eprintln!("shell-escalation: {line}");
        }

        // A command that sends this to its group doesn't end this process, whether it asks questions or not.
        let _input = signal(SignalKind::io())?;
        let parent = CancellationToken::new();
        let (result, told) = {
            let running = server.exec(params, &parent);
            tokio::pin!(running);
            tokio::select! {
                result = &mut running => (result, None),
                told = signals.sent_to_us(&interrupts) => {
                    parent.cancel();
                    (running.await, Some(told?))
                }
            }
        };
        // A signal may be what ends this process, and the sandbox has files to remove.
        drop(server);
        take_terminal_back();
        let result = result.context("cannot run the shell")?;
        drop(signals);
        if let Some(signal) = told {
            return end_by(signal);
        }
        if says == Says::AfterFailure
            && !result.timed_out
            && !denied.load(Ordering::Relaxed)
            && let Some(line) = confined.after_failure(result.exit_code, result.signal)
        {
            eprintln!("shell-escalation: {line}");
        }
        status_of(&result)
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
    match result.signal {
        Some(signal) => end_by(signal),
        None => Ok(ExitCode::from(
            u8::try_from(result.exit_code).context("the exit status is over 255")?,
        )),
    }
}

fn end_by(signal: i32) -> anyhow::Result<ExitCode> {
    match Signal::try_from(signal) {
        Ok(signal) => die_by(signal),
        // `Signal` has no real-time signals: for them this exits with 128 + N.
        Err(_) => Ok(ExitCode::from(
            u8::try_from(128 + signal).context("the exit status is over 255")?,
        )),
    }
}

/// Ends this process the way the shell ended, so that its parent sees the same status.
pub(super) fn die_by(signal: Signal) -> anyhow::Result<ExitCode> {
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
