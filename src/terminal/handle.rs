//! One terminal: what the host's calls and the task that attends to its program share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::buffer::Buffer;
use super::error::Error;
use super::id::TerminalId;
use super::output::{End, Output};
use super::request::Size;
use super::streams::{HostStreams, Input, write_all};
use crate::execution::Survivor;

/// A terminal as the host's calls see it.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) id: TerminalId,
    pub(super) backend: Backend,
    pub(super) shared: Arc<Shared>,
    streams: HostStreams,
    /// Where input is written to, one call after the other; `None` once it is closed.
    input: tokio::sync::Mutex<Option<Input>>,
    /// For the program's process group.
    signals: mpsc::UnboundedSender<i32>,
    /// Cancelled when the terminal is to end.
    ended: CancellationToken,
    /// What could not be ended, once all else has been.
    left: watch::Receiver<Option<Vec<Survivor>>>,
    /// How long output has to stay away to be seen as paused.
    pause: Duration,
}

/// What the task tells the calls.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// What a program has written, and what became of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) buffer: Buffer,
    /// Whether the program had nothing more to read when it was looked at last.
    pub(super) paused: bool,
    /// When output came last.
    pub(super) last_output: Instant,
    /// How the program ended, and how many bytes had been written by then.
    end: Option<(End, u64)>,
}

impl State {
    /// How the program ended, if it has.
    pub(super) fn end(&self) -> Option<End> {
        self.end.map(|(end, _)| end)
    }

    /// The program has ended, and what it wrote before is in the buffer.
    pub(super) fn set_end(&mut self, end: End) {
        self.end = Some((end, self.buffer.written()));
    }

    /// The end, once all that was written before has been read.
    fn end_to_tell(&self) -> Option<End> {
        let (end, written) = self.end?;
        (self.buffer.read() >= written).then_some(end)
    }
}

/// Where the task passes output on.
#[derive(Debug)]
pub(super) struct OutputEnd {
    pub(super) shared: Arc<Shared>,
    pub(super) streams: HostStreams,
}

/// What the task keeps.
#[derive(Debug)]
pub(super) struct TaskEnd {
    pub(super) output: OutputEnd,
    pub(super) signals: mpsc::UnboundedReceiver<i32>,
    pub(super) ended: CancellationToken,
    pub(super) left: watch::Sender<Option<Vec<Survivor>>>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all that wait for a change.
    pub(super) fn tell(&self) {
        self.changed.notify_waiters();
    }
}

/// A terminal, and what its task keeps of it.
pub(super) fn terminal(
    id: TerminalId,
    backend: Backend,
    streams: HostStreams,
    input: Input,
    (output_limit, pause): (usize, Duration),
    ended: CancellationToken,
) -> (Terminal, TaskEnd) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            buffer: Buffer::new(output_limit),
            paused: false,
            last_output: Instant::now(),
            end: None,
        }),
        changed: Notify::new(),
    });
    let (signals, received_signals) = mpsc::unbounded_channel();
    let (left_sender, left) = watch::channel(None);
    let task_end = TaskEnd {
        output: OutputEnd {
            shared: Arc::clone(&shared),
            streams: streams.clone(),
        },
        signals: received_signals,
        ended: ended.clone(),
        left: left_sender,
    };
    let terminal = Terminal {
        id,
        backend,
        shared,
        streams,
        input: tokio::sync::Mutex::new(Some(input)),
        signals,
        ended,
        left,
        pause,
    };
    (terminal, task_end)
}

impl Terminal {
    /// How the program ended, if it has.
    pub(super) fn end(&self) -> Option<End> {
        self.shared.state().end()
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let writing = async {
            let input = self.input.lock().await;
            let input = input.as_ref().ok_or(Error::NotReading(self.id))?;
            write_all(input, bytes)
                .await
                .map_err(|error| match Errno::try_from(error) {
                    Ok(Errno::EPIPE | Errno::EIO) => Error::NotReading(self.id),
                    Ok(errno) => Error::System(self.id, errno.into()),
                    Err(error) => Error::System(self.id, error),
                })
        };
        self.unless_ended(writing).await
    }

    pub(super) async fn close_input(&self) -> Result<(), Error> {
        let of_system = |error| Error::System(self.id, error);
        if self.streams.terminal().is_some() {
            let end_of_file = self.streams.end_of_file().map_err(of_system)?;
            return self.write(end_of_file.as_slice()).await;
        }
        // After what is being written.
        let closing = async {
            self.input.lock().await.take();
            Ok(())
        };
        self.unless_ended(closing).await
    }

    /// Waits for output as long as `yield_time`, and takes it.
    pub(super) async fn read(&self, yield_time: Duration, limit: usize) -> Output {
        let _ = tokio::time::timeout(yield_time, self.something_to_read()).await;
        let mut state = self.shared.state();
        let mut output = state.buffer.take(limit);
        output.end = state.end_to_tell();
        output
    }

    /// Completes when there is output and no more comes at the moment, or the program has ended.
    async fn something_to_read(&self) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Before looking: what changes afterwards is noticed.
            changed.as_mut().enable();
            let pause_ends = {
                let state = self.shared.state();
                if state.end().is_some() {
                    return;
                }
                let has_paused = state.paused && !state.buffer.is_empty();
                has_paused.then(|| state.last_output + self.pause)
            };
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                () = is_over(pause_ends) => return,
                () = changed => {}
            }
        }
    }

    pub(super) fn resize(&self, size: Size) -> Result<(), Error> {
        match self.streams.resize(size) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NoSize(self.id)),
            Err(error) => Err(Error::System(self.id, error)),
        }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Error> {
        if !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(Error::NoSignal(signal));
        }
        if self.end().is_some() {
            return Err(Error::Ended(self.id));
        }
        match self.streams.signal_foreground(signal) {
            Ok(true) => Ok(()),
            Ok(false) => self.signals.send(signal).map_err(|_| Error::Unknown(self.id)),
            Err(error) => Err(Error::System(self.id, error)),
        }
    }

    /// Ends everything, and waits for that.
    pub(super) async fn close(&self) -> Vec<Survivor> {
        self.ended.cancel();
        let mut left = self.left.clone();
        match left.wait_for(Option::is_some).await {
            Ok(left) => left.clone().unwrap_or_default(),
            // The runtime is being shut down, and its tasks are dropped: that ends all as well.
            Err(_) => Vec::new(),
        }
    }

    async fn unless_ended<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(Error::Unknown(self.id)),
            output = future => output,
        }
    }
}

impl Drop for Terminal {
    /// No call can end it any more.
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Completes when that time has come; never if there is none.
async fn is_over(time: Option<Instant>) {
    match time {
        Some(time) if time <= Instant::now() => {}
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
