//! wire.json and wire.json.unknown, for a server: the shapes of messages, and members it does not know.

use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::frame;
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::{null, objects};
use crate::stage::server::{Escalated, Stage, expect_program};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.json/decision-shapes", decision_shapes),
    case("wire.json/result-shape", result_shape),
    case("wire.json/no-word-before-the-request", no_word_before_the_request),
    case("wire.json/result-only-after-the-end", result_only_after_the_end),
    case("wire.json.unknown/in-the-request", in_the_request),
    case("wire.json.unknown/named-like-others", named_like_others),
    case("wire.json.unknown/in-the-descriptor-message", in_the_descriptor_message),
    case("wire.json.unknown/nested-100-deep", nested_100_deep),
    case("wire.json.unknown/nested-500-deep", nested_500_deep).at(Level::Hardened),
]);

/// The decisions in exactly their spellings; `reason` is there also where it is null.
fn decision_shapes(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let table = [
        (Answer::Run, json!("Run")),
        (Answer::Escalate, json!("Escalate")),
        (Answer::Deny(Some("no".to_owned())), json!({"reason": "no"})),
        (Answer::Deny(None), json!({"reason": null})),
    ];
    for (answer, shape) in table {
        let request = scene.request("/bin/sh", &["x"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&answer)?;
        let message = requester.frames.expect_frame("the decision")?.json()?;
        let denial = message["action"].get("Deny").and_then(Value::as_object);
        let found = match (&answer, denial) {
            (Answer::Deny(_), Some(members)) if members.contains_key("reason") => {
                json!({"reason": members["reason"]})
            }
            (Answer::Deny(_), _) => {
                return Err(violation("an action {\"Deny\":{\"reason\":…}}", &message));
            }
            _ => message["action"].clone(),
        };
        expect::equal("the action of the decision", &shape, &found)?;
    }
    scene.finish()
}

/// The result is an object whose `exit_code` is an integer.
fn result_shape(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for code in [0, 3, 255] {
        let request = scene.request("/bin/sh", &["sh", "-c", &format!("exit {code}")]);
        let mut requester = scene.escalate_quietly(&request)?;
        let message = requester.frames.expect_frame("the result")?.json()?;
        expect::that(message.is_object(), "a result that is an object", &message)?;
        // Compared as JSON: neither 3.0 nor "3" is the integer 3.
        expect::equal("exit_code of the result", &json!(code), &message["exit_code"])?;
    }
    scene.finish()
}

/// The server sends nothing before the request is complete.
fn no_word_before_the_request(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["x", "in two parts"]);
    let bytes = frame(request.value().to_string().as_bytes());
    let mut requester = scene.session.socket.open()?;
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "there is no request yet")?;
    requester.frames.send_bytes(&bytes[..30], &[])?;
    requester.frames.drained()?;
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "there is half a request")?;
    requester.frames.send_bytes(&bytes[30..], &[])?;
    let decision = scene.question_about(&request)?;
    scene.expect_nothing_yet(&requester, "there is no decision yet")?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    scene.finish()
}

/// The server sends no result before the child has ended.
fn result_only_after_the_end(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        mut child,
    } = scene.start(&program)?;
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "the child runs")?;
    child.send(&Order::Exit(11))?;
    requester.expect_exit_code(11)?;
    scene.finish()
}

/// Values of every type that unknown members can have.
const UNKNOWN: [&str; 12] = [
    "null",
    "true",
    "0",
    "-1.5e300",
    "1e400",
    "123456789012345678901234567890",
    "\"text\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[1,[2,{\"a\":null}]]",
    "{\"file\":\"/bin/other\",\"argv\":[\"other\"]}",
];

/// Sends a request whose members have `before` and `after` around them, and demands that it is understood.
fn expect_understood_with(scene: &mut Stage, before: &str, after: &str) -> Verdict {
    let request = scene.request("/bin/sh", &["x", "y"]).variable("K", "V");
    let text = request.value().to_string();
    let members = &text[1..text.len() - 1];
    let mut requester = scene.session.socket.open()?;
    let payload = format!("{{{before}{members}{after}}}");
    requester.frames.send(payload.as_bytes(), &[])?;
    let decision = scene.question_about(&request)?;
    expect_program("/bin/sh", &decision)?;
    expect::equal("workdir", &scene.directory, &decision.question.directory)?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))
}

/// Unknown members of every type, before and after the known ones.
fn in_the_request(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for value in UNKNOWN {
        expect_understood_with(
            &mut scene,
            &format!("\"unknown\":{value},"),
            &format!(",\"\":{value},\"x y\":{value}"),
        )?;
    }
    scene.finish()
}

/// Members whose names are those of other messages, or almost those of the request, are unknown too.
fn named_like_others(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let names = [
        "fds",
        "action",
        "exit_code",
        "signal",
        "signals",
        "File",
        "FILE",
        "file ",
        "args",
        "cwd",
        "version",
        "id",
    ];
    for name in names {
        let member = format!("{}:[\"/bin/other\"]", json!(name));
        expect_understood_with(&mut scene, &format!("{member},"), "")?;
        expect_understood_with(&mut scene, "", &format!(",{member}"))?;
    }
    scene.finish()
}

/// Unknown members of the descriptor message.
fn in_the_descriptor_message(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let null: OwnedFd = null()?.into();
    for value in UNKNOWN {
        let request = scene.request("/bin/sh", &["sh", "-c", "exit 5"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let payload = format!("{{\"unknown\":{value},\"fds\":[0,1,2],\"future\":{value}}}");
        let numbers: Vec<i32> = objects(std::slice::from_ref(&null))
            .iter()
            .cycle()
            .take(3)
            .map(|object| object.number())
            .collect();
        requester.frames.send(payload.as_bytes(), &numbers)?;
        requester.expect_exit_code(5)?;
    }
    scene.finish()
}

fn expect_nested(scene: &mut Stage, depth: usize) -> Verdict {
    let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!("{}null{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for value in [arrays, objects] {
        expect_understood_with(scene, &format!("\"deep\":{value},"), "")?;
        expect_understood_with(scene, "", &format!(",\"deep\":{value}"))?;
    }
    Ok(())
}

/// Unknown members that are nested 100 deep.
fn nested_100_deep(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    expect_nested(&mut scene, 100)?;
    scene.finish()
}

/// Unknown members that are nested 500 deep.
fn nested_500_deep(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    expect_nested(&mut scene, 499)?;
    expect_nested(&mut scene, 500)?;
    scene.finish()
}
