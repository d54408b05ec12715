//! The task that attends to a terminal's program, from its start until nothing of it is left.

use std::io;
use std::os::fd::AsRawFd;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backend::Prepared;
use super::handle::{OutputEnd, TaskEnd};
use super::lifecycle::SpawnLifecycle;
use super::output::End;
use super::request::ExecRequest;
use super::streams::{Chunk, HostStreams, ProgramStreams};
use crate::execution::{
    Ending, HostProgram, Placement, Report, SessionLeader, StartFailure, Survivor, Tree, start_of_host,
};

/// How much is read at a time. A pseudo-terminal gives less than 4 KiB.
const CHUNK: usize = 64 * 1024;

/// After so many chunks others get their turn.
const CHUNKS_PER_TURN: usize = 16;

/// A program that runs, and all that belongs to it.
#[derive(Debug)]
pub(super) struct Program {
    tree: Tree,
    leader: Option<SessionLeader>,
    lifecycle: SpawnLifecycle,
}

/// Starts what was prepared. Afterwards nothing of the program's ends is open here.
///
/// # Errors
/// When the program can't be started; then nothing is left of it.
pub(super) async fn start(
    prepared: Prepared,
    theirs: ProgramStreams,
    ours: &HostStreams,
    open_files: Option<(u64, u64)>,
) -> io::Result<Program> {
    let Prepared {
        request, lifecycle, ..
    } = prepared;
    let ours = ours.clone();
    let starting = tokio::task::spawn_blocking(move || {
        let mut lifecycle = lifecycle;
        let started = spawn(request, &lifecycle, theirs, &ours, open_files);
        lifecycle.after_spawn();
        (started, lifecycle)
    });
    let (started, lifecycle) = starting.await.map_err(io::Error::other)?;
    let (tree, leader) = match started {
        Ok(started) => started,
        Err(error) => {
            lifecycle.end().await;
            return Err(error);
        }
    };
    let mut program = Program {
        tree,
        leader,
        lifecycle,
    };
    match program.runs().await {
        Ok(()) => Ok(program),
        Err(error) => {
            program.end().await;
            Err(error)
        }
    }
}

fn spawn(
    request: ExecRequest,
    lifecycle: &SpawnLifecycle,
    theirs: ProgramStreams,
    ours: &HostStreams,
    open_files: Option<(u64, u64)>,
) -> io::Result<(Tree, Option<SessionLeader>)> {
    let leader = ours.terminal().map(SessionLeader::start).transpose()?;
    if let Some(leader) = &leader {
        lifecycle.on_terminal(leader);
    }
    let placement = match leader {
        Some(_) => Placement::Foreground,
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
    let tree = start_of_host(program, descriptors, placement, open_files, leader.as_ref())?;
    Ok((tree, leader))
}

impl Program {
    /// Completes when the program has been executed.
    async fn runs(&mut self) -> io::Result<()> {
        loop {
            match self.tree.next_event().await {
                Some(Report::Started(_)) => return Ok(()),
                Some(Report::Failed(StartFailure { stage, errno })) => {
                    let kind = io::Error::from(errno).kind();
                    return Err(io::Error::new(kind, format!("{stage} failed: {errno}")));
                }
                Some(Report::Kept(_) | Report::Stopped(_) | Report::Ended(_)) => {}
                None => return Err(io::Error::other("its supervisor was killed")),
            }
        }
    }

    /// Ends everything, and waits for that.
    async fn end(self) -> Vec<Survivor> {
        let (mut left, escalated) = tokio::join!(self.tree.end(), self.lifecycle.end());
        left.extend(escalated);
        if let Some(leader) = self.leader
            && left.is_empty()
        {
            leader.retire().await;
        }
        left
    }
}

/// Attends to a program until the terminal or its parent ends, then ends all that belongs to it.
pub(super) async fn attend(mut program: Program, task: TaskEnd, parent: CancellationToken) {
    let TaskEnd {
        output,
        mut signals,
        ended,
        left,
    } = task;
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
                    // Else this has no effect.
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
