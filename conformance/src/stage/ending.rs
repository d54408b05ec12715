//! The end of a session, by closing it or by cancelling its parent token: what both must bring about.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Decision, ProbeSession, Shim};
use crate::peer::program::{ConnectedProgram, Probe, Program};
use crate::peer::wire::{Received, frame, read_to_end};
use crate::probe::plan::Act;
use crate::shown::shown;
use crate::stage::descriptors::null;
use crate::stage::server::{Escalated, Stage};
use crate::system::clock::Moment;
use crate::system::process;
use crate::verdict::{CaseError, Verdict, violation};

/// How a session is ended.
#[derive(Clone, Copy, PartialEq)]
pub enum SessionEnd {
    /// By `session/close`.
    Close,
    /// By cancelling its parent token.
    Cancel,
}

impl SessionEnd {
    /// Ends the session of the stage.
    pub fn end(self, stage: &mut Stage) -> Verdict {
        match self {
            SessionEnd::Close => stage.close_session(),
            SessionEnd::Cancel => stage.cancel_session(),
        }
    }
}

/// A session of its own that proves that the server serves, and that nothing else has been asked.
pub struct SentinelSession {
    session: ProbeSession,
    program: Program,
}

impl SentinelSession {
    /// A session named `sentinel`.
    pub fn new(context: &Context, shim: &mut Shim) -> Result<SentinelSession, CaseError> {
        SentinelSession::named(context, shim, "sentinel")
    }

    fn named(context: &Context, shim: &mut Shim, name: &str) -> Result<SentinelSession, CaseError> {
        let name = format!("{name}-{}", context.next_number());
        let session = shim.probe_session(context, &name)?;
        let program = Program::new(context, &format!("program-of-{name}"), [Act::Exit(77)])?;
        Ok(SentinelSession { session, program })
    }

    /// A whole escalation in this session, whose question is the next one.
    pub fn served(&mut self, shim: &Shim) -> Verdict {
        let name = self.session.name.clone();
        self.served_beside(shim, |other| {
            let session = &*other.question.session;
            expect::equal("session of the next question", &*name, session)
        })
    }

    /// A whole escalation in this session; `hear` gets the questions of others that come before its own.
    pub fn served_beside(&mut self, shim: &Shim, mut hear: impl FnMut(Decision) -> Verdict) -> Verdict {
        let mut requester = self.session.socket.open()?;
        requester.request(&RequestMessage::new(self.program.text(), &["sentinel"], "/"))?;
        let decision = loop {
            let decision = shim.next_decision()?;
            if decision.question.session == self.session.name {
                break decision;
            }
            hear(decision)?;
        };
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let null = null()?;
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        requester.expect_exit_code(77)
    }
}

/// Demands that a request that waits for its decision ends with its session, and that the server goes on serving an
/// older and a newer session, though the policy never answers.
pub fn pending_request_ends(context: &Context, way: SessionEnd) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut older = SentinelSession::named(context, &mut stage.shim, "older")?;
    let request = stage.request("/bin/sh", &["sh", "-c", "exit 1"]);
    let (mut requester, _never) = stage.ask(&request)?;
    way.end(&mut stage)?;
    requester.frames.expect_end("its session has ended")?;
    older.served(&stage.shim)?;
    SentinelSession::named(context, &mut stage.shim, "newer")?.served(&stage.shim)?;
    stage.finish()
}

/// Answers that come after the end start nothing, and don't confuse the server.
pub fn late_answers_start_nothing(context: &Context, way: SessionEnd) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "late")?;
    let null = null()?;
    let mut pending = Vec::new();
    for answer in [Answer::Escalate, Answer::Run, Answer::Deny(None), Answer::Fail] {
        let request = stage.request(program.text(), &["late"]);
        let (requester, decision) = stage.ask(&request)?;
        pending.push((requester, decision, answer));
    }
    way.end(&mut stage)?;
    for (mut requester, decision, answer) in pending {
        requester.frames.expect_end("its session has ended")?;
        decision.answer(&answer)?;
        // A wrapper that had the descriptor message on its way all the same.
        let message = frame(br#"{"fds":[0,1,2]}"#);
        let _ = requester.frames.try_send_bytes(&message, &[null.as_raw_fd(); 3]);
    }
    // Two in a row: the first may overtake a program that has just been started.
    sentinel.served(&stage.shim)?;
    sentinel.served(&stage.shim)?;
    program.expect_no_start()?;
    stage.finish()
}

/// Starts a child, prepares it, ends the session, and demands that the child is gone and reaped; `expect_stream` looks
/// at the end of its request stream.
pub fn child_ends(
    context: &Context,
    way: SessionEnd,
    prepare: impl FnOnce(&mut Probe) -> Verdict,
    expect_stream: impl FnOnce(&mut Requester) -> Verdict,
) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let name = format!("child-{}", context.next_number());
    let program = ConnectedProgram::new(context, &name)?;
    let Escalated {
        mut requester,
        mut child,
    } = stage.start(&program)?;
    prepare(&mut child)?;
    let handle = child.process()?;
    way.end(&mut stage)?;
    handle.expect_end(
        "the escalated child of a session that has ended",
        stage.patience(),
    )?;
    expect_reaped(child.report.pid, stage.patience())?;
    expect_stream(&mut requester)?;
    stage.finish()
}

/// Demands that a process is neither running nor a zombie. The shim lives meanwhile.
pub fn expect_reaped(pid: i32, patience: Duration) -> Verdict {
    let deadline = Moment::now() + patience;
    loop {
        match process::state(pid) {
            None => return Ok(()),
            // Only a parent is notified when a child is reaped, so yield and look again.
            Some(_) if !deadline.is_over() => process::rest(),
            Some(state) => {
                return Err(violation(
                    format_args!("process {pid} is reaped"),
                    format_args!("it is in state {} under parent {}", state.state, state.parent),
                ));
            }
        }
    }
}

/// The stream of a child that was killed by the end of its session ends; a result before that must not claim success.
pub fn expect_ended_child_stream(requester: &mut Requester) -> Verdict {
    match requester.frames.receive()? {
        Received::Frame(frame) => {
            let message = frame.json()?;
            expect::that(
                message["exit_code"].as_i64().is_some_and(|code| code != 0),
                "no success for a child that was killed",
                &message,
            )?;
            requester.frames.expect_end("its session has ended")
        }
        Received::End { bytes: 0 } => Ok(()),
        other => Err(violation("the end of the stream", shown(&other))),
    }
}

/// Demands that handshakes fail or come to their end once their session has ended, and that the policy is not asked
/// about them: at once, and when the end of a pending request shows that the teardown has come as far as the streams.
pub fn handshakes_are_refused(context: &Context, way: SessionEnd) -> Verdict {
    for with_pending_request in [false, true] {
        let mut stage = Stage::new(context)?.decide_by_hand();
        let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
        stage.sentinel()?;
        let pending = if with_pending_request {
            let request = stage.request("/bin/true", &["first"]);
            Some(stage.ask(&request)?)
        } else {
            None
        };
        way.end(&mut stage)?;
        if let Some((mut requester, _decision)) = pending {
            requester.frames.expect_end("its session has ended")?;
        }
        for _ in 0..3 {
            expect_not_served(&mut stage.session.socket, context.patience())?;
        }
        sentinel.served(&stage.shim)?;
        stage.shim.expect_no_decision()?;
        stage.finish()?;
    }
    Ok(())
}

/// Demands that a handshake fails, or that its stream ends without an answer.
pub fn expect_not_served(socket: &mut EscalationSocket, patience: Duration) -> Verdict {
    let (ours, theirs) = UnixStream::pair()?;
    if socket.try_datagram(&[0], &[&theirs]).is_err() {
        return Ok(());
    }
    drop(theirs);
    let text = RequestMessage::new("/bin/sh", &["sh", "too late"], "/")
        .value()
        .to_string();
    let _ = (&ours).write_all(&frame(text.as_bytes()));
    let deadline = Moment::now() + patience;
    match read_to_end(&ours, deadline) {
        Ok(Some(bytes)) => expect::equal("bytes before the end of the stream", 0, bytes.len()),
        Ok(None) => Err(violation(
            "the end of a stream that is not served",
            "it stays open",
        )),
        // Closed with the request unread, which the kernel reports as a reset.
        Err(_) => Ok(()),
    }
}
