//! Many requests at once in one session.

use std::collections::HashMap;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::frame;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.concurrent/sixty-four-pending", sixty_four_pending),
    case("server.concurrent/slow-decision", slow_decision),
    case("server.concurrent/silent-streams", silent_streams),
    case("server.concurrent/half-requests", half_requests),
    case("server.concurrent/awaited-descriptors", awaited_descriptors),
    case("server.concurrent/sixty-four-children", sixty_four_children),
]);

/// How many requests a server must handle at once.
const MANY: usize = 64;

/// 64 requests are all asked about before any is answered; each gets the answer to its own question.
fn sixty_four_pending(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut requesters = Vec::new();
    for index in 0..MANY {
        let mark = format!("request {index}");
        let mut requester = stage.session.socket.open()?;
        requester.request(&stage.request("/bin/sh", &["x", &mark]))?;
        requesters.push((mark, requester));
    }
    let mut decisions = HashMap::new();
    for _ in 0..MANY {
        let decision = stage.shim.next_decision()?;
        let mark = decision.question.arguments.get(1).cloned().unwrap_or_default();
        decisions.insert(mark, decision);
    }
    expect::equal("different questions", MANY, decisions.len())?;
    for (mark, requester) in requesters.iter_mut().rev() {
        let decision = decisions
            .remove(mark)
            .ok_or_else(|| violation(format_args!("a question about {mark}"), "none"))?;
        decision.answer(&Answer::Deny(Some(mark.clone())))?;
        requester.expect_action(&json!({"Deny": {"reason": mark}}))?;
        requester.frames.expect_end("after Deny nothing more is sent")?;
    }
    stage.finish()
}

/// While the policy takes its time over one request, twenty others are served from question to answer.
fn slow_decision(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let slow = stage.request("/bin/sh", &["slow"]);
    let (mut slow_requester, slow_decision) = stage.ask(&slow)?;
    for index in 0..20 {
        let request = stage.request("/bin/sh", &["quick", &index.to_string()]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
    }
    stage.sentinel()?;
    stage.expect_nothing_yet(&slow_requester, "its decision is not there")?;
    slow_decision.answer(&Answer::Deny(Some("at last".to_owned())))?;
    slow_requester.expect_action(&json!({"Deny": {"reason": "at last"}}))?;
    stage.finish()
}

/// Streams on which nothing comes delay no other stream, and are served when something does.
fn silent_streams(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut silent = (0..MANY)
        .map(|_| stage.session.socket.open())
        .collect::<Result<Vec<_>, _>>()?;
    stage.sentinel()?;
    let last = silent
        .last_mut()
        .ok_or_else(|| crate::verdict::harness("no stream"))?;
    let request = stage.request("/bin/sh", &["late"]);
    last.request(&request)?;
    stage.question_about(&request)?.answer(&Answer::Run)?;
    last.expect_action(&json!("Run"))?;
    stage.finish()
}

/// Streams on which half a request has come delay no other stream, and are served when the rest comes.
fn half_requests(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut halves = Vec::new();
    for index in 0..10 {
        let request = stage.request("/bin/sh", &["half", &index.to_string()]);
        let bytes = frame(request.value().to_string().as_bytes());
        let cut = [1, 3, 4, 5, bytes.len() - 1][index % 5];
        let mut requester = stage.session.socket.open()?;
        requester.frames.send_bytes(&bytes[..cut], &[])?;
        halves.push((requester, request, bytes[cut..].to_vec()));
    }
    stage.sentinel()?;
    for (mut requester, request, rest) in halves {
        requester.frames.send_bytes(&rest, &[])?;
        stage.question_about(&request)?.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
    }
    stage.finish()
}

/// Requests whose descriptor message hasn't come delay no other request.
fn awaited_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut waiting = Vec::new();
    for index in 0..10 {
        let request = stage.request("/bin/sh", &["sh", "-c", "exit \"$0\"", &index.to_string()]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        waiting.push(requester);
    }
    stage.sentinel()?;
    let null = null()?;
    for (index, mut requester) in waiting.into_iter().enumerate().rev() {
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        requester.expect_exit_code(index as i64)?;
    }
    stage.finish()
}

/// 64 escalated children live at once, further requests are served, and each result goes to its own stream.
fn sixty_four_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let mut requesters = Vec::new();
    for index in 0..MANY {
        let request = stage.request(program.text(), &["child", &index.to_string()]);
        requesters.push(stage.escalate_quietly(&request)?);
    }
    let mut children = Vec::new();
    for _ in 0..MANY {
        children.push(program.accept("an escalated child")?);
    }
    stage.sentinel()?;
    for child in &mut children {
        let words = child.report.argument_text();
        let index: i32 = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(-1);
        child.send(&Order::Exit(100 + index))?;
    }
    for (index, requester) in requesters.iter_mut().enumerate() {
        requester.expect_exit_code(100 + index as i64)?;
    }
    stage.finish()
}
