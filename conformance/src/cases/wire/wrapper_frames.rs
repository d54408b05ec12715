//! Frames between a wrapper under test and the suite: lengths, pieces, joined messages, spellings.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::fake_server::RequestStream;
use crate::peer::program::Program;
use crate::peer::wire::frame;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.frame/request-length", request_length),
    case("wire.frame/reply-with-other-spelling", other_spelling),
    case("wire.frame/reason-escaped-or-raw", reason_escaped_or_raw),
    case("wire.frame.split/decision-one-byte-at-a-time", decision_by_bytes),
    case("wire.frame.split/between-length-and-payload", after_the_length),
    case("wire.frame.split/result-one-byte-at-a-time", result_by_bytes),
    case("wire.frame.split/replies-at-random-cuts", random_cuts).within_seconds(60),
    case("wire.frame.joined/decision-and-result", decision_and_result),
    case("wire.handshake/one-byte-one-descriptor", handshake),
    case("wire.fds/with-the-first-byte", descriptors_with_the_first_byte),
    case("wire.json/shapes", shapes),
    case("wire.json.unknown/members-of-replies", unknown_members),
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

/// One datagram: the byte 0 with one descriptor, a connected AF_UNIX stream. [`WrapperRun::handshake`] looks.
///
/// [`WrapperRun::handshake`]: crate::peer::wrapper_call::WrapperRun::handshake
fn handshake(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let mut stream = wrapper.handshake()?;
    stream.request()?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)?;
    wrapper.expect_no_handshake()
}

/// All descriptors come with the first byte of their frame, in one control message.
fn descriptors_with_the_first_byte(context: &mut Context) -> Verdict {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.frames.send_json(&json!({"action": "Escalate"}))?;
    let readable = crate::system::poll::readable_until(
        stream.frames.socket(),
        std::time::Instant::now() + context.patience(),
    )?;
    expect::that(readable, "a message with descriptors", "nothing")?;
    let mut byte = [0];
    let mut control = nix::cmsg_space!([i32; 32]);
    let mut messages = Vec::new();
    {
        let mut slices = [std::io::IoSliceMut::new(&mut byte)];
        let socket = stream.frames.socket().as_raw_fd();
        let message = recvmsg::<UnixAddr>(
            socket,
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for message in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                // SAFETY: the kernel has just made these descriptors for us.
                let owned = numbers
                    .into_iter()
                    .map(|number| unsafe { OwnedFd::from_raw_fd(number) });
                messages.push(owned.collect::<Vec<_>>());
            }
        }
    }
    let counts: Vec<usize> = messages.iter().map(Vec::len).collect();
    expect::equal(
        "descriptors with the first byte, by control message",
        vec![3],
        counts,
    )?;
    drop(messages);
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

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
