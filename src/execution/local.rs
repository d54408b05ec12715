//! The ordinary executor: shells run unsandboxed, as this user, each under a supervisor of its own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::unistd::getpgrp;

use super::attributes::Attributes;
use super::capture::{Bound, Captures};
use super::channel::{Ending, Report};
use super::executable::Executable;
use super::executor::{ShellCommand, ShellCommandExecutor, ShellOutput, ShellStart};
use super::failure::StartFailure;
use super::guardian::SessionLeader;
use super::job::{Spawn, SpawnError};
use super::supervisor::Placement;
use super::tree::Tree;
use crate::files::{PinnedFile, Wait, open_directory};

/// Where the standard streams of a one-shot command's shell lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StandardStreams {
    /// Input from /dev/null; output and errors are collected and returned.
    #[default]
    Captured,
    /// The host's own. The shell stays in the host's process group, so that the terminal treats both alike; so what the shell
    /// sends to its group reaches the host, which has to tell it from what is meant for itself.
    Inherited,
}

/// Starts shells directly. When a shell ends, everything that it started and that is still running is killed.
#[derive(Clone, Debug, Default)]
pub struct LocalExecutor {
    streams: StandardStreams,
    open_files: Option<(u64, u64)>,
    bound: Bound,
}

impl LocalExecutor {
    /// An executor whose shells have these standard streams.
    #[must_use]
    pub fn new(streams: StandardStreams) -> Self {
        Self {
            streams,
            open_files: None,
            bound: Bound::None,
        }
    }

    /// Bounds the bytes that are collected of each stream; a command that writes more is killed, and running it is an error
    /// that says so. Without this, output takes as much memory as it likes.
    #[must_use]
    pub fn output_limit(mut self, bytes: Option<usize>) -> Self {
        self.bound = bytes.map_or(Bound::None, Bound::Error);
        self
    }

    /// Keeps at most so many bytes of each stream, of more the first and the last half; [`ShellOutput::stdout_gap`] and
    /// [`ShellOutput::stderr_gap`] say what is missing. The command goes on. Takes the place of [`Self::output_limit`].
    #[must_use]
    pub fn output_ends(mut self, bytes: usize) -> Self {
        self.bound = Bound::Ends(bytes);
        self
    }

    /// Gives shells these limits of open files (soft, hard) instead of the host's.
    #[must_use]
    pub fn open_files(mut self, limits: Option<(u64, u64)>) -> Self {
        self.open_files = limits;
        self
    }
}

impl ShellCommandExecutor for LocalExecutor {
    async fn run(&self, command: ShellCommand) -> io::Result<ShellOutput> {
        let cancelled = command.cancelled.clone();
        let (mut streams, mut captures) = self.standard_streams()?;
        let number = command.socket.number();
        streams.push((command.socket.0, number));
        let program = HostProgram {
            program: command.program,
            argv: command.argv,
            workdir: command.workdir,
            env: command.env,
        };
        let open_files = self.open_files;
        let placement = match self.streams {
            StandardStreams::Captured => Placement::OwnGroup,
            StandardStreams::Inherited => Placement::Group(getpgrp()),
        };
        let start = move || start_of_host(program, streams, placement, open_files, None);
        let started = tokio::task::spawn_blocking(start);
        let mut tree = started.await.map_err(io::Error::other)??;
        let ended = tokio::select! {
            ending = shell_end(&mut tree) => ending,
            () = cancelled.cancelled() => Ok(Ending::Killed(libc::SIGKILL)),
            error = captures.read() => Err(error),
        };
        // End every process that could still write, then read the rest.
        let survivors = tree.end().await;
        let (exit_code, signal) = match ended? {
            Ending::Exited(code) => (code, None),
            Ending::Killed(signal) => (128 + signal, Some(signal)),
        };
        let (stdout, stderr) = captures.finish()?;
        Ok(ShellOutput {
            exit_code,
            signal,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            stdout_gap: stdout.gap,
            stderr_gap: stderr.gap,
            survivors,
        })
    }

    fn confine(&self, shell: ShellStart) -> io::Result<ShellStart> {
        Ok(shell)
    }
}

type Streams = Vec<(OwnedFd, RawFd)>;

impl LocalExecutor {
    fn standard_streams(&self) -> io::Result<(Streams, Captures)> {
        match self.streams {
            StandardStreams::Inherited => {
                let mut streams = Vec::new();
                for number in 0..=2 {
                    // SAFETY: borrowed only to be duplicated; a closed number is an error of that call.
                    let own = unsafe { BorrowedFd::borrow_raw(number) };
                    match own.try_clone_to_owned() {
                        Ok(copy) => streams.push((copy, number)),
                        // A stream that is closed here stays closed in the shell.
                        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok((streams, Captures::none()))
            }
            StandardStreams::Captured => {
                let null = File::open("/dev/null")?;
                let (captures, [stdout, stderr]) = Captures::both(self.bound)?;
                Ok((vec![(null.into(), 0), (stdout, 1), (stderr, 2)], captures))
            }
        }
    }
}

/// A program that the host itself starts.
#[derive(Debug)]
pub(crate) struct HostProgram {
    pub(crate) program: PathBuf,
    /// Its arguments, `argv[0]` included.
    pub(crate) argv: Vec<OsString>,
    /// Absolute working directory.
    pub(crate) workdir: PathBuf,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
}

/// Starts a program of the host's own, with these descriptors, in the session of `leader` if there is one. Blocks for the start
/// of a process.
///
/// # Errors
/// When the program or its working directory can't be opened, or no process can be made.
pub(crate) fn start_of_host(
    command: HostProgram,
    descriptors: Vec<(OwnedFd, RawFd)>,
    placement: Placement,
    open_files: Option<(u64, u64)>,
    leader: Option<&SessionLeader>,
) -> io::Result<Tree> {
    let name = |error: &io::Error, path: &OsStr| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let workdir = open_directory(command.workdir.as_os_str(), Wait::Allowed)
        .map_err(|error| name(&error, command.workdir.as_os_str()))?;
    let program = PinnedFile::of_host(workdir.descriptor(), command.program.as_os_str())
        .map_err(|error| name(&error, command.program.as_os_str()))?;
    let error_prefix = [
        b"shell-escalation: ",
        command.program.as_os_str().as_bytes(),
        b": ",
    ]
    .concat();
    let spawn = Spawn {
        program: Ok(Executable::of_host(program)),
        path: command.program.into(),
        argv: command.argv,
        env: command.env,
        workdir: Ok(workdir.into_descriptor()),
        umask: None,
        attributes: Attributes::with_open_files(open_files),
        descriptors,
        placement,
        error_prefix,
    };
    Tree::spawn_in(spawn, leader).map_err(|error| match error {
        SpawnError::System(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other.to_string()),
    })
}

/// Waits for the shell itself, not for what it leaves running.
async fn shell_end(tree: &mut Tree) -> io::Result<Ending> {
    loop {
        match tree.next_event().await {
            Some(Report::Ended(ending)) => return Ok(ending),
            Some(Report::Failed(StartFailure { stage, errno })) => {
                return Err(io::Error::new(
                    io::Error::from(errno).kind(),
                    format!("the shell could not be started: {stage} failed: {errno}"),
                ));
            }
            Some(Report::Kept(_) | Report::Started(_) | Report::Stopped(..) | Report::Emptied) => {}
            None => return Err(io::Error::other("the shell's supervisor was killed")),
        }
    }
}
