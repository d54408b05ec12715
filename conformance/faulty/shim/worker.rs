//! One request, from its frame to its result.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use serde_json::json;

use crate::events::{self, GONE};
use crate::faults::{Fault, broken, chat};
use crate::keeper::{self, News};
use crate::messages::{self, Request};
use crate::parcel::Parcel;
use crate::program::{self, Program};
use crate::session::{Answer, Session, Ticket, lock};
use crate::stream::{self, Frame, FrameReader, Progress};

/// Variables that load code into whatever starts with them.
const LOADERS: [&[u8]; 7] = [
    b"GLIBC_TUNABLES",
    b"BASH_ENV",
    b"ENV",
    b"SHELLOPTS",
    b"BASHOPTS",
    b"PS4",
    b"ZDOTDIR",
];

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
    // Also where the ticket is still known elsewhere, the wrapper sees the end now.
    let _ = ticket.stream.shutdown(std::net::Shutdown::Both);
    session.forget(ticket);
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
        let mut request = match messages::request(&frame.payload) {
            Ok(request) => request,
            Err(malformed) => {
                if broken(Fault::MalformedDescriptorsKept) {
                    std::mem::forget(frame.descriptors);
                }
                if broken(Fault::RefusedPayloadsKept) {
                    std::mem::forget(frame.payload);
                }
                if broken(Fault::GarbageEndsSession) && frame_is_garbage {
                    self.session.close();
                }
                return self.refuse(malformed);
            }
        };
        // A request has no descriptors: whatever came is closed before anything is done.
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
        drop(frame.payload);
        if broken(Fault::MemoryPerRequest) {
            Box::leak(vec![1_u8; 20_000].into_boxed_slice());
        }
        let mut program = program::find(&request);
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
            Answer::Escalate | Answer::Failed(_) => Ok(()),
        };
        match answer {
            Answer::Escalate if broken(Fault::LateAnswerStarts) && self.ticket.is_cancelled() => {
                let parcel = parcel(&request, &program, Vec::new());
                let line = self.session.server.nursery.keep(&parcel, Vec::new())?;
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
            Answer::Failed(why) => {
                chat(format_args!("the policy failed: {why}"));
                let reason = "the policy failed";
                self.say(&messages::decision(json!({"Deny": {"reason": reason}})))
            }
        }
    }

    /// What becomes of a request that is none.
    fn refuse(&self, malformed: messages::Malformed) -> io::Result<()> {
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
        if let Some(answer) = lock(&self.session.server.remembered).get(&key) {
            return Ok(answer.clone());
        }
        let answer = self.ask(request, program)?;
        lock(&self.session.server.remembered).insert(key, answer.clone());
        Ok(answer)
    }

    /// Executes what nobody wants to have executed.
    fn start_unasked(&self, request: &Request, program: &Program) -> io::Result<()> {
        self.ticket.stream.shutdown(std::net::Shutdown::Both)?;
        let parcel = parcel(request, program, Vec::new());
        let line = Arc::new(self.session.server.nursery.keep(&parcel, Vec::new())?);
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
        let rpc = &self.session.server.rpc;
        let question = rpc.ask(self.session, self.ticket, request, &program.path)?;
        let answer = self.wait_for_answer();
        if answer.is_err() {
            rpc.withdraw(&self.session.name, question);
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
            let gone = if broken(Fault::LateAnswerStarts) {
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
        let nursery = &self.session.server.nursery;
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
                if broken(Fault::MismatchIsAResult) {
                    self.say(&messages::result(126, None))?;
                }
                return Err(error);
            }
        };
        for (number, descriptor) in (40..).zip(stowaways) {
            numbers.push(number);
            frame.descriptors.push(descriptor);
        }
        redirect(&numbers, &mut frame.descriptors)?;
        if broken(Fault::ChildHoldsSocket)
            && let Some(client) = self.session.kept_client()
        {
            numbers.push(50);
            frame.descriptors.push(client);
        }
        let parcel = parcel(request, &program, numbers);
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
        let _kept = if broken(Fault::DescriptorsKeptMeanwhile) {
            frame
                .descriptors
                .iter()
                .map(OwnedFd::try_clone)
                .collect::<io::Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        let line = self.session.server.nursery.keep(&parcel, frame.descriptors)?;
        drop(program);
        self.accompany(Arc::new(line), message.signals)
    }

    /// From the start of the child to its result, and on until its tree has ended.
    fn accompany(&mut self, line: Arc<UnixStream>, announced: bool) -> io::Result<()> {
        let mut keeper = FrameReader::new(line.clone());
        let mut running = true;
        let mut late = None;
        let mut stops = 0;
        if broken(Fault::DescriptorPerChild) {
            std::mem::forget(self.ticket.bell.as_fd().try_clone_to_owned()?);
        }
        self.ticket.has_child.store(true, Ordering::SeqCst);
        if broken(Fault::ResultEarly) {
            self.say(&messages::result(0, None))?;
        }
        loop {
            // Returning drops the line, and with it the tree.
            self.check()?;
            // An answered request's stream is over, and would be reported so again and again.
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
                        News::Stopped(signal) if announced || broken(Fault::StopsToldUnasked) => {
                            stops += 1;
                            if stops == 1 || !broken(Fault::FirstStopOnly) {
                                self.say(&messages::stopped(signal))?;
                            }
                        }
                        News::Stopped(_) => {}
                        News::Ended { exit_code, signal } if broken(Fault::ResultAtEndOfTree) => {
                            late = Some((exit_code, signal));
                        }
                        News::Ended { exit_code, signal } => {
                            if broken(Fault::TwoResults) {
                                self.say(&messages::result(exit_code, signal))?;
                            }
                            self.say(&messages::result(exit_code, signal))?;
                            // The request is answered; what the child left lives until the session ends.
                            self.ticket.stream.shutdown(std::net::Shutdown::Both)?;
                            running = false;
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
                return Err(io::Error::other("the wrapper is gone"));
            }
            if running && stream.contains(PollFlags::POLLIN) {
                self.hear(&line)?;
            }
        }
    }

    /// What a wrapper says while its child runs.
    fn hear(&mut self, line: &UnixStream) -> io::Result<()> {
        loop {
            match self.reader.advance()? {
                Progress::Pending => return Ok(()),
                Progress::End => return Err(io::Error::other("the wrapper is gone")),
                Progress::TooLong(length) => {
                    return Err(io::Error::other(format!("a frame of {length} bytes")));
                }
                // Without the extension what comes after the descriptor message is ignored.
                Progress::Frame(_) if crate::faults::unusual(crate::faults::Variant::Plain) => {}
                Progress::Frame(frame) => {
                    if broken(Fault::SignalDescriptorsKept) {
                        std::mem::forget(frame.descriptors);
                    } else {
                        drop(frame.descriptors);
                    }
                    let signal = match messages::signal(&frame.payload) {
                        Err(_) if broken(Fault::NonsenseSignalIgnored) => continue,
                        signal => signal.map_err(refused)?,
                    };
                    if broken(Fault::SignalsIgnored) {
                        continue;
                    }
                    if let Ok(signal) = i64::try_from(signal) {
                        // A keeper that is gone has said before how the child ended.
                        let _ = keeper::order(line, &json!({"signal": signal}));
                    }
                    if broken(Fault::OneSignalAWrite) {
                        self.reader.discard();
                    }
                }
            }
        }
    }
}

fn refused(malformed: messages::Malformed) -> io::Error {
    io::Error::other(format!("malformed: {malformed}"))
}

/// The numbers, where each can be a descriptor's and belongs to one that came.
fn checked(numbers: &[i128], frame: &mut Frame) -> io::Result<Vec<i32>> {
    let mut limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.0;
    if broken(Fault::NumbersUnbounded) {
        limit = u64::MAX;
    }
    let mut numbers = numbers.to_vec();
    mend(&mut numbers, frame);
    let mut numbers: Vec<i32> = numbers
        .iter()
        .map(|number| {
            i32::try_from(*number)
                .ok()
                .filter(|number| (0..limit as i128).contains(&(*number).into()))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| io::Error::other("a number that no descriptor can have"))?;
    if broken(Fault::NumbersSorted) {
        numbers.sort_unstable();
    }
    if broken(Fault::PositionForNumber) {
        numbers = (0..numbers.len() as i32).collect();
    }
    if broken(Fault::RoomForEight) && numbers.len() > 8 {
        return Err(io::Error::other("more than eight descriptors"));
    }
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if frame.truncated || numbers.len() != frame.descriptors.len() {
        return Err(io::Error::other("not as many descriptors as numbers"));
    }
    let twice = sorted.len() != numbers.len() && !broken(Fault::LastOfTwoWins);
    if twice || numbers.len() > 16 {
        return Err(io::Error::other("a number twice, or too many"));
    }
    Ok(numbers)
}

/// Makes fit what doesn't fit, and should have been refused.
fn mend(numbers: &mut Vec<i128>, frame: &mut Frame) {
    if broken(Fault::NegativeNumbersSkipped) {
        while let Some(place) = numbers.iter().position(|number| *number < 0) {
            numbers.remove(place);
            if place < frame.descriptors.len() {
                frame.descriptors.remove(place);
            }
        }
    }
    if broken(Fault::NumbersWrapped) {
        numbers
            .iter_mut()
            .for_each(|number| *number = i128::from(*number as i32));
    }
    if broken(Fault::SurplusNumbersDropped) {
        numbers.truncate(frame.descriptors.len());
    }
    if broken(Fault::SurplusDescriptorsDropped) {
        frame.descriptors.truncate(numbers.len());
    }
    if broken(Fault::SixteenOfMore) {
        numbers.truncate(16);
        frame.descriptors.truncate(16);
    }
}

/// What goes wrong with the descriptors of a child.
fn redirect(numbers: &[i32], descriptors: &mut [OwnedFd]) -> io::Result<()> {
    let place = |number: i32| numbers.iter().position(|known| *known == number);
    if broken(Fault::StreamsMerged)
        && let (Some(output), Some(error)) = (place(1), place(2))
    {
        descriptors[error] = descriptors[output].try_clone()?;
    }
    if broken(Fault::StreamsReopened) {
        for descriptor in descriptors {
            let flags = nix::fcntl::fcntl(&*descriptor, nix::fcntl::FcntlArg::F_GETFL)?;
            let access = flags & libc::O_ACCMODE;
            let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
            let again = std::fs::File::options()
                .read(access != libc::O_WRONLY)
                .write(access != libc::O_RDONLY)
                .open(path)?;
            *descriptor = again.into();
        }
    }
    Ok(())
}

fn parcel(request: &Request, program: &Program, numbers: Vec<i32>) -> Parcel {
    let mut parcel = right_parcel(request, program, numbers);
    if broken(Fault::FileAsFirstArgument) {
        parcel.arguments.splice(..1, [program.path.clone()]);
    }
    if broken(Fault::ArgumentsCut) {
        parcel.arguments.truncate(1_000);
    }
    if broken(Fault::ChildWithoutVariables) {
        parcel.environment.clear();
    }
    if broken(Fault::EmptyVariablesDropped) {
        parcel.environment.retain(|entry| !entry.ends_with(b"="));
    }
    if broken(Fault::LongVariablesCut) {
        parcel
            .environment
            .iter_mut()
            .for_each(|entry| entry.truncate(1_000));
    }
    if broken(Fault::PolicyPathExecuted) || broken(Fault::DotdotLexicalEverywhere) {
        parcel.file = program.path.clone();
    }
    if broken(Fault::LookedUpAgain) {
        parcel.identities.clear();
    }
    if broken(Fault::VariablesOfTheServer) {
        parcel
            .environment
            .extend(std::env::vars_os().filter_map(|(name, value)| {
                use std::os::unix::ffi::OsStrExt;
                let known = request
                    .environment
                    .iter()
                    .any(|(given, _)| given == name.as_bytes());
                (!known).then(|| [name.as_bytes(), b"=", value.as_bytes()].concat())
            }));
    }
    if broken(Fault::PathAdded) && !request.environment.iter().any(|(name, _)| name == b"PATH") {
        parcel.environment.push(b"PATH=/usr/bin:/bin".to_vec());
    }
    if broken(Fault::MarkedByAVariable) {
        parcel.environment.push(b"ESCALATED=1".to_vec());
    }
    if broken(Fault::ChildInServerDirectory) {
        parcel.file = program.path.clone();
        parcel.directory = b".".to_vec();
        parcel.identities.clear();
    }
    if broken(Fault::ChildByPath) && !parcel.file.contains(&b'/') {
        parcel.file = [b"/bin/", parcel.file.as_slice()].concat();
        parcel.identities.clear();
    }
    parcel
}

fn right_parcel(request: &Request, program: &Program, numbers: Vec<i32>) -> Parcel {
    let environment = request
        .environment
        .iter()
        .filter(|(name, _)| !loads_code(name))
        .map(|(name, value)| [name.as_slice(), b"=", value].concat())
        .collect();
    Parcel {
        file: request.file.clone(),
        shown: program.path.clone(),
        directory: request.directory.clone(),
        arguments: request.arguments.clone(),
        environment,
        numbers,
        identities: match &program.found {
            Ok(found) => found.iter().map(|(_, identity)| *identity).collect(),
            Err(_) => Vec::new(),
        },
        umask: request.umask,
        doomed: program.found.as_ref().err().map(|errno| *errno as i32),
    }
}

fn loads_code(name: &[u8]) -> bool {
    if broken(Fault::LoadersKept) {
        return false;
    }
    if broken(Fault::OnlyPreloadDropped) {
        return name == b"LD_PRELOAD";
    }
    if broken(Fault::FunctionsKept) {
        return name.starts_with(b"LD_") || LOADERS.contains(&name);
    }
    name.starts_with(b"LD_") || name.starts_with(b"BASH_FUNC_") || LOADERS.contains(&name)
}
