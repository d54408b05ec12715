//! wire.frame, wire.frame.split and wire.frame.joined, for a wrapper: lengths, pieces, several frames in one write.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case, expect, property};
use crate::peer::fake_server::RequestStream;
use crate::peer::program::Program;
use crate::peer::wire::frame;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{
    any_call, escalating, expect_held_up, expect_state, stopped_and_continued, stopped_by, waiting_bytes,
};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.frame/request-length", request_length),
    case("wire.frame/reply-with-other-spelling", other_spelling),
    case("wire.frame/reason-escaped-or-raw", reason_escaped_or_raw),
    case("wire.frame/request-to-a-slow-reader", slow_reader),
    case("wire.frame.split/decision-one-byte-at-a-time", decision_by_bytes),
    case("wire.frame.split/between-length-and-payload", after_the_length),
    case("wire.frame.split/result-one-byte-at-a-time", result_by_bytes),
    case("wire.frame.split/replies-at-random-cuts", random_cuts).within_seconds(240),
    case("wire.frame.joined/decision-and-result", decision_and_result),
    case("wire.frame.joined/decision-result-and-end", decision_result_and_end).at(Level::Faithful),
    case("wire.frame.joined/stopped-and-result", stopped_and_result).at(Level::Faithful).needs("signals"),
    case("wire.frame/request-through-a-stop", request_through_a_stop).at(Level::Faithful),
]);

/// One JSON object in UTF-8, exactly as long as announced: nothing follows it.
fn request_length(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program", "ü"])?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::that(request.message.is_object(), "an object", &request.message)?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)?;
    stream.frames.expect_end("the request is all that is sent")
}

/// White space, order and escapes of a reply mean nothing.
fn other_spelling(context: &mut Context) -> Verdict {
    let spellings = [
        "{\n\t\"action\" :\r\n \"Run\"\n}\n",
        "  {\"action\":\"Run\"}  ",
        "{\"\\u0061ction\":\"\\u0052un\"}",
        "{\"extra\":[1,{\"action\":\"Deny\"}],\"action\":\"Run\"}",
    ];
    for spelling in spellings {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.frames.send(spelling.as_bytes(), &[])?;
        wrapper.finish()?.expect_status(0)?;
        program.only_start()?;
    }
    Ok(())
}

/// Any character may be raw or escaped where JSON lets it, surrogate pairs and slashes included.
fn reason_escaped_or_raw(context: &mut Context) -> Verdict {
    for payload in [
        r#"{"action":{"Deny":{"reason":"ü–😀 a/b\n\"\\"}}}"#,
        r#"{"\u0061ction":{"Deny":{"r\u0065ason":"\u00fc\u2013\ud83d\uDE00 a\/b\u000a\u0022\u005c"}}}"#,
    ] {
        let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.frames.send(payload.as_bytes(), &[])?;
        let finished = wrapper.finish()?;
        expect::equal(
            "standard error",
            "Execution denied: ü–😀 a/b\n\"\\\n",
            &*finished.error_text(),
        )?;
    }
    Ok(())
}

/// A decision in single bytes, each sent when the one before was read.
fn decision_by_bytes(context: &mut Context) -> Verdict {
    let bytes = frame(br#"{"action":"Run"}"#);
    decision_cut_at(context, &(1..bytes.len()).collect::<Vec<_>>())
}

/// A decision whose payload comes after its length was read, and one cut within the length.
fn after_the_length(context: &mut Context) -> Verdict {
    for cut in [4, 1, 2, 3] {
        decision_cut_at(context, &[cut])?;
    }
    Ok(())
}

fn decision_cut_at(context: &Context, cuts: &[usize]) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream
        .frames
        .send_pieces(&frame(br#"{"action":"Run"}"#), cuts, &[])?;
    wrapper.finish()?.expect_status(0)?;
    program.only_start().map(drop)
}

/// A result in single bytes.
fn result_by_bytes(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    let bytes = frame(br#"{"exit_code":42}"#);
    stream
        .frames
        .send_pieces(&bytes, &(1..bytes.len()).collect::<Vec<_>>(), &[])?;
    wrapper.finish()?.expect_status(42)
}

/// Property: any reply cut at any places means the same.
fn random_cuts(context: &mut Context) -> Verdict {
    let context = &*context;
    let reason = "[ -~ü😀]{0,300}";
    let strategy = (
        0..3_usize,
        reason,
        0..256_i64,
        proptest::collection::vec(1..400_usize, 0..6),
    );
    property::holds(context, &strategy, |(decision, reason, code, mut cuts)| {
        cuts.sort_unstable();
        let mut wrapper = WrapperCall::new(context, "/bin/true", ["true"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        let cut = |stream: &mut RequestStream, payload: String| {
            stream.frames.send_pieces(&frame(payload.as_bytes()), &cuts, &[])
        };
        match decision {
            0 => {
                cut(&mut stream, json!({"action": "Run"}).to_string())?;
                wrapper.finish()?.expect_status(0)
            }
            1 => {
                cut(
                    &mut stream,
                    json!({"action": {"Deny": {"reason": reason}}}).to_string(),
                )?;
                let finished = wrapper.finish()?;
                finished.expect_status(1)?;
                let expected = format!("Execution denied: {reason}\n");
                // Whether an empty reason is shown as one is left open.
                let same = reason.is_empty() || finished.error_text() == expected;
                expect::that(
                    same,
                    format_args!("{expected:?}"),
                    format_args!("{:?}", finished.error_text()),
                )
            }
            _ => {
                cut(&mut stream, json!({"action": "Escalate"}).to_string())?;
                stream.descriptors()?;
                cut(&mut stream, json!({"exit_code": code}).to_string())?;
                wrapper.finish()?.expect_status(i32::try_from(code).unwrap_or(-1))
            }
        }
    })
}

/// Two frames in one write are two messages.
fn decision_and_result(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let mut bytes = frame(br#"{"action":"Escalate"}"#);
    bytes.extend(frame(br#"{"exit_code":7}"#));
    stream.frames.send_bytes(&bytes, &[])?;
    stream.descriptors()?;
    wrapper.finish()?.expect_status(7)
}

/// A server that can't start the child says so directly after the decision and closes: the descriptors can't be sent any more,
/// and the result counts.
fn decision_result_and_end(context: &mut Context) -> Verdict {
    let mut bytes = frame(br#"{"action":"Escalate"}"#);
    bytes.extend(frame(br#"{"exit_code":127}"#));
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    // Both, and the end, are there when it looks next.
    wrapper.process.signal(libc::SIGSTOP)?;
    expect_state(context, &wrapper, "T")?;
    stream.frames.send_bytes(&bytes, &[])?;
    drop(stream);
    wrapper.process.signal(libc::SIGCONT)?;
    wrapper.finish()?.expect_status(127)
}

/// A request of more than 1 MiB that is read in single bytes at first, then in pieces of 4 KiB.
fn slow_reader(context: &mut Context) -> Verdict {
    let value = |index: usize| format!("{index:04}").repeat(4_000);
    let mut call = WrapperCall::new(context, "/bin/program", ["program"])?;
    for index in 0..70 {
        call = call.variable(format!("LARGE_{index}"), value(index));
    }
    let mut wrapper = call.start()?;
    let mut stream = wrapper.handshake()?;
    let mut received = Vec::new();
    let mut whole = 4;
    while received.len() < whole {
        let step = if received.len() < 64 { 1 } else { 4096 };
        let (piece, _) = stream
            .frames
            .receive_bytes(step.min(whole - received.len()), "a request")?;
        expect::that(
            !piece.is_empty(),
            format_args!("a request of {whole} bytes"),
            format_args!("the end after {}", received.len()),
        )?;
        received.extend_from_slice(&piece);
        if let Ok(length) = <[u8; 4]>::try_from(&received[..]) {
            whole += u32::from_le_bytes(length) as usize;
        }
    }
    let request: Value = serde_json::from_slice(&received[4..])
        .map_err(|error| violation("a payload that is one JSON value", error))?;
    for index in 0..70 {
        let name = format!("LARGE_{index}");
        let same = request["env"][&name].as_str() == Some(&value(index));
        expect::that(same, format_args!("{name}, verbatim"), "something else")?;
    }
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)?;
    stream.frames.expect_end("the request is all that is sent")
}

/// `stopped` and the result in one write: the result is not lost.
fn stopped_and_result(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    let mut bytes = frame(br#"{"stopped":19}"#);
    bytes.extend(frame(br#"{"exit_code":3}"#));
    stream.frames.send_bytes(&bytes, &[])?;
    stopped_by(&wrapper, context)?;
    wrapper.process.signal(libc::SIGCONT)?;
    wrapper.finish()?.expect_status(3)
}

/// A request that the stream has no room for arrives whole, though the wrapper is stopped and continued meanwhile, as
/// by Ctrl-Z and `fg`: the call that was interrupted has sent a part.
fn request_through_a_stop(context: &mut Context) -> Verdict {
    let mut call = any_call(context)?;
    let value = "v".repeat(100_000);
    for index in 0..15 {
        call = call.variable(format!("LARGE_{index}"), &value);
    }
    let mut wrapper = call.start()?;
    let mut stream = wrapper.handshake()?;
    expect_held_up(context, &wrapper, || waiting_bytes(stream.frames.socket()))?;
    stopped_and_continued(context, &wrapper)?;
    let request = stream.request()?;
    for index in 0..15 {
        let name = format!("LARGE_{index}");
        let whole = request.variable(&name)? == Some(value.as_str());
        expect::that(
            whole,
            format_args!("{name}, 100,000 bytes, verbatim"),
            "something else",
        )?;
    }
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}
