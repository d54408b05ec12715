//! Replies that a wrapper has to refuse, to bear, or to clean up after.

use std::fs::File;
use std::os::fd::AsRawFd;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::cases::wrapper::fail_closed::fails_by;
use crate::peer::fake_server::Escalation;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{Received, expect_end_of_file, frame};
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::system::launch::pipe;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.json.unknown/values-of-any-type", values_of_any_type),
    case("wire.json.unknown/inner-members-mean-nothing", inner_members),
    case("wire.json.unknown/reply-nested-500-deep", nested_500_deep).at(Level::Hardened),
    case("wire.limit/reason-of-16-mebibytes", large_reason),
    case("wire.limit/result-announced-4-gibibytes", result_announced),
    case("wire.malformed/no-json", no_json),
    case("wire.malformed/decision-of-wrong-type", decision_of_wrong_type),
    case("wire.malformed/result-of-wrong-type", result_of_wrong_type),
    case("wire.malformed/decision-in-place-of-the-result", decision_in_place_of_the_result),
    case("wire.malformed/any-result", any_malformed_result).within_seconds(60),
    case("wire.malformed/any-value", any_value).within_seconds(60),
    case("wire.fds.unexpected/with-run", descriptors_with_run),
    case("wire.fds.unexpected/more-than-the-room", more_than_the_room),
    case("wire.fds.unexpected/with-escalate", descriptors_with_escalate),
]);

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

/// A reason that fills a payload of 16 MiB arrives whole.
fn large_reason(context: &mut Context) -> Verdict {
    let (before, after) = ("{\"action\":{\"Deny\":{\"reason\":\"", "\"}}}");
    let room = (16 << 20) - before.len() - after.len();
    let reason = &"0123456789abcdef".repeat(1 << 20)[..room];
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream
        .frames
        .send(format!("{before}{reason}{after}").as_bytes(), &[])?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    let expected = format!("Execution denied: {reason}\n");
    expect::that(
        finished.error == expected.as_bytes(),
        format_args!("the whole reason of {room} bytes"),
        format_args!("{} bytes of standard error", finished.error.len()),
    )
}

/// A length of 4 GiB in place of a result, with 1 GiB of address space and the stream left open.
fn result_announced(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .launched(|launch| launch.limit(libc::RLIMIT_AS, 1 << 30))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream.frames.send_bytes(&u32::MAX.to_le_bytes(), &[])?;
    wrapper.finish()?.expect_failed_closed()?;
    stream.frames.expect_end("the length is over every limit")
}

fn each_fails(context: &Context, payloads: &[&[u8]]) -> Verdict {
    for payload in payloads {
        fails_by(context, |mut stream| {
            stream.frames.send(payload, &[])?;
            Ok(Some(stream))
        })?;
    }
    Ok(())
}

fn each_result_fails(context: &Context, payloads: &[&[u8]]) -> Verdict {
    for payload in payloads {
        fails_by(context, |mut stream| {
            stream.escalate()?;
            stream.frames.send(payload, &[])?;
            Ok(Some(stream))
        })?;
    }
    Ok(())
}

/// Payloads that a lenient reader takes for JSON, and other encodings.
fn no_json(context: &mut Context) -> Verdict {
    let utf_16: Vec<u8> = "{\"action\":\"Run\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    each_fails(
        context,
        &[
            &utf_16,
            b"{'action':'Run'}",
            b"{\"action\":\"Run\"} // so be it",
            b"/**/{\"action\":\"Run\"}",
            b"{\"action\":\"Run\"}\0",
            b"{\"action\":\"Run\"},",
            b"{\"action\":\"Run\"}{\"exit_code\":0}",
            b"{\"action\":\"Ru\nn\",\"action\":\"Run\"}",
            b"{\"x\":\"\x01\",\"action\":\"Run\"}",
            b"{\"x\":\"\\x41\",\"action\":\"Run\"}",
            b"{\"x\":NaN,\"action\":\"Run\"}",
            b"{\"x\":01,\"action\":\"Run\"}",
            b"{\"x\":+1,\"action\":\"Run\"}",
            b"{\"x\":.5,\"action\":\"Run\"}",
            b"{\"x\":True,\"action\":\"Run\"}",
            b"{\"x\":[1,],\"action\":\"Run\"}",
            b"{\"x\":\"\xc0\xaf\",\"action\":\"Run\"}",
            b"{\"x\":\"\xed\xb2\x80\",\"action\":\"Run\"}",
            b"{\"x\" \"y\",\"action\":\"Run\"}",
            b"{\"action\":\"Run\"",
            b"action: Run",
        ],
    )
}

/// Decisions whose parts are of another type than they must be.
fn decision_of_wrong_type(context: &mut Context) -> Verdict {
    each_fails(
        context,
        &[
            b"[\"Run\"]",
            b"[{\"action\":\"Run\"}]",
            b"[[\"action\",\"Run\"]]",
            b"\"Run\"",
            b"true",
            b"0",
            b"{\"action\":true}",
            b"{\"action\":0}",
            b"{\"action\":[\"Run\"]}",
            b"{\"action\":[]}",
            b"{\"action\":{\"Deny\":\"x\"}}",
            b"{\"action\":{\"Deny\":[\"x\"]}}",
            b"{\"action\":{\"Deny\":{\"reason\":1}}}",
            b"{\"action\":{\"Deny\":{\"reason\":[\"x\"]}}}",
            b"{\"action\":{\"Deny\":{\"reason\":{}}}}",
            b"{\"action\":{\"Deny\":{\"reason\":false}}}",
            b"{\"Action\":\"Run\"}",
            b"{\"action \":\"Run\"}",
            b"{\"Run\":{}}",
        ],
    )
}

/// Results whose exit code is missing or no integer.
fn result_of_wrong_type(context: &mut Context) -> Verdict {
    each_result_fails(
        context,
        &[
            b"[0]",
            b"[]",
            b"\"0\"",
            b"null",
            b"{\"exit_code\":true}",
            b"{\"exit_code\":false}",
            b"{\"exit_code\":[0]}",
            b"{\"exit_code\":{}}",
            b"{\"exit_code\":0.5}",
            b"{\"exit_code\":\"\"}",
            b"{\"exit_code\":\"0\"}",
            b"{\"exit_code\":-}",
            b"{\"exit_code\":00}",
            b"{\"exit_code\":0x0}",
            b"{\"signal\":15}",
            b"{\"status\":0}",
            b"{\"stopped\":\"19\"}",
            b"{\"exit_code\":0}\n{\"exit_code\":0}",
        ],
    )
}

/// A decision is no result: FILE is not executed by it, whatever it says.
fn decision_in_place_of_the_result(context: &mut Context) -> Verdict {
    each_result_fails(
        context,
        &[
            b"{\"action\":\"Run\"}",
            b"{\"action\":\"Escalate\"}",
            b"{\"action\":{\"Deny\":{\"reason\":\"too late\"}}}",
        ],
    )
}

/// Property: a result that lost, gained or changed a byte, so that it has no exit code, is never one.
fn any_malformed_result(context: &mut Context) -> Verdict {
    let context = &*context;
    let strategy = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    property::holds(context, &strategy, |(position, byte, kind)| {
        let mut payload = br#"{"exit_code":0}"#.to_vec();
        let at = position.index(payload.len());
        match kind {
            0 => {
                payload.remove(at);
            }
            1 => payload.insert(at, byte),
            _ => payload[at] = byte,
        }
        let parsed: Result<Value, _> = serde_json::from_slice(&payload);
        // What is still a number is a result, or one of those that other cases look at.
        if parsed.is_ok_and(|value| value["exit_code"].is_number()) {
            return Ok(());
        }
        each_result_fails(context, &[&payload])
    })
}

/// Property: any JSON value that is no decision is refused.
fn any_value(context: &mut Context) -> Verdict {
    let context = &*context;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        Just(Value::from("Run")),
        Just(Value::from("Escalate")),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        let name = prop_oneof![
            Just("action"),
            Just("Deny"),
            Just("reason"),
            Just("exit_code"),
            Just("x")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.prop_map(str::to_owned), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    property::holds(context, &value, |value| {
        let action = &value["action"];
        let decides = action == "Run" || action == "Escalate" || action.get("Deny").is_some();
        if decides {
            return Ok(());
        }
        each_fails(context, &[value.to_string().as_bytes()])
    })
}

/// The writing ends of `count` pipes, and their reading ends.
fn pipes(count: usize) -> Result<(Vec<File>, Vec<File>), CaseError> {
    let pairs = (0..count).map(|_| pipe()).collect::<Result<Vec<_>, _>>()?;
    Ok(pairs.into_iter().unzip())
}

/// Sends `payload` with so many writing ends of pipes, which the wrapper must let go of.
fn run_with(context: &Context, count: usize) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    let mut wrapper = WrapperCall::new(context, program.text(), ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let (readers, writers) = pipes(count)?;
    let numbers: Vec<i32> = writers.iter().map(AsRawFd::as_raw_fd).collect();
    stream.frames.send(br#"{"action":"Run"}"#, &numbers)?;
    drop(writers);
    // While the command lives, if the message was not refused.
    let probe = program.accept_or_end(&wrapper.process)?;
    for (index, reader) in readers.iter().enumerate() {
        let what = format!("pipe {index} of {count}: nobody holds what came with Run");
        expect_end_of_file(reader, &what, context.patience())?;
    }
    match probe {
        None => wrapper.finish()?.expect_failed_closed(),
        Some(mut probe) => {
            probe.send(&Order::Exit(0))?;
            wrapper.finish()?.expect_status(0)
        }
    }
}

/// Three descriptors with Run: the command does not have them, and neither has anybody else.
fn descriptors_with_run(context: &mut Context) -> Verdict {
    run_with(context, 3)
}

/// As many as a message can carry, more than a receiver of this protocol has room for.
fn more_than_the_room(context: &mut Context) -> Verdict {
    run_with(context, 64)
}

/// Descriptors with Escalate are closed while the wrapper waits, and are not sent back as its own.
fn descriptors_with_escalate(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let (readers, writers) = pipes(3)?;
    let numbers: Vec<i32> = writers.iter().map(AsRawFd::as_raw_fd).collect();
    stream
        .frames
        .send_bytes(&frame(br#"{"action":"Escalate"}"#), &numbers)?;
    drop(writers);
    match stream.frames.receive()? {
        Received::Frame(frame) => {
            let mut escalation = Escalation::of(frame)?;
            escalation.numbers.sort_unstable();
            expect::equal("numbers", vec![0, 1, 2], escalation.numbers)?;
            drop(escalation.descriptors);
            for reader in &readers {
                expect_end_of_file(
                    reader,
                    "nobody holds what came with Escalate, while the child runs",
                    context.patience(),
                )?;
            }
            stream.result(6)?;
            wrapper.finish()?.expect_status(6)?;
        }
        // Refusing the message is as right as ignoring what came with it.
        _ => wrapper.finish()?.expect_failed_closed()?,
    }
    for reader in &readers {
        expect_end_of_file(reader, "nobody holds what came with Escalate", context.patience())?;
    }
    Ok(())
}
