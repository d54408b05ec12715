//! The processes that the suite starts, and their exit statuses.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use shell_escalation::{EscalationSession, ShellStart};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rpc::RpcError;
use super::sandbox::{Confined, Sandbox};

/// The overlay's variable for the number of the session's socket.
const SOCKET_VARIABLE: &str = "CODEX_ESCALATE_SOCKET";

/// The process to start.
#[derive(Deserialize)]
pub(super) struct SpawnParams {
    argv: Vec<String>,
    cwd: PathBuf,
    env: HashMap<String, String>,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
    stderr: Option<PathBuf>,
}

impl SpawnParams {
    /// The command, with exactly this environment and these streams.
    pub(super) fn command(mut self) -> Result<Command, RpcError> {
        let start = self.start()?;
        self.command_of(start)
    }

    /// Program, arguments and environment.
    fn start(&mut self) -> Result<ShellStart, RpcError> {
        let argv: Vec<OsString> = self.argv.drain(..).map(OsString::from).collect();
        let program = argv.first().ok_or_else(|| RpcError::invalid("argv is empty"))?;
        let env = environment(std::mem::take(&mut self.env)).collect();
        Ok(ShellStart::new(program.into(), argv, env, Vec::new()))
    }

    /// The command of a shell in a session, below a sandbox, and what the sandbox needs as long as the shell lives.
    pub(super) fn confined_command(
        mut self,
        session: &EscalationSession,
        sandbox: &Sandbox,
    ) -> Result<(Command, Confined), RpcError> {
        let mut start = self.start()?;
        for (name, value) in session.env() {
            start.env.retain(|(other, _)| other != OsStr::new(name));
            start.env.push((name.into(), value.into()));
        }
        let number = session.env().get(SOCKET_VARIABLE).map(|number| number.parse());
        start.descriptors.push(
            number
                .transpose()
                .map_err(RpcError::failed)?
                .ok_or_else(|| RpcError::failed("the overlay names no socket"))?,
        );
        let (start, confined) = sandbox.confine(start, &self.cwd).map_err(RpcError::failed)?;
        Ok((self.command_of(start)?, confined))
    }

    fn command_of(self, start: ShellStart) -> Result<Command, RpcError> {
        let mut command = Command::new(start.program);
        let mut argv = start.argv.into_iter();
        if let Some(name) = argv.next() {
            command.arg0(name);
        }
        command
            .args(argv)
            .current_dir(&self.cwd)
            .env_clear()
            .envs(start.env)
            .stdin(stream(self.stdin.as_deref(), input)?)
            .stdout(stream(self.stdout.as_deref(), output)?)
            .stderr(stream(self.stderr.as_deref(), output)?);
        Ok(command)
    }
}

fn stream(path: Option<&Path>, open: impl FnOnce(&Path) -> std::io::Result<File>) -> Result<Stdio, RpcError> {
    match path {
        None => Ok(Stdio::null()),
        Some(path) => {
            let file =
                open(path).map_err(|error| RpcError::failed(format!("{}: {error}", path.display())))?;
            Ok(file.into())
        }
    }
}

fn input(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

fn output(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

/// Names and values of a JSON object as an environment.
pub(super) fn environment(env: HashMap<String, String>) -> impl Iterator<Item = (OsString, OsString)> {
    env.into_iter().map(|(name, value)| (name.into(), value.into()))
}

/// Gives a command these limits of open files instead of this process's.
pub(super) fn limit_open_files(command: &mut Command, limits: Option<(u64, u64)>) {
    let Some((soft, hard)) = limits else { return };
    // SAFETY: between fork and exec only setrlimit(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let limits = libc::rlimit {
                rlim_cur: soft,
                rlim_max: hard,
            };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// Children by pid. They end when the shim ends, if not before.
#[derive(Default)]
pub(super) struct Processes {
    children: Mutex<HashMap<u32, watch::Receiver<Option<ExitStatus>>>>,
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Processes {
    pub(super) async fn spawn(&self, command: Command) -> Result<Value, RpcError> {
        let program = command.get_program().to_owned();
        let spawning = tokio::task::spawn_blocking(move || {
            tokio::process::Command::from(command).kill_on_drop(true).spawn()
        });
        let mut child = spawning
            .await
            .map_err(RpcError::failed)?
            .map_err(|error| RpcError::failed(format!("{}: {error}", program.display())))?;
        let pid = child
            .id()
            .ok_or_else(|| RpcError::failed("the child has no pid"))?;
        let (sender, receiver) = watch::channel(None);
        self.children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid, receiver);
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            let status = tokio::select! {
                status = child.wait() => status,
                () = ended.cancelled() => {
                    let _ = child.start_kill();
                    child.wait().await
                }
            };
            match status {
                Ok(status) => drop(sender.send_replace(Some(status))),
                Err(error) => tracing::error!(pid, %error, "cannot wait for a child"),
            }
        });
        Ok(json!({ "pid": pid }))
    }

    pub(super) async fn wait(&self, pid: u32) -> Result<Value, RpcError> {
        let receiver = self
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&pid)
            .cloned();
        let mut receiver = receiver.ok_or_else(|| RpcError::invalid(format!("unknown process {pid}")))?;
        let status = receiver
            .wait_for(Option::is_some)
            .await
            .map_err(RpcError::failed)?;
        let status = status.ok_or_else(|| RpcError::failed("the process has no status"))?;
        Ok(json!({"exit_code": status.code(), "signal": status.signal()}))
    }

    /// Whether any of them still runs.
    pub(super) fn run(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Kills and reaps those that still run.
    pub(super) async fn end(&self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
