//! All terminals of a host.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::attendant::{Start, attend};
use super::backend::{Backend, ShellBackend};
use super::error::Error;
use super::handle::{Terminal, terminal};
use super::id::TerminalId;
use super::output::{End, Output};
use super::registry::{Place, Registry, registry};
use super::request::{ExecRequest, Size};
use super::streams;
use crate::execution::Survivor;

/// What terminals are like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What prepares the programs.
    pub backend: ShellBackend,
    /// When this is cancelled, all terminals end.
    pub parent: CancellationToken,
    /// How many there may be, ended ones included. Opening one more prunes one: ended ones before others, and those first that
    /// have not been used for longest. Default: 64.
    pub most: usize,
    /// So many that were used last are not pruned. Default: 8.
    pub protected: usize,
    /// How many bytes of output are kept per terminal until they are read; of more, the first and the last half. Default: 1 MiB.
    pub output_limit: usize,
    /// How long output has to stay away for [`Terminals::read`] to see a pause. Default: zero, so that what the program has
    /// written is read as soon as there is nothing more at the moment.
    pub pause: Duration,
    /// Soft and hard limit of open files of the programs, if they differ from this process's.
    pub open_files: Option<(u64, u64)>,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(backend: ShellBackend) -> Self {
        Self {
            backend,
            parent: CancellationToken::new(),
            most: 64,
            protected: 8,
            output_limit: 1024 * 1024,
            pause: Duration::ZERO,
            open_files: None,
        }
    }
}

/// A terminal as [`Terminals::list`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its id.
    pub id: TerminalId,
    /// Whether its commands are decided.
    pub backend: Backend,
    /// How its program has ended, if it has.
    pub end: Option<End>,
}

/// The terminals of a host. They end when this is dropped, when they are closed or pruned, when [`Config::parent`] is
/// cancelled, and with this process, even if that is killed: their programs with all that they have started, pending decisions,
/// and escalated commands.
///
/// All methods must be called within a tokio runtime with I/O and time enabled. Each call about a terminal uses it, in the sense
/// of [`Config::most`].
#[derive(Debug)]
pub struct Terminals {
    config: Config,
    registry: Arc<Mutex<Registry>>,
    /// Cancelled when all terminals are to end.
    ended: CancellationToken,
    /// The tasks that attend to the programs.
    attending: TaskTracker,
    _end_on_drop: DropGuard,
}

impl Terminals {
    /// None yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let ended = config.parent.child_token();
        Self {
            registry: Arc::new(Mutex::new(Registry::new(config.most, config.protected))),
            attending: TaskTracker::new(),
            _end_on_drop: ended.clone().drop_guard(),
            ended,
            config,
        }
    }

    /// Starts a program in a new terminal. If there are too many, another one is ended first. Dropping the future starts nothing
    /// or ends what was started.
    ///
    /// # Errors
    /// [`Error::Start`] if the program can't be started, [`Error::Ending`], and [`Error::Full`].
    pub async fn open(&self, request: ExecRequest) -> Result<TerminalId, Error> {
        self.open_with(request, &self.config.backend, &self.config.parent)
            .await
    }

    /// The same with another backend, and with a parent of its own, whose cancellation ends it, too.
    ///
    /// # Errors
    /// The same.
    pub async fn open_with(
        &self,
        request: ExecRequest,
        backend: &ShellBackend,
        parent: &CancellationToken,
    ) -> Result<TerminalId, Error> {
        if self.ended.is_cancelled() || parent.is_cancelled() {
            return Err(Error::Ending);
        }
        let (place, pruned) = Place::take(&self.registry)?;
        for terminal in pruned {
            tracing::info!(id = %terminal.id, "terminal closed to make room for another one");
            terminal.close().await;
        }
        let program = request.program.display().to_string();
        let cannot_start = |error| Error::Start { program, error };
        let ended = self.ended.child_token();
        let (started, terminal) = match self.begin(request, backend, place.id, &ended, parent) {
            Ok(begun) => begun,
            Err(error) => return Err(cannot_start(error)),
        };
        let started = tokio::select! {
            biased;
            () = ended.cancelled() => return Err(Error::Ending),
            () = parent.cancelled() => return Err(Error::Ending),
            started = started => started.unwrap_or_else(|_| Err(io::Error::other("the attending task was dropped"))),
        };
        started.map_err(cannot_start)?;
        place.fill(terminal, &self.ended)
    }

    /// Begins to start a program. Dropping the terminal ends it at any time.
    fn begin(
        &self,
        request: ExecRequest,
        backend: &ShellBackend,
        id: TerminalId,
        ended: &CancellationToken,
        parent: &CancellationToken,
    ) -> io::Result<(oneshot::Receiver<io::Result<()>>, Terminal)> {
        let (ours, input, theirs) = streams::open(request.streams)?;
        let prepared = backend.prepare(request, ended)?;
        let limits = (self.config.output_limit, self.config.pause);
        let (terminal, task) = terminal(id, prepared.backend, ours, input, limits, ended.clone());
        let start = Start {
            prepared,
            theirs,
            open_files: self.config.open_files,
        };
        let (sender, started) = oneshot::channel();
        self.attending.spawn(attend(start, task, parent.clone(), sender));
        Ok((started, terminal))
    }

    /// Writes all of it to the program's standard input; waits as long as the program does not read. Writes of several callers
    /// follow each other. If the future is dropped, part of it may have been written.
    ///
    /// # Errors
    /// [`Error::NotReading`] and [`Error::Unknown`].
    pub async fn write(&self, id: TerminalId, bytes: &[u8]) -> Result<(), Error> {
        self.used(id)?.write(bytes).await
    }

    /// Ends standard input: closes the pipe, or types the end-of-file character (mostly Ctrl-D) on a pseudo-terminal, where that
    /// only has an effect at the start of a line, and if the program wants it to have one.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn close_input(&self, id: TerminalId) -> Result<(), Error> {
        self.used(id)?.close_input().await
    }

    /// Takes what the program has written since the last read. If that is nothing yet, waits up to `yield_time`, and returns as
    /// soon as there is something and the program [pauses](Config::pause), or has ended. Returns at most `limit` bytes; the rest
    /// comes with the next read. To a program that has ended, there may be more to read from what it left running.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn read(&self, id: TerminalId, yield_time: Duration, limit: usize) -> Result<Output, Error> {
        Ok(self.used(id)?.read(yield_time, limit).await)
    }

    /// Changes the size of a pseudo-terminal, of which its foreground process group is told (SIGWINCH).
    ///
    /// # Errors
    /// [`Error::NoSize`] and [`Error::Unknown`].
    pub fn resize(&self, id: TerminalId, size: Size) -> Result<(), Error> {
        self.used(id)?.resize(size)
    }

    /// Sends a signal to the foreground process group of a pseudo-terminal, as keys do, or to the program's process group where
    /// there are pipes.
    ///
    /// # Errors
    /// [`Error::Ended`] and [`Error::Unknown`].
    pub fn signal(&self, id: TerminalId, signal: Signal) -> Result<(), Error> {
        self.signal_number(id, signal as i32)
    }

    /// The same by number, for signals that have no name.
    ///
    /// # Errors
    /// The same, and [`Error::NoSignal`].
    pub fn signal_number(&self, id: TerminalId, signal: i32) -> Result<(), Error> {
        self.used(id)?.signal(signal)
    }

    /// Ends a terminal with everything that it has started, and waits for that, for about three seconds at most. Returns the
    /// processes that could not be ended, see [`EscalationSession::close`](crate::EscalationSession::close). Output that was not
    /// read is lost.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn close(&self, id: TerminalId) -> Result<Vec<Survivor>, Error> {
        let terminal = registry(&self.registry).remove(id);
        Ok(terminal.ok_or(Error::Unknown(id))?.close().await)
    }

    /// All terminals, those used last first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let registry = registry(&self.registry);
        let listed = registry.by_use().rev().map(|terminal| Listed {
            id: terminal.id,
            backend: terminal.backend,
            end: terminal.end(),
        });
        listed.collect()
    }

    /// Ends all terminals as [`close`](Self::close) does, and waits for that, also for those that are being opened, closed or
    /// pruned by other calls. No terminal can be opened any more.
    pub async fn end(&self) -> Vec<Survivor> {
        self.ended.cancel();
        let mut left = Vec::new();
        loop {
            let terminal = registry(&self.registry).pop();
            let Some(terminal) = terminal else { break };
            left.extend(terminal.close().await);
        }
        self.attending.close();
        self.attending.wait().await;
        left
    }

    /// The terminal, which is used now.
    fn used(&self, id: TerminalId) -> Result<Arc<Terminal>, Error> {
        registry(&self.registry).used(id).ok_or(Error::Unknown(id))
    }
}
