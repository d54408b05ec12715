//! Many requests at once in one session.

use std::collections::HashMap;

use serde_json::json;

use super::scene::{Scene, null};
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::frame;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
#[rustfmt::skip]
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
    let mut scene = Scene::new(context)?;
    let mut requesters = Vec::new();
    for index in 0..MANY {
        let mark = format!("request {index}");
        let mut requester = scene.session.socket.open()?;
        requester.request(&scene.request("/bin/sh", &["x", &mark]))?;
        requesters.push((mark, requester));
    }
    let mut decisions = HashMap::new();
    for _ in 0..MANY {
        let decision = scene.shim.next_decision()?;
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
        requester.frames.expect_end("after Deny nothing more is said")?;
    }
    scene.end()
}

/// While the policy takes its time over one request, twenty others are served from question to answer.
fn slow_decision(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    let slow = scene.request("/bin/sh", &["slow"]);
    let (mut slow_requester, slow_decision) = scene.ask(&slow)?;
    for index in 0..20 {
        let request = scene.request("/bin/sh", &["quick", &index.to_string()]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
    }
    scene.sentinel()?;
    scene.expect_nothing_yet(&slow_requester, "its decision is not there")?;
    slow_decision.answer(&Answer::Deny(Some("at last".to_owned())))?;
    slow_requester.expect_action(&json!({"Deny": {"reason": "at last"}}))?;
    scene.end()
}

/// Streams on which nothing comes delay nobody, and are served when something does.
fn silent_streams(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    let mut silent = (0..MANY)
        .map(|_| scene.session.socket.open())
        .collect::<Result<Vec<_>, _>>()?;
    scene.sentinel()?;
    let last = silent
        .last_mut()
        .ok_or_else(|| crate::verdict::harness("no stream"))?;
    let request = scene.request("/bin/sh", &["late"]);
    last.request(&request)?;
    scene.question_about(&request)?.answer(&Answer::Run)?;
    last.expect_action(&json!("Run"))?;
    scene.end()
}

/// Streams on which half a request has come delay nobody, and are served when the rest comes.
fn half_requests(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    let mut halves = Vec::new();
    for index in 0..10 {
        let request = scene.request("/bin/sh", &["half", &index.to_string()]);
        let bytes = frame(request.value().to_string().as_bytes());
        let cut = [1, 3, 4, 5, bytes.len() - 1][index % 5];
        let mut requester = scene.session.socket.open()?;
        requester.frames.send_bytes(&bytes[..cut], &[])?;
        halves.push((requester, request, bytes[cut..].to_vec()));
    }
    scene.sentinel()?;
    for (mut requester, request, rest) in halves {
        requester.frames.send_bytes(&rest, &[])?;
        scene.question_about(&request)?.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
    }
    scene.end()
}

/// Requests whose descriptor message hasn't come delay nobody.
fn awaited_descriptors(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    let mut waiting = Vec::new();
    for index in 0..10 {
        let request = scene.request("/bin/sh", &["sh", "-c", "exit \"$0\"", &index.to_string()]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        waiting.push(requester);
    }
    scene.sentinel()?;
    let null = null()?;
    for (index, mut requester) in waiting.into_iter().enumerate().rev() {
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        requester.expect_exit_code(index as i64)?;
    }
    scene.end()
}

/// 64 escalated children live at once, further requests are served, and each result goes to its own stream.
fn sixty_four_children(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    let mut requesters = Vec::new();
    for index in 0..MANY {
        let request = scene.request(program.text(), &["child", &index.to_string()]);
        requesters.push(scene.escalate_quietly(&request)?);
    }
    let mut children = Vec::new();
    for _ in 0..MANY {
        children.push(program.accept("an escalated child")?);
    }
    scene.sentinel()?;
    for child in &mut children {
        let words = child.report.argument_text();
        let index: i32 = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(-1);
        child.send(&Order::Exit(100 + index))?;
    }
    for (index, requester) in requesters.iter_mut().enumerate() {
        requester.expect_exit_code(100 + index as i64)?;
    }
    scene.end()
}
