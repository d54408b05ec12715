//! A policy that fails: the request is denied or its stream closed, nothing runs, and the next one is served.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::harness::{Answer, Decision};
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{Received, frame};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::holdings::Holdings;
use crate::stage::server::{Escalated, Stage};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.policy.error/error-answer", error_answer),
    case("server.policy.error/no-decision", no_decision),
    case("server.policy.error/not-remembered", not_remembered),
    case("server.policy.error/some-of-many", some_of_many),
    case("server.policy.error/beside-running-children", beside_running_children),
    case("server.policy.error/after-the-wrapper-left", after_the_wrapper_left),
    case("server.policy.error/in-another-session", in_another_session),
    case("server.policy.error/again-and-again", again_and_again).within_seconds(60),
]);

/// Demands Deny or the end of the stream, whatever the wrapper sends after that.
fn expect_failed_closed(requester: &mut Requester, why: &str) -> Verdict {
    let expected = format!("after {why}: Deny, or the end of the stream");
    match requester.frames.receive()? {
        Received::End { bytes: 0 } => Ok(()),
        Received::Frame(frame) => {
            let message = frame.json()?;
            if message["action"]["Deny"].is_object() {
                // A wrapper that took it for Escalate would find the stream closed.
                let _ = requester
                    .frames
                    .try_send_bytes(&self::frame(b"{\"fds\":[]}"), &[]);
                return requester.frames.expect_end("after Deny nothing more is sent");
            }
            Err(violation(expected, message))
        }
        Received::End { bytes } => Err(violation(expected, format_args!("{bytes} bytes of a frame"))),
        Received::Silence { .. } => Err(violation(expected, "nothing: the wrapper would hang")),
    }
}

/// Has the policy fail in this way over a request for `program`, which must not start.
fn expect_failure_handled(
    stage: &mut Stage,
    program: &Program,
    why: &str,
    fail: impl FnOnce(Decision) -> Verdict,
) -> Verdict {
    let request = stage.request(program.text(), &["never"]);
    let (mut requester, decision) = stage.ask(&request)?;
    fail(decision)?;
    expect_failed_closed(&mut requester, why)?;
    stage.sentinel()?;
    program.expect_not_started()
}

/// The policy answers with an error.
fn error_answer(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "never", [])?;
    for _ in 0..3 {
        expect_failure_handled(&mut stage, &program, "an error", |decision| {
            decision.answer(&Answer::Fail)
        })?;
    }
    stage.finish()
}

/// The policy answers with something that is not a decision.
fn no_decision(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "never", [])?;
    let answers = [
        json!(null),
        json!(true),
        json!(1),
        json!("yes"),
        json!([]),
        json!({}),
        json!({"action": null}),
        json!({"action": ""}),
        json!({"action": "maybe"}),
        json!({"action": "execute"}),
        json!({"action": "runs"}),
        json!({"action": true}),
        json!({"action": 0}),
        json!({"action": ["escalate"]}),
        json!({"action": {"escalate": {}}}),
        json!({"decision": "escalate"}),
    ];
    for answer in answers {
        let why = format!("the answer {answer}");
        expect_failure_handled(&mut stage, &program, &why, |decision| {
            decision.answer_with(&answer)
        })?;
    }
    stage.finish()
}

/// The same request again is another question: a failure is not a decision that could be remembered.
fn not_remembered(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let request = stage.request(program.text(), &["program"]);
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Fail)?;
    expect_failed_closed(&mut requester, "an error")?;
    program.expect_not_started()?;
    stage.escalate_quietly(&request)?.expect_exit_code(0)?;
    program.only_start()?;
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    stage.finish()
}

/// Of requests that are pending together, only those fail for which the policy fails.
fn some_of_many(context: &mut Context) -> Verdict {
    const PENDING: usize = 24;
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut pending = Vec::new();
    for index in 0..PENDING {
        let request = stage.request("/bin/sh", &["sh", &index.to_string()]);
        pending.push(stage.ask(&request)?);
    }
    let mut asked = Vec::new();
    for (index, (requester, decision)) in pending.into_iter().enumerate().rev() {
        match index % 3 {
            0 => decision.answer(&Answer::Fail)?,
            1 => decision.answer_with(&json!({"action": "maybe"}))?,
            _ => decision.answer(&Answer::Deny(Some(index.to_string())))?,
        }
        asked.push((index, requester));
    }
    for (index, mut requester) in asked {
        if index % 3 == 2 {
            requester.expect_action(&json!({"Deny": {"reason": index.to_string()}}))?;
        } else {
            expect_failed_closed(&mut requester, "a failure")?;
        }
    }
    stage.sentinel()?;
    stage.finish()
}

/// A policy failure for one request does not disturb the children of others.
fn beside_running_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let running = ConnectedProgram::new(context, "running")?;
    let Escalated {
        requester: mut parent,
        mut child,
    } = stage.start(&running)?;
    let program = Program::new(context, "never", [])?;
    expect_failure_handled(&mut stage, &program, "an error", |decision| {
        decision.answer(&Answer::Fail)
    })?;
    expect_failure_handled(&mut stage, &program, "no decision", |decision| {
        decision.answer_with(&Value::Null)
    })?;
    stage.expect_nothing_yet(&parent, "its child runs")?;
    child.send(&Order::Exit(13))?;
    parent.expect_exit_code(13)?;
    stage.finish()
}

/// The policy fails when its wrapper no longer waits.
fn after_the_wrapper_left(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for _ in 0..5 {
        let request = stage.request("/bin/sh", &["left"]);
        let (requester, decision) = stage.ask(&request)?;
        drop(requester);
        decision.answer(&Answer::Fail)?;
        let (requester, decision) = stage.ask(&request)?;
        drop(requester);
        decision.answer_with(&json!({"action": "maybe"}))?;
    }
    stage.sentinel()?;
    stage.finish()
}

/// A failure over a request of one session does not affect another session.
fn in_another_session(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut other = stage.shim.probe_session(context, "other")?;
    let request = stage.request("/bin/sh", &["main"]);
    let (mut waiting, pending) = stage.ask(&request)?;
    let of_other = stage.request("/bin/sh", &["other"]);
    for answer in [json!(null), json!({"action": "maybe"})] {
        let mut requester = other.socket.open()?;
        requester.request(&of_other)?;
        stage.question_about(&of_other)?.answer_with(&answer)?;
        expect_failed_closed(&mut requester, "no decision")?;
    }
    let mut requester = other.socket.open()?;
    requester.request(&of_other)?;
    stage.question_about(&of_other)?.answer(&Answer::Fail)?;
    expect_failed_closed(&mut requester, "an error")?;
    pending.answer(&Answer::Run)?;
    waiting.expect_action(&json!("Run"))?;
    stage.sentinel()?;
    let mut requester = other.socket.open()?;
    requester.request(&of_other)?;
    stage.question_about(&of_other)?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    stage.finish()
}

/// Many failures leave nothing behind.
fn again_and_again(context: &mut Context) -> Verdict {
    const TIMES: usize = 100;
    let mut stage = Stage::new(context)?.decide_by_hand();
    let shell = [stage.session.probe.report.pid];
    let request = stage.request("/bin/sh", &["sh"]);
    let mut before = None;
    for index in 0..TIMES {
        let (mut requester, decision) = stage.ask(&request)?;
        match index % 2 {
            0 => decision.answer(&Answer::Fail)?,
            _ => decision.answer_with(&json!({}))?,
        }
        expect_failed_closed(&mut requester, "a failure")?;
        if index == 3 {
            before = Some(Holdings::at_rest(&stage.shim, &shell, context.patience()));
        }
    }
    let what = format!("{TIMES} failures of the policy");
    if let Some(before) = before {
        Holdings::expect_returned(&stage.shim, &shell, &before, &what, context.patience())?;
    }
    stage.sentinel()?;
    stage.finish()
}
