//! What most cases about servers begin with: a shim with one session, whose socket is in the suite's hands, and a
//! policy that the case answers by hand.

use std::fs::File;
use std::os::fd::OwnedFd;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{AsFdObject, RequestMessage, Requester};
use crate::peer::harness::{Answer, Decision, ProbeSession, Shim};
use crate::peer::program::{ConnectedProgram, Probe, Program};
use crate::peer::wire::Received;
use crate::probe::plan::Act;
use crate::system::launch::{Launch, pipe};
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The status with which a sentinel exits.
const SENTINEL_STATUS: i32 = 77;

/// Descriptors of a request: the number in the child, and what it is.
pub type Placements<'a> = [(i64, &'a dyn AsFdObject)];

/// A shim, a session, and the wrapper's part in the case's hands.
pub struct Scene {
    /// The shim.
    pub shim: Shim,
    /// The session.
    pub session: ProbeSession,
    /// The working directory of requests.
    pub directory: String,
    sentinel: Program,
    patience: std::time::Duration,
}

impl Scene {
    /// A scene on an ordinary shim.
    pub fn new(context: &Context) -> Result<Scene, CaseError> {
        Scene::on(context, |launch| launch)
    }

    /// A scene on a shim that is started in another way: variables, limits.
    pub fn on(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Scene, CaseError> {
        let mut shim = Shim::start_with(context, change)?;
        let session = shim.probe_session(context, "main")?;
        Ok(Scene {
            shim,
            session,
            directory: context.work_directory().to_string_lossy().into_owned(),
            sentinel: Program::new(context, "sentinel", [Act::Exit(SENTINEL_STATUS)])?,
            patience: context.patience(),
        })
    }

    /// A request for `file` with these arguments, in the scene's directory, with an empty environment.
    pub fn request(&self, file: &str, arguments: &[&str]) -> RequestMessage {
        RequestMessage::new(file, arguments, &self.directory)
    }

    /// Opens a stream, sends the request, and takes the question that the policy is asked about it.
    pub fn ask(&mut self, request: &RequestMessage) -> Result<(Requester, Decision), CaseError> {
        let mut requester = self.session.socket.open()?;
        requester.request(request)?;
        let decision = self.question_about(request)?;
        Ok((requester, decision))
    }

    /// The next question, which must be about `request`.
    pub fn question_about(&self, request: &RequestMessage) -> Result<Decision, CaseError> {
        let decision = self.shim.next_decision()?;
        let asked = json!(decision.question.arguments);
        expect::equal(
            "argv of the request that the policy is asked about",
            &request.value()["argv"],
            &asked,
        )?;
        Ok(decision)
    }

    /// Asks, answers Escalate and sends the descriptors.
    pub fn escalate(
        &mut self,
        request: &RequestMessage,
        placements: &Placements<'_>,
    ) -> Result<Requester, CaseError> {
        let (mut requester, decision) = self.ask(request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        requester.send_descriptors(placements)?;
        Ok(requester)
    }

    /// The same with /dev/null as 0, 1 and 2.
    pub fn escalate_quietly(&mut self, request: &RequestMessage) -> Result<Requester, CaseError> {
        let null = null()?;
        self.escalate(request, &[(0, &null), (1, &null), (2, &null)])
    }

    /// Escalates `program` with nothing but /dev/null and waits for its start.
    pub fn start(&mut self, program: &ConnectedProgram) -> Result<(Requester, Probe), CaseError> {
        let request = self.request(program.text(), &[program.text()]);
        let requester = self.escalate_quietly(&request)?;
        let probe = program.accept("the escalated child")?;
        Ok((requester, probe))
    }

    /// A whole escalation. When it is over, the moment has passed in which something earlier could still have an
    /// effect; and the policy was asked about nothing else since the last question.
    pub fn sentinel(&mut self) -> Verdict {
        let request = self.request(self.sentinel.text(), &[self.sentinel.text(), "sentinel"]);
        self.escalate_quietly(&request)?
            .expect_exit_code(i64::from(SENTINEL_STATUS))
    }

    /// Demands that nothing has come on the stream so far. Bind the moment by a sentinel before.
    pub fn expect_nothing_yet(&self, requester: &Requester, why: &str) -> Verdict {
        let now = std::time::Instant::now();
        expect::that(
            !readable_until(requester.frames.socket(), now)?,
            format_args!("nothing comes on the request stream: {why}"),
            "bytes, or the end of file",
        )
    }

    /// Demands that the server closes the stream and does not ask its policy; `why` says what is wrong.
    pub fn expect_refused(&mut self, requester: &mut Requester, why: &str) -> Verdict {
        let closed = requester.frames.expect_end(why);
        // That the policy was asked says more than a stream that is still open.
        self.shim.expect_no_decision()?;
        closed?;
        // The sentinel's question is the next one, or there was another before it.
        self.sentinel()
    }

    /// Waits until the policy is asked about what was sent on the stream, or the server closes it: then there is no
    /// decision.
    pub fn asked_or_refused(&mut self, requester: &mut Requester) -> Result<Option<Decision>, CaseError> {
        const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
        let deadline = std::time::Instant::now() + self.patience;
        while std::time::Instant::now() < deadline {
            if let Some(decision) = self.shim.decision_within(LOOK)? {
                return Ok(Some(decision));
            }
            match requester.frames.receive_within(LOOK)? {
                Received::Silence { .. } => {}
                Received::End { bytes: 0 } => return Ok(None),
                other => {
                    return Err(violation(
                        "a question, or the end of the stream",
                        format_args!("{other:?}"),
                    ));
                }
            }
        }
        Err(violation(
            "the policy is asked, or the request stream is closed",
            format_args!("neither within {:?}", self.patience),
        ))
    }

    /// How long one event may take.
    pub fn patience(&self) -> std::time::Duration {
        self.patience
    }

    /// Shuts the shim down.
    pub fn end(mut self) -> Verdict {
        self.shim.shutdown()
    }
}

/// Demands that the policy was asked about `file`, an absolute path. Whether its links are resolved is left open.
pub fn expect_program(file: &str, decision: &Decision) -> Verdict {
    let program = &decision.question.program;
    if program == file {
        return Ok(());
    }
    let same = std::fs::canonicalize(file).ok() == std::fs::canonicalize(program).ok();
    expect::that(
        same && program.starts_with('/'),
        format_args!("program: {file:?}, or another path of the same file"),
        format_args!("program: {program:?}"),
    )
}

/// /dev/null, for reading and writing.
pub fn null() -> Result<File, CaseError> {
    Ok(File::options().read(true).write(true).open("/dev/null")?)
}

/// A file of the case with this text, for reading and writing, at its beginning.
pub fn file(context: &Context, name: &str, text: &str) -> Result<File, CaseError> {
    let path = context.write_file(name, text.as_bytes(), 0o644)?;
    Ok(File::options().read(true).write(true).open(path)?)
}

/// The writing ends of `count` pipes, and the watch over them.
pub fn watched_pipes(count: usize) -> Result<(PipeWatch, Vec<OwnedFd>), CaseError> {
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..count {
        let (reader, writer) = pipe()?;
        readers.push(reader);
        writers.push(writer.into());
    }
    Ok((PipeWatch(readers), writers))
}

/// Reading ends of pipes: their end of file proves that nobody holds a writing end any more.
pub struct PipeWatch(Vec<File>);

impl PipeWatch {
    /// Demands that every writing end is closed within `patience`; `who` is to have closed them.
    pub fn expect_closed(&self, who: &str, patience: std::time::Duration) -> Verdict {
        let deadline = std::time::Instant::now() + patience;
        for (index, reader) in self.0.iter().enumerate() {
            let what = format!("{who} closes descriptor {} of {}", index + 1, self.0.len());
            expect::that(readable_until(reader, deadline)?, what, "it is still open")?;
            let mut byte = [0];
            let read = std::io::Read::read(&mut &*reader, &mut byte)?;
            if read != 0 {
                return Err(harness("somebody wrote to a pipe that was only to be watched"));
            }
        }
        Ok(())
    }
}

/// References to descriptors, as the senders want them.
pub fn objects(descriptors: &[OwnedFd]) -> Vec<&dyn AsFdObject> {
    descriptors
        .iter()
        .map(|descriptor| descriptor as &dyn AsFdObject)
        .collect()
}
