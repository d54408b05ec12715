//! The task that attends to a terminal's program, from its start until nothing of it is left.

use std::io;
use std::os::fd::AsRawFd;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backend::Prepared;
use super::handle::{OutputEnd, TaskEnd};
use super::lifecycle::SpawnLifecycle;
use super::output::End;
use super::request::ExecRequest;
use super::streams::{Chunk, HostStreams, ProgramStreams};
use crate::execution::{
    ENDING_TIME, Ending, HostProgram, Placement, Report, SessionLeader, StartFailure, Survivor, Tree,
    start_of_host,
};

/// How much is read at a time. A pseudo-terminal gives less than 4 KiB.
const CHUNK: usize = 64 * 1024;

/// After so many chunks others get their turn.
const CHUNKS_PER_TURN: usize = 16;

/// A program that runs, and all that belongs to it.
#[derive(Debug)]
struct Program {
    tree: Tree,
    belongings: Belongings,
}

/// What ends with a program.
#[derive(Debug)]
struct Belongings {
    leader: Option<SessionLeader>,
    lifecycle: SpawnLifecycle,
}

/// What a program is started with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) prepared: Prepared,
    pub(super) theirs: ProgramStreams,
    /// Soft and hard limit of open files.
    pub(super) open_files: Option<(u64, u64)>,
}

impl Start {
    /// Starts the program, unless one of `owners` is cancelled before it runs. Afterwards nothing of its ends is open here.
    ///
    /// # Errors
    /// When it can't be started; then nothing is left of it, or will be once a file system that doesn't answer does.
    async fn program(self, ours: &HostStreams, owners: [&CancellationToken; 2]) -> io::Result<Program> {
        let ours = ours.clone();
        let starting = tokio::task::spawn_blocking(move || {
            let Prepared {
                request, lifecycle, ..
            } = self.prepared;
            let mut belongings = Belongings {
                leader: None,
                lifecycle,
            };
            let tree = belongings.lead(&ours).and_then(|()| {
                let leader = belongings.leader.as_ref();
                spawn(
                    request,
                    &belongings.lifecycle,
                    self.theirs,
                    self.open_files,
                    leader,
                )
            });
            belongings.lifecycle.after_spawn();
            (tree, belongings)
        });
        let overdue = async {
            one_cancelled(owners).await;
            tokio::time::sleep(ENDING_TIME).await;
        };
        let (tree, belongings) = tokio::select! {
            biased;
            started = starting => started.map_err(io::Error::other)?,
            // What has been started by then is dropped, which ends it.
            () = overdue => return Err(ended_before()),
        };
        let mut tree = match tree {
            Ok(tree) => tree,
            Err(error) => {
                belongings.end().await;
                return Err(error);
            }
        };
        let runs = tokio::select! {
            biased;
            runs = runs(&mut tree) => runs,
            () = one_cancelled(owners) => Err(ended_before()),
        };
        let program = Program { tree, belongings };
        match runs {
            Ok(()) => Ok(program),
            Err(error) => {
                program.end().await;
                Err(error)
            }
        }
    }
}

fn spawn(
    request: ExecRequest,
    lifecycle: &SpawnLifecycle,
    theirs: ProgramStreams,
    open_files: Option<(u64, u64)>,
    leader: Option<&SessionLeader>,
) -> io::Result<Tree> {
    let placement = match leader {
        Some(leader) => {
            lifecycle.on_terminal(leader);
            Placement::Foreground
        }
        None => Placement::OwnGroup,
    };
    let mut descriptors = theirs.numbered()?;
    for descriptor in lifecycle.inherited_descriptors() {
        let number = descriptor.as_raw_fd();
        descriptors.push((descriptor.try_clone_to_owned()?, number));
    }
    let program = HostProgram {
        program: request.program,
        argv: request.argv,
        workdir: request.workdir,
        env: request.env,
    };
    start_of_host(program, descriptors, placement, open_files, leader)
}

/// Completes when one of them is cancelled.
async fn one_cancelled([one, other]: [&CancellationToken; 2]) {
    tokio::select! {
        () = one.cancelled() => {}
        () = other.cancelled() => {}
    }
}

fn ended_before() -> io::Error {
    io::Error::other("it was to end before it ran")
}

/// Completes when the program has been executed.
async fn runs(tree: &mut Tree) -> io::Result<()> {
    loop {
        match tree.next_event().await {
            Some(Report::Started(_)) => return Ok(()),
            Some(Report::Failed(StartFailure { stage, errno })) => {
                let kind = io::Error::from(errno).kind();
                return Err(io::Error::new(kind, format!("{stage} failed: {errno}")));
            }
            Some(Report::Kept(_) | Report::Stopped(..) | Report::Ended(_) | Report::Emptied) => {}
            None => return Err(io::Error::other("its supervisor was killed")),
        }
    }
}

impl Program {
    /// Ends everything, and waits for that.
    async fn end(self) -> Vec<Survivor> {
        let mut left = self.tree.end().await;
        left.extend(self.belongings.end().await);
        left
    }
}

impl Belongings {
    /// Starts the leader of a session on the terminal, if there is one.
    fn lead(&mut self, streams: &HostStreams) -> io::Result<()> {
        self.leader = streams.terminal().map(SessionLeader::start).transpose()?;
        Ok(())
    }

    /// Ends what was escalated, and then the leader.
    async fn end(self) -> Vec<Survivor> {
        let left = self.lifecycle.end().await;
        if let Some(leader) = self.leader {
            leader.retire().await;
        }
        left
    }
}

/// Starts a program, says whether it runs, and attends to it until the terminal or its parent ends; then ends all that belongs to
/// it. Runs on if the host has lost interest, so that everything ends in order.
pub(super) async fn attend(
    start: Start,
    task: TaskEnd,
    parent: CancellationToken,
    started: oneshot::Sender<io::Result<()>>,
) {
    let TaskEnd {
        output,
        mut signals,
        ended,
        left,
    } = task;
    let mut program = match start.program(&output.streams, [&ended, &parent]).await {
        Ok(program) => program,
        Err(error) => {
            // Else nobody wants to know.
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let mut buffer = vec![0; CHUNK];
    let (mut runs, mut writes) = (true, true);
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => break,
            () = parent.cancelled() => ended.cancel(),
            Some(signal) = signals.recv() => program.tree.signal(signal),
            event = program.tree.next_event(), if runs => match event {
                Some(Report::Ended(ending)) => output.program_ended(end_of(ending), &mut buffer),
                Some(_) => {}
                None => {
                    runs = false;
                    // Unless its end is known, it was killed together with its supervisor.
                    output.program_ended(End::Killed(libc::SIGKILL), &mut buffer);
                }
            },
            still_writes = output.read(&mut buffer), if writes => writes = still_writes,
        }
    }
    drop(buffer);
    left.send_replace(Some(program.end().await));
}

fn end_of(ending: Ending) -> End {
    match ending {
        Ending::Exited(status) => End::Exited(status),
        Ending::Killed(signal) => End::Killed(signal),
    }
}

impl OutputEnd {
    /// Reads until there is nothing at the moment; false if there will never be more. Cancel safe.
    async fn read(&self, buffer: &mut [u8]) -> bool {
        let Ok(mut ready) = self.streams.output.readable().await else {
            return false;
        };
        for _ in 0..CHUNKS_PER_TURN {
            match self.read_chunk(buffer) {
                Chunk::Bytes(_) => {}
                Chunk::Paused => {
                    ready.clear_ready();
                    return true;
                }
                Chunk::Closed => return false,
            }
        }
        tokio::task::yield_now().await;
        true
    }

    /// Reads once, without waiting, and tells those that wait if there is nothing more at the moment.
    fn read_chunk(&self, buffer: &mut [u8]) -> Chunk {
        let chunk = self.streams.read_now(buffer).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read what a terminal's program writes");
            Chunk::Closed
        });
        let mut state = self.shared.state();
        match chunk {
            Chunk::Bytes(bytes) => {
                state.buffer.push(&buffer[..bytes]);
                state.paused = false;
                state.last_output = Instant::now();
            }
            Chunk::Paused | Chunk::Closed => {
                state.paused = true;
                drop(state);
                self.shared.tell();
            }
        }
        chunk
    }

    /// Takes over what the program has written before its end, which is first known here.
    fn program_ended(&self, end: End, buffer: &mut [u8]) {
        if self.shared.state().end().is_some() {
            return;
        }
        let mut taken = 0;
        let most = self.streams.most_in_flight();
        while taken < most
            && let Chunk::Bytes(bytes) = self.read_chunk(buffer)
        {
            taken += bytes;
        }
        self.shared.state().set_end(end);
        self.shared.tell();
    }
}
