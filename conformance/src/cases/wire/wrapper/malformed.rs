//! wire.malformed, for a wrapper: replies that it must refuse.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case, property};
use crate::peer::bytes::Bytes;
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{each_decision_fails, each_result_fails};
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.malformed/no-json", no_json),
    case("wire.malformed/decision-of-wrong-type", decision_of_wrong_type),
    case("wire.malformed/result-of-wrong-type", result_of_wrong_type),
    case("wire.malformed/decision-in-place-of-the-result", decision_in_place_of_the_result),
    case("wire.malformed/any-result", any_malformed_result).within_seconds(120),
    case("wire.malformed/any-value", any_value).within_seconds(60),
    case("wire.malformed/decision", malformed_decision),
    case("wire.malformed/any-decision", any_malformed_decision).within_seconds(120),
    case("wire.malformed/known-texts-that-go-on-after-a-nul", texts_that_go_on_after_a_nul),
    case("wire.malformed/millions-of-brackets", millions_of_brackets),
    case("wire.malformed/nested-millions-deep", nested_millions_deep),
]);

/// Payloads that a lenient reader takes for JSON, and other encodings.
fn no_json(context: &mut Context) -> Verdict {
    let utf_16: Vec<u8> = "{\"action\":\"Run\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    each_decision_fails(
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
            // White space of isspace(3), and not of JSON.
            b"\x0c{\"action\":\"Run\"}",
            b"{\"action\":\x0b\"Run\"}",
            b"{\"action\":\"Run\"}\xc2\xa0",
            b"{\"action\":\"Run\"",
            b"action: Run",
        ],
    )
}

/// Decisions whose parts have the wrong type.
fn decision_of_wrong_type(context: &mut Context) -> Verdict {
    each_decision_fails(
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

/// Results whose exit code is missing or not an integer.
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

/// A decision in place of a result: FILE is not executed, whatever it says.
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

/// The payload without one of its bytes, and with the other case of one of its letters: each of them.
fn each_change(payload: &[u8]) -> Vec<Bytes> {
    let without = (0..payload.len()).map(|at| [&payload[..at], &payload[at + 1..]].concat());
    let letters = (0..payload.len()).filter(|at| payload[*at].is_ascii_alphabetic());
    let other_case = letters.map(|at| {
        let mut changed = payload.to_vec();
        changed[at] ^= 0x20;
        changed
    });
    without.chain(other_case).map(Bytes).collect()
}

/// The payload with one byte lost, gained or changed.
fn any_change(payload: &'static [u8]) -> impl Strategy<Value = Bytes> {
    (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8).prop_map(|(position, byte, kind)| {
        let mut changed = payload.to_vec();
        let at = position.index(changed.len());
        match kind {
            0 => {
                changed.remove(at);
            }
            1 => changed.insert(at, byte),
            _ => changed[at] = byte,
        }
        Bytes(changed)
    })
}

/// Property: a result that lost, gained or changed a byte, so that it has no exit code, is never one.
fn any_malformed_result(context: &mut Context) -> Verdict {
    let context = &*context;
    let result = br#"{"exit_code":0}"#;
    property::holds_of_these_and(
        context,
        each_change(result),
        &any_change(result),
        |Bytes(payload)| {
            let parsed: Result<Value, _> = serde_json::from_slice(&payload);
            // A number is still a result, or one of those that other cases examine.
            if parsed.is_ok_and(|value| value["exit_code"].is_number()) {
                return Ok(());
            }
            each_result_fails(context, &[&payload])
        },
    )
}

/// Property: any JSON value that is not a decision is refused.
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
    let decisive = [
        json!(["Run"]),
        json!(["Escalate"]),
        json!([{"Deny": {"reason": null}}]),
        json!([{"action": "Run"}]),
        json!({"action": ["Run"]}),
        json!({"action": {"Run": null}, "exit_code": 0}),
    ];
    property::holds_of_these_and(context, decisive, &value, |value| {
        let action = &value["action"];
        let decides = action == "Run" || action == "Escalate" || action.get("Deny").is_some();
        if decides {
            return Ok(());
        }
        each_decision_fails(context, &[value.to_string().as_bytes()])
    })
}

/// Payloads that are not messages.
const MALFORMED: [&[u8]; 14] = [
    b"",
    b" ",
    b"Run",
    b"\"Run\"",
    b"null",
    b"[]",
    b"{\"action\":\"Run\"",
    b"{\"action\":\"Run\"}x",
    b"{\"action\":\"Run\"}{}",
    b"{\"action\":\"Run\",}",
    b"{action:\"Run\"}",
    b"{\"action\":\"Ru\xff\"}",
    b"\xff\xfe\x00",
    b"{\"action\":7}",
];

/// A decision that is not a JSON message.
fn malformed_decision(context: &mut Context) -> Verdict {
    each_decision_fails(context, &MALFORMED)
}

/// Property: a decision that lost, gained or changed a byte so that it no longer says Run never runs anything.
fn any_malformed_decision(context: &mut Context) -> Verdict {
    let context = &*context;
    let decision = br#"{"action":"Run"}"#;
    property::holds_of_these_and(
        context,
        each_change(decision),
        &any_change(decision),
        |Bytes(payload)| {
            let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&payload);
            if parsed.is_ok_and(|value| value["action"] == "Run") {
                return Ok(());
            }
            each_decision_fails(context, &[&payload])
        },
    )
}

/// A NUL ends no text of JSON: what begins like a known one isn't it.
fn texts_that_go_on_after_a_nul(context: &mut Context) -> Verdict {
    each_decision_fails(
        context,
        &[
            br#"{"action":"Run\u0000"}"#,
            br#"{"action":"Run\u0000x"}"#,
            br#"{"action":"Escalate\u0000"}"#,
            br#"{"action\u0000":"Run"}"#,
            br#"{"action\u0000x":"Run"}"#,
            br#"{"action":{"Deny\u0000":{"reason":"no"}}}"#,
        ],
    )?;
    each_result_fails(
        context,
        &[br#"{"exit_code\u0000":0}"#, br#"{"exit_code\u0000x":0}"#],
    )
}

/// Levels of nesting that no stack has room for.
const LEVELS: usize = 4 << 20;

/// Megabytes of opening brackets in place of a decision and of a result: refused, without a stack that overflows.
fn millions_of_brackets(context: &mut Context) -> Verdict {
    let payloads = [
        "[".repeat(LEVELS),
        "{\"x\":".repeat(LEVELS / 4),
        format!(
            "{{\"action\":\"Run\",\"exit_code\":0,\"x\":{}",
            "[".repeat(LEVELS)
        ),
    ];
    let payloads = payloads.each_ref().map(|payload| payload.as_bytes());
    each_decision_fails(context, &payloads)?;
    each_result_fails(context, &payloads)
}

/// The same with all of the closing brackets, in a member that the protocol doesn't know: how deep a reader goes is its
/// own affair, so it runs the command or fails closed, and doesn't crash.
fn nested_millions_deep(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let nested = ["[".repeat(LEVELS), "]".repeat(LEVELS)].concat();
    stream
        .frames
        .send(format!("{{\"x\":{nested},\"action\":\"Run\"}}").as_bytes(), &[])?;
    let finished = wrapper.finish()?;
    if finished.ended == Ended::Exited(0) {
        return program.only_start().map(drop);
    }
    finished.expect_refused()?;
    program.expect_not_started()
}
