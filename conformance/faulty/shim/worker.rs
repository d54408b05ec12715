//! One request, from its frame to its result.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use serde_json::json;

use crate::decoding::decoded;
use crate::events::{self, GONE, lock};
use crate::faults::{Fault, Variant, broken, chat, unusual};
use crate::group;
use crate::keeper::{self, News};
use crate::members::Malformed;
use crate::messages::{self, Request};
use crate::order::{checked, parcel, redirect};
use crate::parcel::Parcel;
use crate::processes;
use crate::program::{self, Program};
use crate::session::Session;
use crate::shares::Thread;
use crate::stops::Stops;
use crate::stream::{self, Frame, FrameReader, Progress};
use crate::ticket::{Answer, Ticket};

/// Serves one request stream.
pub fn serve(session: &Arc<Session>, ticket: &Arc<Ticket>) {
    let mut worker = Worker {
        session,
        ticket,
        reader: FrameReader::of_wrapper(ticket.stream.clone()),
    };
    if let Err(why) = worker.handle() {
        chat(format_args!("a request of session {} ends: {why}", session.name));
    }
    // The ticket may still be shared, so close the stream explicitly.
    let _ = ticket.stream.shutdown(std::net::Shutdown::Both);
    session.forget(ticket);
}

/// The lines to the keepers, for a server that tells them at its end to leave their trees alone.
static LINES: Mutex<Vec<Weak<UnixStream>>> = Mutex::new(Vec::new());

/// Has the keepers go without their trees.
pub fn release_trees() {
    for line in lock(&LINES).drain(..).filter_map(|line| line.upgrade()) {
        // A keeper whose tree has ended is gone.
        let _ = keeper::order(&line, &json!({"release": true}));
    }
}

/// What faults wait for: ends a tree, and returns when all of its processes have been reaped.
fn await_the_traced(line: &UnixStream) -> io::Result<()> {
    let waiting = [
        Fault::ClosingWaitsForTheTraced,
        Fault::CancellingWaitsForTheTraced,
        Fault::ShutdownWaitsForTheTraced,
    ];
    if waiting.into_iter().any(broken) {
        line.shutdown(std::net::Shutdown::Write)?;
        while nix::unistd::read(line, &mut [0; 4096])? > 0 {}
    }
    Ok(())
}

struct Worker<'a> {
    session: &'a Arc<Session>,
    ticket: &'a Arc<Ticket>,
    reader: FrameReader,
}

impl Worker<'_> {
    fn handle(&mut self) -> io::Result<()> {
        if broken(Fault::GreetingFirst) {
            self.say(br#"{"server":"1"}"#)?;
        }
        let mut frame = self.next_frame()?;
        while broken(Fault::EmptyFramesSkipped) && frame.payload.is_empty() {
            frame = self.next_frame()?;
        }
        let frame_is_garbage = std::str::from_utf8(&frame.payload).is_err();
        let mut request = match decoded(frame.payload) {
            Ok(request) => request,
            Err((malformed, payload)) => {
                if broken(Fault::MalformedDescriptorsKept) {
                    std::mem::forget(frame.descriptors);
                }
                if broken(Fault::RefusedPayloadsKept) {
                    std::mem::forget(payload);
                }
                if broken(Fault::GarbageEndsSession) && frame_is_garbage {
                    self.session.close();
                }
                return self.refuse(malformed);
            }
        };
        // A request has no descriptors: close those that came before anything else is done.
        let mut stowaways = Vec::new();
        if broken(Fault::RequestDescriptorsKept) {
            std::mem::forget(frame.descriptors);
        } else if broken(Fault::TruncatedKept) && frame.descriptors.len() > 16 {
            std::mem::forget(frame.descriptors.split_off(16));
            drop(frame.descriptors);
        } else if broken(Fault::RequestDescriptorsInherited) {
            stowaways = frame.descriptors;
        } else {
            drop(frame.descriptors);
        }
        if broken(Fault::MemoryPerRequest) {
            Box::leak(vec![1_u8; 20_000].into_boxed_slice());
        }
        let mut program = self.look(&request);
        if broken(Fault::DecisionEarly) {
            self.say(&messages::decision(json!("Run")))?;
        }
        let answer = self.decide(&request, &program)?;
        if broken(Fault::RequestReadAgain)
            && let Progress::Frame(frame) = self.reader.advance()?
        {
            request = messages::request(&frame.payload).map_err(refused)?;
            program = program::find(&request);
        }
        let said = match &answer {
            Answer::Run => self.say(&messages::decision(json!("Run"))),
            Answer::Deny(reason) => self.say(&messages::decision(json!({"Deny": {"reason": reason}}))),
            Answer::Escalate | Answer::Failed(_) | Answer::Ask(_) => Ok(()),
        };
        match answer {
            Answer::Escalate if broken(Fault::StaleDecisionHonoured) && self.has_hung_up()? => {
                self.start_unasked(&request, &program)
            }
            Answer::Escalate if broken(Fault::LateAnswerStarts) && self.ticket.is_cancelled() => {
                let parcel = parcel(&request, &program, Vec::new());
                let line = self.session.nursery.keep(&parcel, Vec::new())?;
                // The child lives as long as the server.
                std::mem::forget(line);
                Ok(())
            }
            Answer::Run if broken(Fault::RunExecutes) => self.start_unasked(&request, &program),
            Answer::Deny(_) if broken(Fault::DenyExecutes) => {
                self.escalate_decided(&request, program, stowaways)
            }
            Answer::Run | Answer::Deny(_) if broken(Fault::StreamOpenAfterRun) => self.linger(),
            Answer::Run | Answer::Deny(_) => said,
            Answer::Escalate => {
                self.say(&messages::decision(json!("Escalate")))?;
                self.escalate_decided(&request, program, stowaways)
            }
            Answer::Failed(_) if broken(Fault::PolicyErrorHangs) => self.linger(),
            Answer::Failed(_) if broken(Fault::PolicyErrorEndsSession) => {
                self.session.close();
                Ok(())
            }
            Answer::Ask(_) => Err(io::Error::other("the approver asks in its turn")),
            Answer::Failed(why) => {
                chat(format_args!("the policy failed: {why}"));
                let reason = "the policy failed";
                self.say(&messages::decision(json!({"Deny": {"reason": reason}})))
            }
        }
    }

    /// Looks at the files of a request.
    fn look(&self, request: &Request) -> Program {
        static LOOKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _alone = broken(Fault::LooksOneByOne).then(|| lock(&LOOKING));
        let _thread = broken(Fault::LooksShareThreads).then(Thread::take);
        program::find(request)
    }

    /// Handles a malformed request.
    fn refuse(&self, malformed: Malformed) -> io::Result<()> {
        if broken(Fault::MalformedAsked) {
            let request = Request::default();
            self.ask(&request, &program::find(&request))?;
        }
        if broken(Fault::MalformedEndsSession) {
            self.session.close();
        }
        if broken(Fault::MalformedLeftOpen) {
            return self.linger();
        }
        Err(refused(malformed))
    }

    fn say(&self, payload: &[u8]) -> io::Result<()> {
        stream::send_message(&self.ticket.stream, payload)
    }

    /// The next whole frame, however long it takes.
    fn next_frame(&mut self) -> io::Result<Frame> {
        static BEGUN: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let mut alone = None;
        loop {
            self.check()?;
            match self.reader.advance()? {
                Progress::Frame(frame) => {
                    if broken(Fault::StalledSenderBlocks) && alone.is_none() {
                        drop(lock(&BEGUN));
                    }
                    self.ticket.is_reading.store(false, Ordering::SeqCst);
                    return Ok(frame);
                }
                Progress::End => {
                    if broken(Fault::HalfFrameDescriptorsKept) {
                        self.reader.leak();
                    }
                    if broken(Fault::GoneWrappersKept) {
                        self.linger()?;
                    }
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Progress::TooLong(length) => {
                    return Err(io::Error::other(format!("a frame of {length} bytes")));
                }
                Progress::Pending => {
                    let wanted = [
                        (self.ticket.stream.as_fd(), PollFlags::POLLIN),
                        (self.ticket.bell.as_fd(), PollFlags::POLLIN),
                    ];
                    self.ticket.is_reading.store(true, Ordering::SeqCst);
                    if broken(Fault::StalledSenderBlocks) && self.reader.has_begun() && alone.is_none() {
                        alone = Some(lock(&BEGUN));
                    }
                    let impatient = broken(Fault::Impatient) && self.reader.has_begun();
                    let deadline = impatient.then(|| Instant::now() + Duration::from_secs(1));
                    events::wait(wanted, deadline)?;
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    self.ticket.bell.silence();
                }
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.ticket.is_cancelled() {
            return Err(io::Error::other("the session has ended"));
        }
        Ok(())
    }

    /// The policy's decision.
    fn decide(&self, request: &Request, program: &Program) -> io::Result<Answer> {
        static QUESTION: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _alone = broken(Fault::OneQuestionAtATime).then(|| lock(&QUESTION));
        if broken(Fault::TrustedAfterAWhile) && self.ticket.number() > 90 {
            return Ok(Answer::Run);
        }
        if unusual(Variant::OwnNamesDenied) && program.is_anothers_elsewhere() {
            let reason = "the name means something else in each process";
            return Ok(Answer::Deny(Some(reason.to_owned())));
        }
        if broken(Fault::MissingNotAsked) && program.found.is_err() {
            return Ok(Answer::Deny(Some("no such program".to_owned())));
        }
        if !broken(Fault::DecisionRemembered) {
            if broken(Fault::AskedTwice) {
                self.ask(request, program)?;
            }
            return self.ask(request, program);
        }
        let mut key = request.arguments.clone();
        key.push(program.path.clone());
        if let Some(answer) = lock(&self.session.policy.remembered).get(&key) {
            return Ok(answer.clone());
        }
        let answer = self.ask(request, program)?;
        lock(&self.session.policy.remembered).insert(key, answer.clone());
        Ok(answer)
    }

    /// Executes a program that must not be executed.
    fn start_unasked(&self, request: &Request, program: &Program) -> io::Result<()> {
        self.ticket.stream.shutdown(std::net::Shutdown::Both)?;
        let parcel = parcel(request, program, Vec::new());
        let line = Arc::new(self.session.nursery.keep(&parcel, Vec::new())?);
        let mut keeper = FrameReader::new(line.clone());
        while !matches!(keeper.advance()?, Progress::End) {
            self.check()?;
            let wanted = [
                (line.as_fd(), PollFlags::POLLIN),
                (self.ticket.bell.as_fd(), PollFlags::POLLIN),
            ];
            events::wait(wanted, None)?;
        }
        Ok(())
    }

    /// Whether the wrapper is gone.
    fn has_hung_up(&self) -> io::Result<bool> {
        let stream = (self.ticket.stream.as_fd(), GONE);
        Ok(events::wait([stream], Some(Instant::now()))?[0].intersects(GONE))
    }

    /// Stays until the session ends.
    fn linger(&self) -> io::Result<()> {
        loop {
            self.check()?;
            events::wait([(self.ticket.bell.as_fd(), PollFlags::POLLIN)], None)?;
            self.ticket.bell.silence();
        }
    }

    /// Asks the policy, and waits for the answer, the wrapper's end or the session's.
    fn ask(&self, request: &Request, program: &Program) -> io::Result<Answer> {
        let policy = &self.session.policy;
        let question = policy.ask(self.ticket, request, &program.path)?;
        let answer = self.wait_for_answer();
        if answer.is_err() {
            policy.withdraw(&self.session.name, question);
        }
        match answer? {
            Answer::Ask(reason) => self.approve(request, program, reason.as_deref()),
            answer => Ok(answer),
        }
    }

    /// Lets the approver decide, while the clock of a one-shot stands still.
    fn approve(&self, request: &Request, program: &Program, reason: Option<&str>) -> io::Result<Answer> {
        static APPROVING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _alone = broken(Fault::OneApprovalAtATime).then(|| lock(&APPROVING));
        let policy = &self.session.policy;
        if let Some(reason) = policy.aborted(&self.session.name) {
            return Ok(Answer::Deny(reason));
        }
        let mut key = request.arguments.clone();
        key.push(program.path.clone());
        if broken(Fault::ApprovalRemembered) && lock(&policy.remembered).contains_key(&key) {
            return Ok(Answer::Escalate);
        }
        let _held = self.session.clock.hold();
        let mut environment = parcel(request, program, Vec::new()).environment;
        if broken(Fault::ApprovalOfTheWholeEnvironment) {
            environment = request
                .environment
                .iter()
                .map(|(name, value)| [name.as_slice(), b"=", value].concat())
                .collect();
        }
        let approval = policy.ask_approver(self.ticket, request, &program.path, &environment, reason)?;
        let answer = self.wait_for_answer();
        if answer.is_err() || broken(Fault::AnsweredAreWithdrawn) {
            policy.withdraw_approval(&self.session.name, approval);
        }
        if let Ok(Answer::Escalate) = &answer {
            lock(&policy.remembered).insert(key, Answer::Escalate);
        }
        answer
    }

    fn wait_for_answer(&self) -> io::Result<Answer> {
        loop {
            if !broken(Fault::LateAnswerStarts) {
                self.check()?;
            }
            if let Some(answer) = lock(&self.ticket.answer).take() {
                return Ok(answer);
            }
            let gone = if broken(Fault::LateAnswerStarts) || broken(Fault::StaleDecisionHonoured) {
                PollFlags::empty()
            } else {
                GONE
            };
            let wanted = [
                (self.ticket.stream.as_fd(), gone),
                (self.ticket.bell.as_fd(), PollFlags::POLLIN),
            ];
            let [stream, _] = events::wait(wanted, None)?;
            self.ticket.bell.silence();
            if stream.intersects(gone) {
                if broken(Fault::LeakOnGoneWrapper) {
                    std::mem::forget(self.ticket.bell.as_fd().try_clone_to_owned()?);
                }
                return Err(io::Error::other("the wrapper is gone before the decision"));
            }
        }
    }

    /// From the decision to the end of the tree.
    fn escalate_decided(
        &mut self,
        request: &Request,
        program: Program,
        stowaways: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let nursery = &self.session.nursery;
        let _early = broken(Fault::ChildBeforeDescriptors)
            .then(|| nursery.keep(&parcel(request, &program, Vec::new()), Vec::new()));
        let mut frame = self.next_frame()?;
        if broken(Fault::SurplusThrownAway) {
            self.reader.discard();
        }
        if broken(Fault::SurplusRefused) && self.reader.discard() > 0 {
            return Err(io::Error::other("more than one message"));
        }
        if broken(Fault::GarbageEndsSession) && std::str::from_utf8(&frame.payload).is_err() {
            self.session.close();
        }
        let message = messages::descriptors(&frame.payload).map_err(refused)?;
        let mut numbers = match checked(&message.numbers, &mut frame) {
            Ok(numbers) => numbers,
            Err(error) => {
                if broken(Fault::RefusedDescriptorsKept) {
                    std::mem::forget(frame.descriptors);
                }
                if broken(Fault::MismatchIsASuccess) {
                    self.say(&messages::result(0, None))?;
                } else if unusual(Variant::MismatchIsAResult) {
                    self.say(&messages::result(126, None))?;
                }
                return Err(error);
            }
        };
        for (number, descriptor) in (40..).zip(stowaways) {
            numbers.push(number);
            frame.descriptors.push(descriptor);
        }
        if broken(Fault::ReceivedMadeNonBlocking) {
            for descriptor in &frame.descriptors {
                let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
                // A bare place in the file system has no such flag.
                if !flags.contains(OFlag::O_PATH) {
                    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
                }
            }
        }
        redirect(&numbers, &mut frame.descriptors)?;
        if broken(Fault::ChildHoldsSocket)
            && let Some(client) = self.session.kept_client()
        {
            numbers.push(50);
            frame.descriptors.push(client);
        }
        if broken(Fault::RequestStreamInherited) {
            numbers.push(70);
            frame
                .descriptors
                .push(self.ticket.stream.as_fd().try_clone_to_owned()?);
        }
        let wrapper = match message.group {
            true => group::of(&self.ticket.stream),
            false => None,
        };
        // SAFETY: getpgrp takes nothing.
        let own = unsafe { libc::getpgrp() };
        let parcel = Parcel {
            group: wrapper
                .filter(|group| *group != own || broken(Fault::OwnGroupJoined))
                .filter(|_| !broken(Fault::LeaderJoinsAlone) || group::is_led(&self.ticket.stream))
                .filter(|_| !broken(Fault::GroupNotJoined)),
            ignored: message.inherited.ignored,
            limits: message.inherited.limits,
            nice: message.inherited.nice,
            ..parcel(request, &program, numbers)
        };
        let standing = Standing {
            announced: message.signals,
            joined: parcel.group.is_some(),
            alone: wrapper.is_some(),
            counts: message.group || unusual(Variant::CountsForAll),
        };
        self.check()?;
        if broken(Fault::SpawnErrorUnanswered) && parcel.doomed.is_some() {
            return Err(io::Error::other("the program can't be started"));
        }
        if broken(Fault::LeakOnSpawnError) && parcel.doomed.is_some() {
            std::mem::forget(self.ticket.bell.as_fd().try_clone_to_owned()?);
        }
        if broken(Fault::UmaskOfTheServer)
            && let Some(umask) = parcel.umask
        {
            // SAFETY: umask(2) takes an integer.
            unsafe { libc::umask(umask) };
        }
        if !processes::finds_its_tree() && !broken(Fault::ForeignProcTrusted) {
            return Err(io::Error::other("/proc belongs to another pid namespace"));
        }
        let mut kept = Vec::new();
        for (number, descriptor) in parcel.numbers.iter().zip(&frame.descriptors) {
            if broken(Fault::DescriptorsKeptMeanwhile)
                || broken(Fault::StandardInputKept) && *number == 0
                || broken(Fault::HighNumbersKept) && *number > 2
            {
                kept.push(descriptor.try_clone()?);
            }
        }
        let doomed = parcel.doomed.is_some();
        let line = self.session.nursery.keep(&parcel, frame.descriptors)?;
        drop(program);
        let line = Arc::new(line);
        let accompanied = self.accompany(line.clone(), standing);
        if accompanied.is_err() {
            await_the_traced(&line)?;
        }
        accompanied?;
        if broken(Fault::SpawnErrorEndsSession) && doomed {
            self.session.close();
        }
        drop(kept);
        Ok(())
    }

    /// From the start of the child to its result, and on until its tree has ended.
    fn accompany(&mut self, line: Arc<UnixStream>, standing: Standing) -> io::Result<()> {
        let mut keeper = FrameReader::new(line.clone());
        let mut running = true;
        let mut late = None;
        let mut stops = Stops::default();
        if broken(Fault::DescriptorPerChild) {
            std::mem::forget(self.ticket.bell.as_fd().try_clone_to_owned()?);
        }
        let released = [
            Fault::TreesSurviveShutdown,
            Fault::ClosingLeftUndone,
            Fault::CancellingLeftUndone,
        ];
        if released.into_iter().any(broken) {
            lock(&LINES).push(Arc::downgrade(&line));
        }
        self.ticket.has_child.store(true, Ordering::SeqCst);
        if broken(Fault::ResultEarly) {
            self.say(&messages::result(0, None))?;
        }
        loop {
            // Returning drops the line, which ends the tree.
            if running && unusual(Variant::KilledToldFirst) && self.ticket.is_cancelled() {
                self.tell_of_the_kill(&line)?;
            }
            self.check()?;
            // The stream of an answered request is closed, and poll(2) would report that every time.
            let third = if running {
                (self.ticket.stream.as_fd(), PollFlags::POLLIN | GONE)
            } else {
                (self.ticket.bell.as_fd(), PollFlags::empty())
            };
            let wanted = [
                (line.as_fd(), PollFlags::POLLIN),
                (self.ticket.bell.as_fd(), PollFlags::POLLIN),
                third,
            ];
            let [from_keeper, _, stream] = events::wait(wanted, None)?;
            self.ticket.bell.silence();
            if !from_keeper.is_empty() {
                match keeper.advance()? {
                    Progress::Frame(frame) => match keeper::news(&frame.payload)? {
                        // What was ordered meanwhile can have ended it; else it is said again.
                        News::Stopped { obeyed, .. } if obeyed != stops.orders => {}
                        News::Stopped { signal, stop, .. }
                            if standing.announced || broken(Fault::StopsToldUnasked) =>
                        {
                            stops.told.push_back((stops.messages + 1, stop));
                            stops.messages += 1;
                            if stops.messages == 1 || !broken(Fault::FirstStopOnly) {
                                let continued = standing.counts.then_some(stops.continuations);
                                self.say(&messages::stopped(signal, standing.alone, continued))?;
                            }
                        }
                        News::Stopped { .. } => {}
                        News::Ended { exit_code, signal } if broken(Fault::ResultAtEndOfTree) => {
                            late = Some((exit_code, signal));
                        }
                        News::Ended { exit_code, signal } => {
                            if broken(Fault::TwoResults) {
                                self.say(&messages::result(exit_code, signal))?;
                            }
                            if broken(Fault::LeftoversReleased) {
                                // A keeper without processes is gone already.
                                let _ = keeper::order(&line, &json!({"release": true}));
                            }
                            self.say(&messages::result(exit_code, signal))?;
                            // The request is answered; processes that the child left live until the session ends.
                            self.ticket.stream.shutdown(std::net::Shutdown::Both)?;
                            running = false;
                            if broken(Fault::LeftoversKilledAtOnce) {
                                return Ok(());
                            }
                        }
                    },
                    Progress::Pending => {}
                    Progress::End | Progress::TooLong(_) => {
                        return match late {
                            Some((exit_code, signal)) => self.say(&messages::result(exit_code, signal)),
                            None => Ok(()),
                        };
                    }
                }
                continue;
            }
            if running && stream.intersects(GONE) {
                if broken(Fault::GoneWrapperIgnored) {
                    running = false;
                    continue;
                }
                if broken(Fault::GoneWrapperKillsChildOnly) {
                    keeper::order(&line, &json!({"child only": true}))?;
                    return self.linger();
                }
                if broken(Fault::GoneWrapperHangsUp) {
                    keeper::order(&line, &json!({"signal": libc::SIGHUP}))?;
                    return self.linger();
                }
                if broken(Fault::HalfFrameHidesEnd) {
                    while matches!(self.reader.advance()?, Progress::Frame(_)) {}
                    if self.reader.has_begun() {
                        return self.linger();
                    }
                }
                return Err(io::Error::other("the wrapper is gone"));
            }
            if running && stream.contains(PollFlags::POLLIN) {
                self.hear(&line, standing, &mut stops)?;
            }
        }
    }

    /// Ends the tree of a session that has ended, and then says how its child has ended.
    fn tell_of_the_kill(&self, line: &UnixStream) -> io::Result<()> {
        line.shutdown(std::net::Shutdown::Write)?;
        // A process that another one traces isn't waited for any longer.
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            let [news] = events::wait([(line.as_fd(), PollFlags::POLLIN)], Some(deadline))?;
            if !news.is_empty() && matches!(nix::unistd::read(line, &mut [0; 4096]), Ok(0)) {
                break;
            }
        }
        // A wrapper that doesn't read isn't waited for either.
        self.ticket.stream.set_nonblocking(true)?;
        let payload = messages::result(128 + libc::SIGKILL, Some(libc::SIGKILL));
        (&*self.ticket.stream).write_all(&stream::frame(&payload))
    }

    /// Reads what the wrapper sends while its child runs.
    fn hear(&mut self, line: &UnixStream, standing: Standing, stops: &mut Stops) -> io::Result<()> {
        loop {
            match self.reader.advance()? {
                Progress::Pending => return Ok(()),
                Progress::End => return Err(io::Error::other("the wrapper is gone")),
                Progress::TooLong(length) => {
                    return Err(io::Error::other(format!("a frame of {length} bytes")));
                }
                // Without the extension, frames after the descriptor message are ignored.
                Progress::Frame(_) if unusual(Variant::Plain) => {}
                Progress::Frame(frame) => {
                    if broken(Fault::SignalDescriptorsKept) {
                        std::mem::forget(frame.descriptors);
                    } else {
                        drop(frame.descriptors);
                    }
                    let message = match messages::signal(&frame.payload) {
                        Err(_) if broken(Fault::NonsenseSignalIgnored) => continue,
                        message => message.map_err(refused)?,
                    };
                    let (signal, terminal, sender) = (message.number, message.terminal, message.sender);
                    if signal == i128::from(libc::SIGCONT) {
                        let continuation = stops.continued(message.stops);
                        if let Some(order) =
                            continuation.filter(|_| standing.joined && !broken(Fault::ContinuedTwice))
                        {
                            stops.orders += 1;
                            // A keeper that is gone has already reported how the child ended.
                            let _ = keeper::order(line, &order);
                            continue;
                        }
                    }
                    if broken(Fault::SignalsIgnored) {
                        continue;
                    }
                    let twice = broken(Fault::TerminalSignalsTwice);
                    let left_out = broken(Fault::LeaderJoinsAlone) && !standing.joined;
                    if terminal && (left_out || broken(Fault::TerminalSignalsDropped)) {
                        continue;
                    }
                    let in_group_already = terminal && standing.joined && !twice;
                    if broken(Fault::RealTimeSignalsIgnored) && signal > 31 {
                        continue;
                    }
                    let signal = if broken(Fault::SignalNumbersWrapped) {
                        signal & 0x3f
                    } else {
                        signal
                    };
                    if let Ok(signal) = i64::try_from(signal) {
                        // A keeper that is gone has already reported how the child ended.
                        let sender = sender.and_then(|sender| i64::try_from(sender).ok());
                        let sender = sender.filter(|_| standing.joined && !broken(Fault::OwnSignalsTwice));
                        stops.orders += u64::from(standing.joined && signal == i64::from(libc::SIGCONT));
                        let _ = keeper::order(
                            line,
                            &json!({"signal": signal, "sender": sender, "to its group": in_group_already}),
                        );
                    }
                    if broken(Fault::OneSignalAWrite) {
                        self.reader.discard();
                    }
                }
            }
        }
    }
}

/// How a wrapper stands to its child.
#[derive(Clone, Copy)]
struct Standing {
    /// It announced *signals*.
    announced: bool,
    /// The child is in its process group.
    joined: bool,
    /// It is not to stop its process group.
    alone: bool,
    /// It announced *group*, so that it counts.
    counts: bool,
}

fn refused(malformed: Malformed) -> io::Error {
    io::Error::other(format!("malformed: {malformed}"))
}
