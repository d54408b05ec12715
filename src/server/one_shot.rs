//! One-shot commands: a shell with a session of its own, which ends with it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::execution::{Gap, ShellCommand, ShellOutput, Survivor};
use crate::session::{EscalationSession, Settings};

/// The exit code of a command that timed out, the same as timeout(1)'s.
const TIMED_OUT: i32 = 124;

/// How long approvals stop the clock of a timeout.
const LONGEST_STOP: Duration = Duration::from_secs(600);

/// How long an executor may take to obey a cancellation before its future is dropped.
const GRACE: Duration = Duration::from_secs(5);

/// A one-shot command.
#[derive(Clone, Debug)]
pub struct ExecParams {
    /// What the shell gets after `-lc`; `None` for an interactive shell.
    pub command: Option<OsString>,
    /// Absolute working directory.
    pub workdir: PathBuf,
    /// The shell's whole environment; the session's overlay is merged over it.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the shell is a login shell (`-lc`, `-il`) or not (`-c`, `-i`).
    pub login: bool,
    /// After this time everything is killed. Time spent waiting for approval does not count, up to `longest_stop`.
    pub timeout: Option<Duration>,
    /// Time spent waiting for approval that is not counted as part of the timeout, in all. Default: 10 minutes.
    pub longest_stop: Duration,
}

impl ExecParams {
    /// `command` in a login shell without a timeout, with this process's environment.
    pub fn new(command: impl Into<OsString>, workdir: impl Into<PathBuf>) -> Self {
        Self {
            command: Some(command.into()),
            ..Self::interactive(workdir)
        }
    }

    /// An interactive login shell; it needs an executor whose standard streams are a terminal.
    pub fn interactive(workdir: impl Into<PathBuf>) -> Self {
        Self {
            command: None,
            workdir: workdir.into(),
            env: std::env::vars_os().collect(),
            login: true,
            timeout: None,
            longest_stop: LONGEST_STOP,
        }
    }
}

/// How a one-shot command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecResult {
    /// The shell's status, 0 to 255; 128 + N when it was killed by signal N; 124 when it timed out.
    pub exit_code: i32,
    /// The signal that killed the shell.
    pub signal: Option<i32>,
    /// All that was written to standard output, where the executor collects it.
    pub stdout: Vec<u8>,
    /// All that was written to standard error, where the executor collects it.
    pub stderr: Vec<u8>,
    /// What is missing in `stdout`, where the executor keeps only the ends of much output.
    pub stdout_gap: Option<Gap>,
    /// What is missing in `stderr`.
    pub stderr_gap: Option<Gap>,
    /// From start to end.
    pub duration: Duration,
    /// Whether the command was killed because it timed out.
    pub timed_out: bool,
    /// Processes of the command that could not be ended, within three seconds for the shell's and three more for escalated ones.
    pub survivors: Vec<Survivor>,
}

pub(super) async fn exec(
    shell: &Path,
    session: EscalationSession,
    settings: &Settings,
    params: ExecParams,
    parent: &CancellationToken,
) -> io::Result<ExecResult> {
    let started = Instant::now();
    let socket = session
        .take_client_socket()
        .expect("a new session has its client's end");
    let stop = parent.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let options = match (&params.command, params.login) {
        (Some(_), true) => "-lc",
        (Some(_), false) => "-c",
        (None, true) => "-il",
        (None, false) => "-i",
    };
    let argv = [shell.into(), options.into()]
        .into_iter()
        .chain(params.command)
        .collect();
    let command = ShellCommand {
        program: shell.to_owned(),
        argv,
        workdir: params.workdir,
        env: with_overlay(params.env, session.env()),
        socket,
        cancelled: stop.clone(),
    };
    let running = settings.executor.run(command);
    tokio::pin!(running);
    let clock = session.clock();
    let time_over = async {
        match params.timeout {
            Some(timeout) => clock.reaches(timeout, params.longest_stop).await,
            None => std::future::pending().await,
        }
    };
    let (output, timed_out) = tokio::select! {
        output = &mut running => (output, false),
        () = time_over => {
            stop.cancel();
            let output = tokio::time::timeout(GRACE, &mut running).await;
            (output.unwrap_or_else(|_| Ok(ShellOutput::default())), true)
        }
    };
    // Also before an error is returned.
    let escalated = session.close().await;
    let output = output?;
    let survivors = [output.survivors, escalated].concat();
    Ok(ExecResult {
        exit_code: if timed_out { TIMED_OUT } else { output.exit_code },
        signal: if timed_out { None } else { output.signal },
        stdout: output.stdout,
        stderr: output.stderr,
        stdout_gap: output.stdout_gap,
        stderr_gap: output.stderr_gap,
        duration: started.elapsed(),
        timed_out,
        survivors,
    })
}

/// The environment with the overlay in place of variables of the same names.
pub(crate) fn with_overlay(
    mut env: Vec<(OsString, OsString)>,
    overlay: &HashMap<String, String>,
) -> Vec<(OsString, OsString)> {
    env.retain(|(name, _)| !name.to_str().is_some_and(|name| overlay.contains_key(name)));
    env.extend(overlay.iter().map(|(name, value)| (name.into(), value.into())));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlay_replaces_variables_of_the_same_name() {
        let env = vec![("A".into(), "1".into()), ("EXEC_WRAPPER".into(), "/old".into())];
        let overlay = HashMap::from([("EXEC_WRAPPER".to_owned(), "/new".to_owned())]);
        let merged = with_overlay(env, &overlay);
        assert_eq!(
            merged,
            [("A".into(), "1".into()), ("EXEC_WRAPPER".into(), "/new".into())]
        );
    }
}
