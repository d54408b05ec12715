//! One worker per request: reads it, asks the policy, replies, and stays with the escalated child until its end.
//!
//! Whatever goes wrong, the stream is closed and nothing runs: a wrapper needs no more than that to fail closed.

use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::OwnedSemaphorePermit;

use super::child::{Child, failure_result, result_of};
use super::core::{SessionCore, SessionEnded};
use super::error::RequestError;
use super::group::WrappersGroup;
use super::memory::RequestMemory;
use super::places::Place;
use super::question::Question;
use super::stops::Stops;
use crate::audit::Entry;
use crate::execution::{
    AtOnce, Attributes, FilesAtDecision, Foresight, Placement, Refusal, Report, Stage, Start, Started, Tree,
};
use crate::policy::{Action, Decision, PolicyRequest, taken_out};
use crate::protocol::{self, DescriptorMessage, ProtocolError, Reply, Request, ResultMessage, SignalMessage};
use crate::stream::{Frame, RequestStream};

/// Decoding fewer bytes than that takes less time than handing them to another thread.
const LARGE_PAYLOAD: usize = 64 * 1024;

/// Serves one request stream to its end.
pub(super) async fn serve(
    session: Arc<SessionCore>,
    stream: OwnedFd,
    number: u64,
    peer: Option<i32>,
    place: Place,
) {
    let mut entry = Entry::new(number, session.settings.audit.clone());
    let served = Worker::new(session, stream, peer, place).serve(&mut entry).await;
    match &served {
        Ok(()) => {}
        Err(error @ (RequestError::SessionEnded(_) | RequestError::WrapperGone)) => {
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
    place: Place,
}

impl Worker {
    fn new(session: Arc<SessionCore>, stream: OwnedFd, peer: Option<i32>, place: Place) -> Self {
        let stream = RequestStream::new(stream, session.settings.limits.frame, &session.memory);
        Self {
            session,
            stream,
            peer,
            place,
        }
    }

    /// Follows the protocol: request, decision, reply; then, for an escalated command, descriptors, child, result.
    async fn serve(mut self, entry: &mut Entry) -> Result<(), RequestError> {
        let session = Arc::clone(&self.session);
        let frame = session.until_ended(self.message(false)).await??;
        let permit = Arc::clone(&session.open_requests).try_acquire_owned();
        let permit = permit.map_err(|_| RequestError::TooManyRequests)?;
        self.place.decides();

        let Frame {
            payload,
            share: memory,
            ..
        } = frame;
        // Held about as long as the request's texts live.
        let memory = RequestMemory::new(memory);
        let (memory, question) = self.while_wrapper_waits(self.question(payload, memory)).await??;
        entry.asked(&question.asked);
        let decision = self.while_wrapper_waits(self.decide(&question.asked)).await??;
        tracing::info!(program = ?question.asked.program, action = ?decision.action, rule = decision.rule, "decided");
        if decision.action == Action::Escalate {
            let env = &question.asked.env;
            let taken_out = taken_out(env, &decision.child_env(env));
            if !taken_out.is_empty() {
                tracing::info!(names = ?taken_out, "variables that the escalated command does not get");
            }
            entry.taken_out(&taken_out);
        }
        let decision = entry.decided(decision);

        if decision.action != Action::Escalate {
            entry.write(None);
            // Release the permit before replying: the client may reconnect at once.
            drop(permit);
            return self.reply(&decision).await;
        }
        self.reply(&decision).await?;
        self.place.waits_with(0);
        let foresight = question.foresee();
        let frame = session.until_ended(self.message(true)).await??;
        if !self.place.runs() {
            return Err(RequestError::TooManyRunning);
        }
        let child = self.start(question, &decision, foresight, frame, entry).await?;
        drop(memory);
        self.attend(child, permit, entry).await
    }

    /// The next message of the wrapper, within `message_time` and unless the stream has to give way.
    async fn message(&mut self, with_descriptors: bool) -> Result<Frame, RequestError> {
        let limit = self.session.settings.limits.message_time;
        let (stream, place) = (&mut self.stream, &self.place);
        let receiving = async {
            if with_descriptors && let Some(descriptors) = stream.descriptors().await? {
                place.waits_with(descriptors);
            }
            stream.receive().await
        };
        tokio::select! {
            biased;
            () = place.evicted() => Err(RequestError::Evicted),
            frame = tokio::time::timeout(limit, receiving) => match frame {
                Err(_) => Err(RequestError::TimedOut),
                Ok(frame) => frame?.ok_or(RequestError::WrapperGone),
            },
        }
    }

    /// Sends one message, within `message_time`.
    async fn send<T: serde::Serialize>(&self, message: &T) -> Result<(), RequestError> {
        let limit = self.session.settings.limits.message_time;
        let sent = tokio::time::timeout(limit, self.stream.send(message)).await;
        Ok(sent.map_err(|_| RequestError::TimedOut)??)
    }

    /// The future's output, unless the session ends or the wrapper goes first. What is ready at once needs no look at the wrapper.
    async fn while_wrapper_waits<T>(&self, future: impl Future<Output = T>) -> Result<T, RequestError> {
        let output = async {
            tokio::select! {
                biased;
                output = future => Ok(output),
                () = self.stream.closed() => Err(RequestError::WrapperGone),
                () = self.place.evicted() => Err(RequestError::Evicted),
            }
        };
        self.session.until_ended(output).await?
    }

    /// Decodes the request and looks at its files. What would hold up others is done on threads of their own, which may outlive
    /// the request: they hold what it is counted by.
    async fn question(
        &self,
        payload: Vec<u8>,
        memory: RequestMemory,
    ) -> Result<(RequestMemory, Question), RequestError> {
        let (memory, request) = self.decode(payload, memory).await?;
        let (session, peer) = (Arc::clone(&self.session), self.peer);
        if let Some(files) = FilesAtDecision::look_at_once(&request)? {
            return Ok((memory, Question::new(request, files, &session, peer)));
        }
        let looks = self.session.looks.clone();
        let looking = looks.run(move || {
            let files = FilesAtDecision::look(&request)?;
            Ok((memory, Question::new(request, files, &session, peer)))
        });
        looking.await.map_err(|_| RequestError::WorkerPanicked)?
    }

    /// Decodes the request within the memory that is left for it.
    async fn decode(
        &self,
        payload: Vec<u8>,
        mut memory: RequestMemory,
    ) -> Result<(RequestMemory, Request), RequestError> {
        let is_small = payload.len() < LARGE_PAYLOAD;
        let permit = Arc::clone(&self.session.decoding).acquire_owned().await;
        let decode = move || {
            let _permit = permit;
            memory.resize(payload.len().saturating_add(Request::highest_cost(payload.len())))?;
            let request = Request::parse(&payload);
            // Before `memory`, which returns to the system what is free then.
            drop(payload);
            let request = request?;
            memory.resize(request.cost())?;
            Ok((memory, request))
        };
        if is_small {
            return decode();
        }
        let decoding = tokio::task::spawn_blocking(decode);
        decoding.await.map_err(|_| RequestError::WorkerPanicked)?
    }

    /// Asks the policy. Its panic ends here.
    async fn decide(&self, question: &PolicyRequest) -> Result<Decision, RequestError> {
        let policy = &self.session.settings.policy;
        let mut deciding = pin!(async { policy.decide(question).await });
        let decided = poll_fn(|context| {
            // After a panic it isn't polled again.
            match catch_unwind(AssertUnwindSafe(|| deciding.as_mut().poll(context))) {
                Ok(polled) => polled.map(Ok),
                Err(_) => Poll::Ready(Err(RequestError::PolicyPanicked)),
            }
        });
        decided.await?.map_err(RequestError::Policy)
    }

    async fn reply(&self, decision: &Decision) -> Result<(), RequestError> {
        let reply = Reply {
            action: decision.action.clone(),
        };
        self.session.until_ended(self.send(&reply)).await?
    }

    /// Starts the escalated child with the descriptors of `frame`.
    async fn start(
        &self,
        question: Question,
        decision: &Decision,
        foresight: Foresight,
        frame: Frame,
        entry: &mut Entry,
    ) -> Result<Child, RequestError> {
        let message: DescriptorMessage = protocol::parse(&frame.payload)?;
        let (exec, files) = question.into_command(decision);
        let program = exec.file.clone();
        let settings = &self.session.settings;
        let prepared = self.while_wrapper_waits(settings.executor.prepare(exec)).await?;
        let exec = prepared.map_err(RequestError::Executor)?;
        let open_files = settings.limits.child_open_files;
        let leader = self.session.leader.get().cloned();
        let wrapper = match message.group {
            true => WrappersGroup::of(self.stream.as_fd(), leader.as_ref()),
            false => WrappersGroup::Elsewhere,
        };
        let placement = match wrapper {
            WrappersGroup::OfSession(group) => Placement::Group(group),
            WrappersGroup::OfServer(group) if settings.shares_group => Placement::Group(group),
            WrappersGroup::OfServer(_) | WrappersGroup::Elsewhere => Placement::OwnGroup,
        };
        let DescriptorMessage {
            fds: numbers,
            signals,
            group,
            ignored,
            limits,
            nice,
            ..
        } = message;
        let start = Start {
            exec,
            files,
            foresight,
            numbers,
            descriptors: frame.descriptors,
            open_files,
            attributes: Attributes::new(limits.iter(), ignored.0, nice, open_files).map_err(Refusal::from)?,
            placement,
            leader,
        };
        let Started { tree, by_descriptor } = self.started(start).await?;
        if by_descriptor {
            tracing::info!(program = ?program, "executed by descriptor: a script finds /dev/fd/N as its $0");
        }
        entry.by_descriptor(by_descriptor);
        Ok(Child {
            tree,
            pid: None,
            signals,
            stops: Stops::default(),
            counts: group,
            joined: placement != Placement::OwnGroup,
            group: placement,
            alone: wrapper != WrappersGroup::Elsewhere,
        })
    }

    /// Starts a command: at once, unless something has to be waited for.
    async fn started(&self, start: Start) -> Result<Started, RequestError> {
        let start = match start.at_once()? {
            AtOnce::Started(started) => return Ok(started),
            AtOnce::NotYet(start) => start,
        };
        let starting = self.session.looks.run(move || start.run());
        // Not abandoned halfway: a tree that was started must be ended and reaped. But a file system may hold up the start for
        // as long as it likes; then the tree ends as soon as it is there.
        tokio::select! {
            started = starting => Ok(started.map_err(|_| RequestError::WorkerPanicked)??),
            () = self.session.overdue() => Err(SessionEnded.into()),
        }
    }

    /// Stays with the child to its end, and with what it left running; ends the tree with its owner.
    async fn attend(
        mut self,
        mut child: Child,
        permit: OwnedSemaphorePermit,
        entry: &mut Entry,
    ) -> Result<(), RequestError> {
        let result = self.result_of_child(&mut child).await;
        let mut tree = child.tree;
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                self.session.end(tree).await;
                return Err(error);
            }
        };
        entry.ended(result);
        drop(permit);
        let told = self.tell(&result).await;
        self.stream.drain();
        let Self {
            session,
            stream,
            place,
            ..
        } = self;
        drop(stream);
        place.has_ended();
        // What the child left running may run until the session ends, if not too many other requests left something, too.
        let Ok(_left_running) = session.left_running.try_acquire() else {
            tracing::warn!("too many requests have left processes running: killing those of this one");
            session.end(tree).await;
            return told;
        };
        let emptied = async { while tree.next_event().await.is_some() {} };
        if session.until_ended(emptied).await.is_err() {
            session.end(tree).await;
        }
        told
    }

    /// Forwards signals and reports stops until the child has ended.
    async fn result_of_child(&mut self, child: &mut Child) -> Result<ResultMessage, RequestError> {
        let session = Arc::clone(&self.session);
        loop {
            match session.until_ended(self.next_event(&mut child.tree)).await?? {
                Event::Signal(message) => child.forward(message),
                Event::Child(Report::Started(pid)) => {
                    tracing::debug!(%pid, "child started");
                    child.pid = Some(pid);
                }
                Event::Child(Report::Stopped(stop, _)) if child.is_to_stop_wrapper() => {
                    child.stops.told_of(stop);
                    self.tell(&child.stopped_message(stop)).await?;
                }
                Event::Child(Report::Kept(_) | Report::Stopped(..) | Report::Emptied) => {}
                Event::Child(Report::Ended(ending)) => return Ok(result_of(ending)),
                Event::Child(Report::Failed(failure)) => {
                    tracing::info!(?failure, "child could not be started");
                    return match failure.stage {
                        Stage::Supervisor | Stage::Descriptors => {
                            Err(Refusal::System(failure.errno.into()).into())
                        }
                        Stage::Workdir | Stage::Swapped | Stage::Execute => Ok(failure_result(failure)),
                    };
                }
            }
        }
    }

    /// The next event from the child or the wrapper. Cancel safe.
    async fn next_event(&mut self, tree: &mut Tree) -> Result<Event, RequestError> {
        tokio::select! {
            biased;
            event = tree.next_event() => event.map(Event::Child).ok_or(RequestError::SupervisorLost),
            frame = self.stream.receive() => signal_of(frame?).map(Event::Signal),
        }
    }

    /// Sends a message about the child, if the wrapper is still there to read it.
    async fn tell<T: serde::Serialize>(&self, message: &T) -> Result<(), RequestError> {
        let sending = async {
            tokio::select! {
                biased;
                sent = self.send(message) => sent,
                () = self.stream.closed() => Err(RequestError::WrapperGone),
            }
        };
        self.session.until_ended(sending).await?
    }
}

/// What a worker waits for while the child runs.
enum Event {
    Child(Report),
    /// A signal that the wrapper forwards.
    Signal(SignalMessage),
}

fn signal_of(frame: Option<Frame>) -> Result<SignalMessage, RequestError> {
    let frame = frame.ok_or(RequestError::WrapperGone)?;
    let message: SignalMessage = protocol::parse(&frame.payload)?;
    if (1..=libc::SIGRTMAX()).contains(&message.signal) {
        Ok(message)
    } else {
        Err(ProtocolError::Impossible("no such signal").into())
    }
}
