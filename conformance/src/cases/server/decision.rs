//! The decision as the server sends it, and what the server does and doesn't do after it.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::Received;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.decision/run", run),
    case("server.decision/escalate", escalate),
    case("server.decision/deny-with-a-reason", deny_with_a_reason),
    case("server.decision/deny-without-a-reason", deny_without_a_reason),
    case("server.decision/long-reason", long_reason),
    case("server.decision/asked-once", asked_once),
    case("server.decision/not-remembered", not_remembered),
    case("server.decision/deny-executes-nothing", deny_executes_nothing),
    case("server.decision/a-second-request-on-a-stream", a_second_request_on_a_stream).at(Level::Hardened),
]);

/// Run is sent, the stream is closed, and the server itself executes nothing.
fn run(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    // Anything that the first requests start has the time of all the others to show.
    for _ in 0..30 {
        let request = stage.request(program.text(), &["program"]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
        requester.frames.expect_end("after Run nothing more is sent")?;
        stage.sentinel()?;
    }
    program.expect_not_started()?;
    stage.finish()
}

/// Escalate is sent, and nothing starts before the descriptor message has arrived.
fn escalate(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "program")?;
    let request = stage.request(program.text(), &["program"]);
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    stage.sentinel()?;
    program.expect_no_start()?;
    stage.expect_nothing_yet(&requester, "the server waits for the descriptor message")?;
    let null = null()?;
    requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
    let mut probe = program.accept("the escalated child")?;
    probe.send(&crate::probe::remote::Order::Exit(0))?;
    requester.expect_exit_code(0)?;
    // One that was started too early may have been slow to run.
    program.expect_no_other_start()?;
    stage.finish()
}

fn expect_denial(stage: &mut Stage, reason: Option<&str>) -> Verdict {
    let request = stage.request("/bin/sh", &["x"]);
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Deny(reason.map(str::to_owned)))?;
    requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
    requester.frames.expect_end("after Deny nothing more is sent")
}

/// The policy's reason arrives as the policy gave it.
fn deny_with_a_reason(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let reasons = [
        "no",
        "not on a Sunday",
        " blanks at both ends ",
        "two\nlines\n",
        "quotes \" and \\ and \t and \u{1b}[31m",
        "ü–😀 \u{2028}",
        "null",
        "{\"action\":\"Run\"}",
    ];
    for reason in reasons {
        expect_denial(&mut stage, Some(reason))?;
    }
    stage.finish()
}

/// If the policy gave no reason, the reason is null.
fn deny_without_a_reason(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    expect_denial(&mut stage, None)?;
    stage.finish()
}

/// A reason of 100 KiB arrives whole.
fn long_reason(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let reason: String = (0..)
        .map(|line| format!("{line}: because\n"))
        .take(8_000)
        .collect();
    expect_denial(&mut stage, Some(&reason))?;
    stage.finish()
}

/// Twenty requests are twenty questions.
fn asked_once(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for answer in [Answer::Run, Answer::Deny(None)].iter().cycle().take(20) {
        let request = stage.request("/bin/sh", &["x"]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(answer)?;
        requester.frames.expect_frame("a decision")?;
        requester
            .frames
            .expect_end("after Run and Deny nothing more is sent")?;
    }
    // Its question is the next one: nothing was asked twice.
    stage.sentinel()?;
    stage.shim.expect_no_decision()?;
    stage.finish()
}

/// The same request again is a new question, with an answer of its own.
fn not_remembered(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for (answer, action) in [
        (Answer::Run, json!("Run")),
        (
            Answer::Deny(Some("now".to_owned())),
            json!({"Deny": {"reason": "now"}}),
        ),
        (Answer::Run, json!("Run")),
        (Answer::Deny(None), json!({"Deny": {"reason": null}})),
    ] {
        let request = stage.request("/bin/sh", &["x", "y"]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&answer)?;
        requester.expect_action(&action)?;
    }
    stage.finish()
}

/// After Deny nothing is executed, even if the wrapper sends descriptors.
fn deny_executes_nothing(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let request = stage.request(program.text(), &["program"]);
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Deny(Some("no".to_owned())))?;
    requester.expect_action(&json!({"Deny": {"reason": "no"}}))?;
    let null = null()?;
    // The server may have closed its end already.
    let message = crate::peer::wire::frame(br#"{"fds":[0]}"#);
    let _ = requester
        .frames
        .try_send_bytes(&message, &[std::os::fd::AsRawFd::as_raw_fd(&null)]);
    requester.frames.expect_end("after Deny nothing more is sent")?;
    stage.sentinel()?;
    program.expect_not_started()?;
    stage.finish()
}

/// A second request on a stream doesn't change what was decided on: the first one runs, or nothing.
fn a_second_request_on_a_stream(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let decided = Program::new(context, "decided", [])?;
    let other = Program::new(context, "other", [])?;
    let request = stage.request(decided.text(), &["decided"]);
    let (mut requester, decision) = stage.ask(&request)?;
    requester.request(&stage.request(other.text(), &["decided"]))?;
    // Sent while the policy is deciding, it arrives before the answer.
    let mut second = stage.session.socket.open()?;
    second.request(&stage.request("/bin/sh", &["sentinel"]))?;
    let sentinel = stage.shim.next_decision()?;
    expect::equal(
        "argv of the sentinel",
        vec!["sentinel"],
        sentinel.question.arguments.clone(),
    )?;
    sentinel.answer(&Answer::Run)?;
    second.expect_action(&json!("Run"))?;
    decision.answer(&Answer::Escalate)?;
    let null = null()?;
    match requester.frames.receive()? {
        Received::End { .. } => {}
        Received::Frame(frame) => {
            expect::equal("the decision", json!("Escalate"), frame.json()?["action"].clone())?;
            let message = crate::peer::wire::frame(br#"{"fds":[0]}"#);
            let _ = requester
                .frames
                .try_send_bytes(&message, &[std::os::fd::AsRawFd::as_raw_fd(&null)]);
            if let Received::Silence { .. } = requester.frames.receive()? {
                return Err(violation(
                    "the result of what was decided on, or the end of the stream",
                    "neither",
                ));
            }
        }
        Received::Silence { .. } => {
            return Err(violation("the decision, or the end of the stream", "neither"));
        }
    }
    stage.sentinel()?;
    other.expect_not_started()?;
    stage.finish()
}
