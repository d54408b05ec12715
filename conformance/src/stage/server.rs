//! A server at work: a shim with one session, whose shell is a probe, and whose socket is in the hands of the suite.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Decision, ProbeSession, Shim};
use crate::peer::program::{ConnectedProgram, Probe, Program};
use crate::peer::wire::{Frame, Received};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::stage::descriptors::{Placements, null};
use crate::stage::processes;
use crate::system::clock::Moment;
use crate::system::launch::Launch;
use crate::system::poll::readable_until;
use crate::system::quiescence::wait_for_rest;
use crate::verdict::{CaseError, Verdict, violation};

/// The status with which the sentinel of a stage exits.
const SENTINEL_STATUS: i32 = 77;

/// A shim with one session, whose policy escalates everything until a case decides by hand.
pub struct Stage {
    /// The shim.
    pub shim: Shim,
    /// The session.
    pub session: ProbeSession,
    /// The working directory of requests.
    pub directory: String,
    /// A program whose escalation proves that the server serves.
    sentinel: Program,
    patience: Duration,
}

impl Stage {
    /// A stage on an ordinary shim.
    pub fn new(context: &Context) -> Result<Stage, CaseError> {
        Stage::on(context, |launch| launch)
    }

    /// A stage on a shim whose launch is changed: variables, limits, signal state.
    pub fn on(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Stage, CaseError> {
        Stage::around(context, Shim::start_with(context, change)?)
    }

    /// A stage around this shim.
    pub fn around(context: &Context, mut shim: Shim) -> Result<Stage, CaseError> {
        shim.decide_by(|_| Answer::Escalate);
        let number = context.next_number();
        let session = shim.probe_session(context, &format!("main-{number}"))?;
        let name = format!("sentinel-{number}");
        Ok(Stage {
            shim,
            session,
            directory: context.work_directory().to_string_lossy().into_owned(),
            sentinel: Program::new(context, &name, [Act::Exit(SENTINEL_STATUS)])?,
            patience: context.patience(),
        })
    }

    /// The same stage, where each question waits for the case to answer it.
    pub fn decide_by_hand(self) -> Stage {
        self.shim.decide_by_hand();
        self
    }

    /// A request for `file` with these arguments, in the stage's directory, with an empty environment.
    pub fn request(&self, file: &str, arguments: &[&str]) -> RequestMessage {
        RequestMessage::new(file, arguments, &self.directory)
    }

    /// A request for the program at `file`, with that path as its only argument and an empty environment.
    pub fn request_for(&self, file: &str) -> RequestMessage {
        self.request(file, &[file])
    }

    /// Opens a stream, sends the request, and takes the question that the policy is asked about it. For stages that
    /// decide by hand.
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

    /// Sends a request and takes its decision, Escalate: the server now waits for the descriptors.
    pub fn granted(&mut self, request: &RequestMessage) -> Result<Requester, CaseError> {
        let mut requester = self.session.socket.open()?;
        requester.request(request)?;
        if self.shim.is_decided_by_hand() {
            self.question_about(request)?.answer(&Answer::Escalate)?;
        }
        requester.expect_action(&json!("Escalate"))?;
        Ok(requester)
    }

    /// Lets a request be escalated with these descriptors.
    pub fn escalate_request(
        &mut self,
        request: &RequestMessage,
        placements: &Placements<'_>,
    ) -> Result<Requester, CaseError> {
        let mut requester = self.granted(request)?;
        requester.send_descriptors(placements)?;
        Ok(requester)
    }

    /// The same with /dev/null as 0, 1 and 2.
    pub fn escalate_quietly(&mut self, request: &RequestMessage) -> Result<Requester, CaseError> {
        let null = null()?;
        self.escalate_request(request, &[(0, &null), (1, &null), (2, &null)])
    }

    /// Lets `program` be escalated and waits for its start.
    pub fn escalate(
        &mut self,
        program: &ConnectedProgram,
        placements: &Placements<'_>,
    ) -> Result<Escalated, CaseError> {
        self.escalate_with(program, placements, &[])
    }

    /// The same for a wrapper that announces the extensions *signals* and *group*.
    pub fn escalate_in_group(&mut self, program: &ConnectedProgram) -> Result<Escalated, CaseError> {
        self.escalate_with(program, &[], &[("signals", json!(true)), ("group", json!(true))])
    }

    /// The same with more members in the descriptor message, such as `signals`.
    pub fn escalate_with(
        &mut self,
        program: &ConnectedProgram,
        placements: &Placements<'_>,
        members: &[(&str, Value)],
    ) -> Result<Escalated, CaseError> {
        let mut requester = self.granted(&self.request_for(program.text()))?;
        requester.send_descriptors_with(placements, members)?;
        let child = program.accept("the escalated child")?;
        Ok(Escalated { requester, child })
    }

    /// Lets `program` be escalated with /dev/null as 0, 1 and 2 and waits for its start.
    pub fn start(&mut self, program: &ConnectedProgram) -> Result<Escalated, CaseError> {
        let null = null()?;
        self.escalate(program, &[(0, &null), (1, &null), (2, &null)])
    }

    /// Runs `request` to its result.
    pub fn result_of(
        &mut self,
        request: &RequestMessage,
        placements: &Placements<'_>,
    ) -> Result<Value, CaseError> {
        self.escalate_request(request, placements)?.result()
    }

    /// A whole escalation. When it is over, the moment has passed in which something earlier could still have an
    /// effect; and of a stage that decides by hand, the policy was asked about nothing else since the last question.
    pub fn sentinel(&mut self) -> Verdict {
        let request = self.request(self.sentinel.text(), &[self.sentinel.text(), "sentinel"]);
        self.escalate_quietly(&request)?
            .expect_exit_code(i64::from(SENTINEL_STATUS))
    }

    /// Demands that nothing has come on the stream when all that the case has started is at rest.
    pub fn expect_nothing_yet(&self, requester: &Requester, why: &str) -> Verdict {
        wait_for_rest();
        let now = Moment::now();
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

    /// Waits until the policy is asked about what was sent on the stream, or the server denies it by itself or closes the
    /// stream, in which cases there is no decision.
    pub fn asked_or_refused(&mut self, requester: &mut Requester) -> Result<Option<Decision>, CaseError> {
        self.asked_or(requester, "a question, Deny, or the end of the stream", |frame| {
            Ok(frame.json()?["action"]["Deny"].is_object())
        })
    }

    /// The same where closing the stream is the only refusal.
    pub fn asked_or_closed(&mut self, requester: &mut Requester) -> Result<Option<Decision>, CaseError> {
        self.asked_or(requester, "a question, or the end of the stream", |_| Ok(false))
    }

    fn asked_or(
        &mut self,
        requester: &mut Requester,
        expected: &str,
        refuses: impl Fn(&Frame) -> Result<bool, CaseError>,
    ) -> Result<Option<Decision>, CaseError> {
        const LOOK: Duration = Duration::from_millis(20);
        let deadline = Moment::now() + self.patience;
        while !deadline.is_over() {
            if let Some(decision) = self.shim.decision_within(LOOK)? {
                return Ok(Some(decision));
            }
            match requester.frames.receive_within(LOOK)? {
                Received::Silence { .. } => {}
                Received::End { bytes: 0 } => return Ok(None),
                Received::Frame(frame) if refuses(&frame)? => return Ok(None),
                other => return Err(violation(expected, shown(&other))),
            }
        }
        Err(violation(
            "the policy is asked, or the request stream is closed",
            format_args!("neither within {:?}", self.patience),
        ))
    }

    /// How long one event may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Closes the session.
    pub fn close_session(&mut self) -> Verdict {
        self.shim.close_session(&self.session.name)
    }

    /// Cancels the parent token of the session.
    pub fn cancel_session(&mut self) -> Verdict {
        self.shim.cancel_session(&self.session.name)
    }

    /// Demands that no descendant of the server stays a zombie.
    pub fn expect_no_zombies(&self) -> Verdict {
        processes::expect_no_zombies(self.shim.process.pid.as_raw(), self.patience)
    }

    /// Shuts the shim down.
    pub fn finish(mut self) -> Verdict {
        self.shim.shutdown()
    }
}

/// A session whose shell is a probe with this base environment.
pub fn probe_session_with(
    context: &Context,
    shim: &mut Shim,
    session: &str,
    environment: &Value,
) -> Result<ProbeSession, CaseError> {
    let shell = ConnectedProgram::new(context, &format!("shell-{session}"))?;
    let overlay = shim.start_session(session, shell.text(), "/nonexistent/wrapper")?;
    let params = json!({
        "session": session, "argv": [shell.text()], "cwd": context.work_directory(), "env": environment,
    });
    let result = shim.call("session/spawn", params)?;
    if !result["pid"].is_i64() {
        return Err(violation("a pid, a number", &result));
    }
    let mut probe = shell.accept("the spawned shell")?;
    let socket = probe.take_descriptor(overlay.socket_number()?)?;
    Ok(ProbeSession {
        name: session.to_owned(),
        overlay,
        socket: EscalationSocket::new(socket, context.transcript.clone(), context.patience())
            .with(shim.counterpart()),
        probe,
        _shell: shell,
    })
}

/// An escalated child that obeys, and the request that it belongs to.
pub struct Escalated {
    /// The wrapper's side.
    pub requester: Requester,
    /// The child.
    pub child: Probe,
}

impl Escalated {
    /// Lets the child exit and demands that status as the result.
    pub fn exit(mut self, status: i32) -> Verdict {
        self.child.send(&Order::Exit(status))?;
        self.requester.expect_exit_code(status.into())
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
