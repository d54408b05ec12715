//! What a host provides: how it starts shells, and its last word about escalated commands.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::capture::Gap;
use super::in_place::Writers;
use super::launch::Launcher;
use super::survivor::Survivor;
use crate::confinement::Execution;

/// An escalated command as it is about to be executed: what a [`ShellCommandExecutor`] may still change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreparedExec {
    /// The program, relative to `workdir` unless absolute.
    pub file: OsString,
    /// Arguments, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// Absolute working directory.
    pub workdir: PathBuf,
    /// The child's whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The child's umask; `None` is the server's.
    pub umask: Option<u32>,
    /// How the decision says to execute it. An executor that leaves anything but [`Execution::Unsandboxed`] here without having
    /// confined the command (as [`SandboxedExecutor`](crate::SandboxedExecutor) does) is not obeyed: nothing is executed.
    pub execution: Execution,
    /// Whether a script is executed in place, see [`Decision::in_place`](crate::Decision::in_place). Where sandboxed processes could
    /// make its name lead elsewhere, [`SandboxedExecutor`](crate::SandboxedExecutor) has a copy executed all the same.
    pub in_place: bool,
    /// Confines itself and then executes the command.
    pub(crate) launcher: Option<Launcher>,
    /// Who could choose what a script in place is, where that is known.
    pub(crate) writers: Option<Writers>,
}

/// The shell of a one-shot command, ready to be started.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShellCommand {
    /// The shell.
    pub program: PathBuf,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// Absolute working directory.
    pub workdir: PathBuf,
    /// The whole environment, the session's overlay included.
    pub env: Vec<(OsString, OsString)>,
    /// The session's socket, which the shell must inherit under the same number. Drop it once the shell is started.
    pub socket: ClientSocket,
    /// When this is cancelled, the shell and all its descendants must end.
    pub cancelled: CancellationToken,
}

/// How a shell is started that no executor runs, such as a terminal's: what an executor may still put before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShellStart {
    /// The shell, or what executes it.
    pub program: PathBuf,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// The whole environment, the session's overlay included.
    pub env: Vec<(OsString, OsString)>,
    /// Numbers of the descriptors that it inherits beside its standard streams.
    pub descriptors: Vec<RawFd>,
}

impl ShellStart {
    /// A shell with its arguments (`argv[0]` included), its whole environment, and the numbers of the descriptors that it
    /// inherits beside its standard streams.
    #[must_use]
    pub fn new(
        program: PathBuf,
        argv: Vec<OsString>,
        env: Vec<(OsString, OsString)>,
        descriptors: Vec<RawFd>,
    ) -> Self {
        Self {
            program,
            argv,
            env,
            descriptors,
        }
    }
}

/// The client's end of a session's socket: close-on-exec, at a number that the overlay names.
#[derive(Debug)]
pub struct ClientSocket(pub(crate) OwnedFd);

impl ClientSocket {
    /// The number under which the child must hold it.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How the shell of a one-shot command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShellOutput {
    /// 0 to 255; 128 + N for a shell killed by signal N.
    pub exit_code: i32,
    /// The signal that killed the shell.
    pub signal: Option<i32>,
    /// Its standard output, if captured.
    pub stdout: Vec<u8>,
    /// Its standard error, if captured.
    pub stderr: Vec<u8>,
    /// What is missing in `stdout`, where the executor keeps only the ends of much output.
    pub stdout_gap: Option<Gap>,
    /// What is missing in `stderr`.
    pub stderr_gap: Option<Gap>,
    /// Processes of the shell that could not be ended.
    pub survivors: Vec<Survivor>,
}

impl ShellOutput {
    /// The output of a shell that exited with `exit_code`, for executors that start shells their own way.
    #[must_use]
    pub fn new(exit_code: i32, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self {
            exit_code,
            signal: None,
            stdout,
            stderr,
            stdout_gap: None,
            stderr_gap: None,
            survivors: Vec::new(),
        }
    }
}

/// How a host starts shells, and its last word about escalated commands. [`LocalExecutor`](crate::LocalExecutor) is the
/// ordinary one; a host with a sandbox brings its own.
pub trait ShellCommandExecutor: Send + Sync + 'static {
    /// Runs the shell of a one-shot command to its end, or until `command.cancelled`; what it started must end with it.
    fn run(&self, command: ShellCommand) -> impl Future<Output = io::Result<ShellOutput>> + Send;

    /// Puts before a shell that another starts, such as a terminal, what confines it. By default such shells are refused: an
    /// executor that confines those that it [runs](Self::run) would otherwise not confine these.
    ///
    /// # Errors
    /// When it can't be confined; the shell is not started.
    fn confine(&self, shell: ShellStart) -> io::Result<ShellStart> {
        let message = format!(
            "{} is not started: its executor confines only shells that it runs itself",
            shell.program.display()
        );
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// May change an escalated command before it is executed, or refuse it: an error closes the request. A changed file or
    /// working directory is the host's own decision, and is not compared with what the policy saw. A decision to execute it in a
    /// sandbox is in [`PreparedExec::execution`].
    fn prepare(&self, exec: PreparedExec) -> impl Future<Output = io::Result<PreparedExec>> + Send {
        async { Ok(exec) }
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`ShellCommandExecutor`] as an object.
pub(crate) trait AnyExecutor: Send + Sync {
    fn run(&self, command: ShellCommand) -> Boxed<'_, io::Result<ShellOutput>>;
    fn confine(&self, shell: ShellStart) -> io::Result<ShellStart>;
    fn prepare(&self, exec: PreparedExec) -> Boxed<'_, io::Result<PreparedExec>>;
}

impl<E: ShellCommandExecutor> AnyExecutor for E {
    fn run(&self, command: ShellCommand) -> Boxed<'_, io::Result<ShellOutput>> {
        Box::pin(ShellCommandExecutor::run(self, command))
    }

    fn confine(&self, shell: ShellStart) -> io::Result<ShellStart> {
        ShellCommandExecutor::confine(self, shell)
    }

    fn prepare(&self, exec: PreparedExec) -> Boxed<'_, io::Result<PreparedExec>> {
        Box::pin(ShellCommandExecutor::prepare(self, exec))
    }
}

impl fmt::Debug for dyn AnyExecutor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ShellCommandExecutor")
    }
}

/// An executor that several sessions share.
pub(crate) type SharedExecutor = Arc<dyn AnyExecutor>;
