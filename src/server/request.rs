//! One worker a request: reads it, asks, answers, and stays with the escalated child to its end.
//!
//! Whatever goes wrong, the stream is closed and nothing runs: that is all that a wrapper needs to fail closed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::handshake::IdleStream;
use crate::audit::Entry;
use crate::execution::{
    Ending, FilesAtDecision, PreparedExec, Refusal, Report, Stage, StartFailure, Tree, spawn_escalated,
};
use crate::policy::{Action, Decision, PolicyError, PolicyRequest, child_environment, resolve};
use crate::protocol::{
    self, DescriptorMessage, ProtocolError, Reply, Request, ResultMessage, SignalMessage, StoppedMessage,
};
use crate::session::SessionCore;
use crate::stream::{Frame, RequestStream, StreamError};

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the policy failed: {0}")]
    Policy(PolicyError),
    #[error("the policy panicked")]
    PolicyPanicked,
    #[error("the executor refused: {0}")]
    Executor(std::io::Error),
    #[error("a message did not come in time")]
    TimedOut,
    #[error("closed to make room: too many streams without a request")]
    Evicted,
    #[error("too many open requests in this session")]
    TooManyRequests,
    #[error("the wrapper has gone")]
    WrapperGone,
    #[error("the session has ended")]
    SessionEnded,
    #[error("the process's supervisor was killed")]
    SupervisorLost,
    #[error("a worker thread panicked")]
    WorkerPanicked,
}

/// Serves one request stream to its end.
pub(super) async fn serve(
    session: Arc<SessionCore>,
    stream: OwnedFd,
    number: u64,
    peer: Option<i32>,
    idle: IdleStream,
) {
    let mut entry = Entry::new(number, session.settings.audit.clone());
    let served = match Worker::new(session, stream, peer) {
        Ok(worker) => worker.serve(idle, &mut entry).await,
        Err(error) => Err(StreamError::from(error).into()),
    };
    match &served {
        Ok(()) => {}
        Err(error @ (RequestError::SessionEnded | RequestError::WrapperGone)) => {
            tracing::debug!(%error, "request ended early");
        }
        Err(error) => tracing::warn!(%error, "request closed"),
    }
    if let Err(error) = &served {
        entry.write(Some(error.to_string()));
    }
}

struct Worker {
    session: Arc<SessionCore>,
    stream: RequestStream,
    peer: Option<i32>,
}

impl Worker {
    fn new(session: Arc<SessionCore>, stream: OwnedFd, peer: Option<i32>) -> std::io::Result<Self> {
        let stream = RequestStream::new(stream, session.settings.limits.frame, &session.memory)?;
        Ok(Self {
            session,
            stream,
            peer,
        })
    }

    async fn serve(mut self, idle: IdleStream, entry: &mut Entry) -> Result<(), RequestError> {
        let session = Arc::clone(&self.session);
        let frame = tokio::select! {
            biased;
            () = session.ended.cancelled() => return Err(RequestError::SessionEnded),
            () = idle.evicted() => return Err(RequestError::Evicted),
            frame = self.message(false) => frame?,
        };
        let permit = Arc::clone(&session.open_requests).try_acquire_owned();
        let permit = permit.map_err(|_| RequestError::TooManyRequests)?;
        drop(idle);

        // Counted as long as the request's texts live, roughly.
        let Frame {
            payload,
            share: memory,
            ..
        } = frame;
        let looking = tokio::task::spawn_blocking(move || look(&payload));
        let (request, program, seen) = looking.await.map_err(|_| RequestError::WorkerPanicked)??;
        let Request {
            file,
            argv,
            workdir,
            env,
            umask,
        } = request;
        let question = Arc::new(PolicyRequest {
            session: session.id,
            program,
            canonical: seen.canonical.clone(),
            argv,
            workdir: workdir.into(),
            env,
            peer: self.peer,
            clock: Arc::clone(&session.clock),
        });
        entry.asked(&question);
        let decision = tokio::select! {
            biased;
            () = session.ended.cancelled() => return Err(RequestError::SessionEnded),
            () = self.stream.closed() => return Err(RequestError::WrapperGone),
            decision = self.decide(&question) => decision?,
        };
        tracing::info!(program = ?question.program, action = ?decision.action, rule = decision.rule, "decided");
        entry.decided(&decision);
        let reply = Reply {
            action: decision.action.clone(),
        };
        if decision.action != Action::Escalate {
            entry.write(None);
        }
        // Whoever has heard the answer may ask again at once.
        let permit = (decision.action == Action::Escalate).then_some(permit);
        tokio::select! {
            biased;
            () = session.ended.cancelled() => return Err(RequestError::SessionEnded),
            sent = self.in_time(self.stream.send(&reply)) => sent?,
        }
        let Some(permit) = permit else { return Ok(()) };
        let frame = tokio::select! {
            biased;
            () = session.ended.cancelled() => return Err(RequestError::SessionEnded),
            frame = self.message(true) => frame?,
        };
        let PolicyRequest {
            argv, workdir, env, ..
        } = Arc::unwrap_or_clone(question);
        let env = child_environment(env, &decision.keep_env);
        let exec = PreparedExec {
            file,
            argv,
            workdir,
            env,
            umask,
        };
        let (tree, signals) = self.start(exec, seen, frame).await?;
        drop(memory);
        self.attend(tree, signals, permit, entry).await
    }

    /// The next message of a wrapper that has no reason to take its time.
    async fn message(&mut self, with_descriptors: bool) -> Result<Frame, RequestError> {
        let limit = self.session.settings.limits.message_time;
        let receiving = async {
            if with_descriptors {
                self.stream.receive_with_descriptors().await
            } else {
                self.stream.receive().await
            }
        };
        match tokio::time::timeout(limit, receiving).await {
            Err(_) => Err(RequestError::TimedOut),
            Ok(frame) => frame?.ok_or(RequestError::WrapperGone),
        }
    }

    async fn in_time<T>(
        &self,
        sending: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, RequestError> {
        let limit = self.session.settings.limits.message_time;
        let sent = tokio::time::timeout(limit, sending)
            .await
            .map_err(|_| RequestError::TimedOut)?;
        Ok(sent?)
    }

    /// Asks the policy in a task of its own, so that a panic ends there.
    async fn decide(&self, question: &Arc<PolicyRequest>) -> Result<Decision, RequestError> {
        let (policy, question) = (Arc::clone(&self.session.settings.policy), Arc::clone(question));
        let task = tokio::spawn(async move { policy.decide(&question).await });
        match AbortOnDropHandle::new(task).await {
            Ok(decision) => decision.map_err(RequestError::Policy),
            Err(_) => Err(RequestError::PolicyPanicked),
        }
    }

    async fn start(
        &self,
        exec: PreparedExec,
        seen: FilesAtDecision,
        frame: Frame,
    ) -> Result<(Tree, bool), RequestError> {
        let message: DescriptorMessage = protocol::parse(&frame.payload)?;

        let settings = &self.session.settings;
        let exec = tokio::select! {
            biased;
            () = self.session.ended.cancelled() => return Err(RequestError::SessionEnded),
            () = self.stream.closed() => return Err(RequestError::WrapperGone),
            exec = settings.executor.prepare(exec) => exec.map_err(RequestError::Executor)?,
        };
        let open_files = settings.limits.child_open_files;
        let starting = tokio::task::spawn_blocking(move || {
            spawn_escalated(exec, &seen, &message.fds, frame.descriptors, open_files)
        });
        // Not to be given up half-way: whatever was started must be ended and reaped.
        let tree = starting.await.map_err(|_| RequestError::WorkerPanicked)??;
        Ok((tree, message.signals))
    }

    /// Stays with the child: passes signals on, reports stops and the end, and ends the tree with its owner.
    async fn attend(
        mut self,
        mut tree: Tree,
        signals: bool,
        permit: OwnedSemaphorePermit,
        entry: &mut Entry,
    ) -> Result<(), RequestError> {
        let ended = self.session.ended.clone();
        let result = loop {
            let event = tokio::select! {
                biased;
                () = ended.cancelled() => {
                    tree.end().await;
                    return Err(RequestError::SessionEnded);
                }
                event = tree.next_event() => event,
                frame = self.stream.receive() => {
                    let error = match frame.map_err(RequestError::from).and_then(signal_of) {
                        Ok(signal) => {
                            tree.signal(signal);
                            continue;
                        }
                        Err(error) => error,
                    };
                    tree.end().await;
                    return Err(error);
                }
            };
            match event {
                Some(Report::Started(pid)) => tracing::debug!(%pid, "child started"),
                Some(Report::Stopped(signal)) if signals => {
                    if let Err(error) = self.tell(&StoppedMessage { stopped: signal }).await {
                        tree.end().await;
                        return Err(error);
                    }
                }
                Some(Report::Stopped(_)) => {}
                Some(Report::Ended(ending)) => break result_of(ending),
                Some(Report::Failed(failure)) => {
                    tracing::info!(?failure, "child could not be started");
                    match failure.stage {
                        Stage::Supervisor | Stage::Descriptors => {
                            tree.end().await;
                            return Err(Refusal::System(failure.errno.into()).into());
                        }
                        Stage::Workdir | Stage::Swapped | Stage::Execute => break failure_result(failure),
                    }
                }
                None => return Err(RequestError::SupervisorLost),
            }
        };
        entry.ended(result);
        drop(permit);
        let told = self.tell(&result).await;
        self.stream.drain();
        let Self { session, stream, .. } = self;
        drop(stream);
        // What the child left running may run until its session ends, unless that gets too much.
        let Ok(_left_running) = session.left_running.try_acquire() else {
            tracing::warn!("too many processes left running: killing those of this request");
            tree.end().await;
            return told;
        };
        loop {
            tokio::select! {
                biased;
                () = session.ended.cancelled() => {
                    tree.end().await;
                    return told;
                }
                event = tree.next_event() => if event.is_none() { return told },
            }
        }
    }

    async fn tell<T: serde::Serialize>(&self, message: &T) -> Result<(), RequestError> {
        tokio::select! {
            biased;
            () = self.session.ended.cancelled() => Err(RequestError::SessionEnded),
            sent = self.in_time(self.stream.send(message)) => sent,
            () = self.stream.closed() => Err(RequestError::WrapperGone),
        }
    }
}

/// Parses a request and looks at its files; both may take their time.
fn look(payload: &[u8]) -> Result<(Request, PathBuf, FilesAtDecision), RequestError> {
    let request = Request::parse(payload)?;
    let program = resolve(Path::new(&request.workdir), Path::new(&request.file));
    let seen = FilesAtDecision::look(&request, program.as_os_str())?;
    Ok((request, program, seen))
}

fn signal_of(frame: Option<Frame>) -> Result<i32, RequestError> {
    let frame = frame.ok_or(RequestError::WrapperGone)?;
    let SignalMessage { signal } = protocol::parse(&frame.payload)?;
    if (1..=libc::SIGRTMAX()).contains(&signal) {
        Ok(signal)
    } else {
        Err(ProtocolError::Impossible("there is no such signal").into())
    }
}

fn result_of(ending: Ending) -> ResultMessage {
    match ending {
        Ending::Exited(code) => ResultMessage {
            exit_code: code,
            signal: None,
        },
        Ending::Killed(signal) => ResultMessage {
            exit_code: 128 + signal,
            signal: Some(signal),
        },
    }
}

/// As shells have it: 127 for what isn't there, 126 for what can't be executed.
fn failure_result(failure: StartFailure) -> ResultMessage {
    let missing = matches!(failure.errno, Errno::ENOENT | Errno::ENOTDIR) && failure.stage == Stage::Execute;
    ResultMessage {
        exit_code: if missing { 127 } else { 126 },
        signal: None,
    }
}
