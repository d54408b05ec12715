//! wire.json and wire.json.unknown, for a wrapper: the shapes of messages, and members it does not know.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::{Level, Role};
use crate::system::clock::Moment;
use crate::system::poll::readable_until;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.json/shapes", shapes),
    case("wire.json/nothing-but-the-request", nothing_but_the_request),
    case("wire.json.unknown/members-of-replies", unknown_members),
    case("wire.json.unknown/values-of-any-type", values_of_any_type),
    case("wire.json.unknown/inner-members-mean-nothing", inner_members),
    case("wire.json.unknown/reply-nested-500-deep", nested_500_deep).at(Level::Hardened),
]);

/// Request and descriptor message have the documented shapes, with strings, lists and numbers in their places.
fn shapes(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, request) = wrapper.request()?;
    request.file()?;
    request.arguments()?;
    request.directory()?;
    request.environment()?;
    let escalation = stream.escalate()?;
    if escalation.numbers.is_empty() {
        return Err(violation(
            "fds with the numbers of the descriptors",
            &escalation.message,
        ));
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// Members that a wrapper does not know are ignored in every reply.
fn unknown_members(context: &mut Context) -> Verdict {
    let extra = json!({"a": [null, true, 1.5e3, "x"], "b": {"c": {}}});
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream
        .frames
        .send_json(&json!({"version": 9, "action": "Escalate", "more": extra}))?;
    stream.descriptors()?;
    stream
        .frames
        .send_json(&json!({"more": extra, "exit_code": 6, "core": false}))?;
    wrapper.finish()?.expect_status(6)?;

    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream
        .frames
        .send_json(&json!({"action": {"Deny": {"hint": extra, "reason": "no"}}, "more": extra}))?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    expect::equal(
        "standard error",
        "Execution denied: no\n",
        &*finished.error_text(),
    )
}

/// Members of every type and size, before and after those that count, in each reply.
fn values_of_any_type(context: &mut Context) -> Verdict {
    let unknown = [
        "null",
        "true",
        "[]",
        "[[],{},[null,[\"x\"]]]",
        "{\"a\":{\"b\":[1,2,{\"c\":null}]}}",
        "-0.0e-5",
        "123456789012345678901234567890",
        "\"\\u0000\\ud83d\\ude00\\\"\"",
    ];
    for value in unknown {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let call = || WrapperCall::new(context, &program.path, ["program"])?.start();
        let mut wrapper = call()?;
        let (mut stream, _) = wrapper.request()?;
        let payload = format!("{{\"x\":{value},\"action\":\"Escalate\",\"y\":{value}}}");
        stream.frames.send(payload.as_bytes(), &[])?;
        stream.descriptors()?;
        let payload = format!("{{\"x\":{value},\"exit_code\":9,\"y\":{value}}}");
        stream.frames.send(payload.as_bytes(), &[])?;
        wrapper.finish()?.expect_status(9)?;

        let mut wrapper = call()?;
        let (mut stream, _) = wrapper.request()?;
        let deny = format!("{{\"x\":{value},\"reason\":\"r\",\"y\":{value}}}");
        let payload = format!("{{\"x\":{value},\"action\":{{\"Deny\":{deny}}},\"y\":{value}}}");
        stream.frames.send(payload.as_bytes(), &[])?;
        let finished = wrapper.finish()?;
        expect::equal("standard error", "Execution denied: r\n", &*finished.error_text())?;
        finished.expect_status(1)?;
        program.expect_not_started()?;

        let mut wrapper = call()?;
        let (mut stream, _) = wrapper.request()?;
        let payload = format!("{{\"x\":{value},\"action\":\"Run\",\"y\":{value}}}");
        stream.frames.send(payload.as_bytes(), &[])?;
        wrapper.finish()?.expect_status(0)?;
        program.only_start()?;
    }
    Ok(())
}

/// A member counts where it stands: one of the same name further in is unknown.
fn inner_members(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let inner = json!({"action": "Run", "exit_code": 0, "signal": 9});
    stream
        .frames
        .send_json(&json!({"before": inner, "action": "Escalate", "after": [inner]}))?;
    stream.descriptors()?;
    stream
        .frames
        .send_json(&json!({"before": inner, "exit_code": 9, "after": [inner]}))?;
    wrapper.finish()?.expect_status(9)?;
    program.expect_not_started()
}

/// 500 arrays in one another, and 500 objects.
fn nested_500_deep(context: &mut Context) -> Verdict {
    let arrays = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let objects = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
    for value in [arrays, objects] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        let payload = format!("{{\"x\":{value},\"action\":\"Run\"}}");
        stream.frames.send(payload.as_bytes(), &[])?;
        wrapper.finish()?.expect_status(0)?;
        program.only_start()?;
    }
    Ok(())
}

/// Before the decision nothing but the request is sent, on the stream or on the escalation socket, while other
/// wrappers come and go.
fn nothing_but_the_request(context: &mut Context) -> Verdict {
    let mut waiting = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = waiting.request()?;
    for _ in 0..10 {
        let mut other = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
        let (mut stream, _) = other.request()?;
        stream.deny(None)?;
        other.finish()?.expect_status(1)?;
    }
    let silent = !readable_until(stream.frames.socket(), Moment::now())?;
    expect::that(
        silent,
        "nothing between request and decision",
        "bytes, or the end",
    )?;
    waiting.expect_no_handshake()?;
    stream.deny(None)?;
    waiting.finish()?.expect_status(1)
}
