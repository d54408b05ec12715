//! Everything that goes wrong fails closed: 126, one line on standard error, at once, nothing executed.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use proptest::prelude::*;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::fake_server::RequestStream;
use crate::peer::program::Program;
use crate::peer::wire::frame;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::verdict::{CaseError, Verdict, harness};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.fail-closed/variable-missing", variable_missing),
    case("wrapper.fail-closed/variable-no-number", variable_no_number),
    case("wrapper.fail-closed/descriptor-closed", descriptor_closed),
    case("wrapper.fail-closed/descriptor-no-socket", descriptor_no_socket),
    case("wrapper.fail-closed/no-peer", no_peer),
    case("wrapper.fail-closed/handshake-ignored", handshake_ignored),
    case("wrapper.fail-closed/end-before-the-decision", end_before_decision),
    case("wrapper.fail-closed/end-within-the-decision", end_within_decision),
    case("wrapper.fail-closed/end-before-the-result", end_before_result),
    case("wrapper.fail-closed/unknown-action", unknown_action),
    case("wrapper.fail-closed/malformed-result", malformed_result),
    case("wire.malformed/decision", malformed_decision),
    case("wire.malformed/any-decision", any_malformed_decision).within_seconds(60),
    case("wire.limit/four-gibibytes", announced_four_gibibytes),
    case("wire.limit/sixteen-mebibytes", sixteen_mebibytes),
    case("wire.fds.unexpected/on-a-decision", descriptors_on_a_decision),
    case("wire.fds.unexpected/on-a-result", descriptors_on_a_result),
    case("wire.bytes/arguments-and-environment", bytes_travel),
    case("wire.bytes/any-bytes", any_bytes_travel).within_seconds(60),
    case("wire.bytes/untouched-by-run", bytes_under_run),
]);

/// A call that must fail before any request: nothing reaches the server, the program does not run.
pub(in crate::cases) fn fails_without_request<'a>(
    context: &'a Context,
    change: impl FnOnce(WrapperCall<'a>) -> WrapperCall<'a>,
) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = change(WrapperCall::new(context, &program.path, ["program"])?).start()?;
    wrapper.finish()?.expect_failed_closed()?;
    program.expect_not_started()?;
    wrapper.expect_no_handshake()
}

/// A call that must fail by what `answer` does on the request stream.
pub(in crate::cases) fn fails_by(
    context: &Context,
    answer: impl FnOnce(RequestStream) -> Result<Option<RequestStream>, CaseError>,
) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (stream, request) = wrapper.request()?;
    expect::equal("file", program.text(), request.file()?)?;
    // A stream that comes back stays open: the wrapper must not wait for its end.
    let held = answer(stream)?;
    wrapper.finish()?.expect_failed_closed()?;
    drop(held);
    program.expect_not_started()
}

/// Without CODEX_ESCALATE_SOCKET.
fn variable_missing(context: &mut Context) -> Verdict {
    fails_without_request(context, |call| call.without_variable("CODEX_ESCALATE_SOCKET"))
}

/// With a CODEX_ESCALATE_SOCKET that is no descriptor number.
fn variable_no_number(context: &mut Context) -> Verdict {
    for value in [
        "",
        "x",
        "-1",
        "20x",
        "0x14",
        "20.0",
        "99999999999999999999",
        "4294967316",
        "socket",
    ] {
        fails_without_request(context, |call| call.variable("CODEX_ESCALATE_SOCKET", value))?;
    }
    Ok(())
}

/// With a number that is not open.
fn descriptor_closed(context: &mut Context) -> Verdict {
    fails_without_request(context, |call| call.client_end(None))?;
    fails_without_request(context, |call| call.variable("CODEX_ESCALATE_SOCKET", "999999"))
}

/// With a descriptor that is no socket; its flags are left alone.
fn descriptor_no_socket(context: &mut Context) -> Verdict {
    for path in ["/dev/null", "/etc/passwd", "/"] {
        let file = File::open(path)?;
        let ours = file.try_clone()?;
        fails_without_request(context, |call| call.client_end(Some(OwnedFd::from(file))))?;
        let flags = nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_GETFL)?;
        expect::equal(&format!("O_NONBLOCK of {path}"), 0, flags & libc::O_NONBLOCK)?;
    }
    Ok(())
}

/// With an escalation socket whose other end is gone.
fn no_peer(context: &mut Context) -> Verdict {
    let (server_end, client_end) = UnixDatagram::pair()?;
    drop(server_end);
    fails_without_request(context, |call| call.client_end(Some(client_end.into())))
}

/// A server that takes the handshake and lets go of the stream at once.
fn handshake_ignored(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    drop(wrapper.handshake()?);
    wrapper.finish()?.expect_failed_closed()?;
    program.expect_not_started()
}

/// End of file instead of a decision.
fn end_before_decision(context: &mut Context) -> Verdict {
    fails_by(context, |_stream| Ok(None))
}

/// End of file within a decision, at each of its parts.
fn end_within_decision(context: &mut Context) -> Verdict {
    let bytes = frame(br#"{"action":"Run"}"#);
    for length in [1, 3, 4, 5, bytes.len() - 1] {
        fails_by(context, |mut stream| {
            stream.frames.send_bytes(&bytes[..length], &[])?;
            Ok(None)
        })?;
    }
    Ok(())
}

/// End of file instead of a result.
fn end_before_result(context: &mut Context) -> Verdict {
    fails_by(context, |mut stream| {
        stream.escalate()?;
        Ok(None)
    })
}

/// Actions that a wrapper does not know. The stream stays open.
fn unknown_action(context: &mut Context) -> Verdict {
    let payloads = [
        r#"{"action":"Sudo"}"#,
        r#"{"action":"run"}"#,
        r#"{"action":"Deny"}"#,
        r#"{"action":{"Escalate":{"x":1}}}"#,
        r#"{"action":""}"#,
        r#"{"action":null}"#,
        r#"{"action":{}}"#,
        r#"{"action":{"Sudo":{}}}"#,
        r#"{}"#,
        r#"{"exit_code":0}"#,
    ];
    for payload in payloads {
        // `{"Escalate":{"x":1}}` has a payload where none belongs; reading it as Escalate hands over descriptors.
        fails_by(context, |mut stream| {
            stream.frames.send(payload.as_bytes(), &[])?;
            Ok(Some(stream))
        })?;
    }
    Ok(())
}

/// Payloads that are no message at all.
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

/// A decision that is no JSON message.
fn malformed_decision(context: &mut Context) -> Verdict {
    for payload in MALFORMED {
        fails_by(context, |mut stream| {
            stream.frames.send(payload, &[])?;
            Ok(Some(stream))
        })?;
    }
    Ok(())
}

/// A result that is no result.
fn malformed_result(context: &mut Context) -> Verdict {
    let payloads: [&[u8]; 7] = [
        b"",
        b"0",
        b"{}",
        b"{\"exit_code\":\"0\"}",
        b"{\"exit_code\":null}",
        b"{\"exit_code\":0",
        b"{\"exit_code\":0}}",
    ];
    for payload in payloads {
        fails_by(context, |mut stream| {
            stream.escalate()?;
            stream.frames.send(payload, &[])?;
            Ok(Some(stream))
        })?;
    }
    Ok(())
}

/// Property: a decision that lost, gained or changed a byte so that it is no JSON value never runs anything.
fn any_malformed_decision(context: &mut Context) -> Verdict {
    let context = &*context;
    let strategy = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    property::holds(context, &strategy, |(position, byte, kind)| {
        let mut payload = br#"{"action":"Run"}"#.to_vec();
        let at = position.index(payload.len());
        match kind {
            0 => {
                payload.remove(at);
            }
            1 => payload.insert(at, byte),
            _ => payload[at] = byte,
        }
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&payload);
        if parsed.is_ok_and(|value| value["action"] == "Run") {
            return Ok(());
        }
        fails_by(context, |mut stream| {
            stream.frames.send(&payload, &[])?;
            Ok(Some(stream))
        })
    })
}

/// A length of 4 GiB ends it before that much is allocated: the wrapper may have 1 GiB of address space.
fn announced_four_gibibytes(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call
        .launched(|launch| launch.limit(libc::RLIMIT_AS, 1 << 30))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.frames.send_bytes(&u32::MAX.to_le_bytes(), &[])?;
    wrapper.finish()?.expect_failed_closed()?;
    program.expect_not_started()
}

/// A decision of 16 MiB is accepted.
fn sixteen_mebibytes(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let message = br#"{"action":"Run"}"#;
    let mut payload = vec![b' '; (16 << 20) - message.len()];
    payload.extend_from_slice(message);
    stream.frames.send(&payload, &[])?;
    wrapper.finish()?.expect_status(0)?;
    program.only_start().map(drop)
}

/// Descriptors that come with a decision are closed: the command does not have them.
fn descriptors_on_a_decision(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let file = File::open("/etc/passwd")?;
    stream
        .frames
        .send(br#"{"action":"Run"}"#, &[file.as_raw_fd(), file.as_raw_fd()])?;
    // Refusing the message is as right as ignoring what came with it; keeping it is not.
    let finished = wrapper.finish()?;
    let Some(report) = program.starts()?.pop() else {
        return finished.expect_failed_closed();
    };
    let number = crate::peer::wire::ESCALATION_DESCRIPTOR;
    expect::equal(
        "the command's descriptors",
        vec![0, 1, 2, number],
        report.descriptor_numbers(),
    )
}

/// Descriptors that come with a result stay nowhere: the wrapper ends, and a pipe sent with it has no holder.
fn descriptors_on_a_result(context: &mut Context) -> Verdict {
    let (reader, writer) = crate::system::launch::pipe()?;
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream.frames.send(br#"{"exit_code":3}"#, &[writer.as_raw_fd()])?;
    drop(writer);
    let finished = wrapper.finish()?;
    let ended = crate::system::poll::readable_until(&reader, std::time::Instant::now() + context.patience())?;
    expect::that(ended, "nobody holds the descriptor", "somebody does")?;
    expect::that(
        finished.ended.shell_status() != 0,
        "exit_code 3, or a refusal",
        finished.ended,
    )
}

/// A string with lone low surrogates for bytes that are no UTF-8, as bytes (*bytes* extension).
fn bytes_of(text: &str) -> Result<Vec<u8>, CaseError> {
    // serde_json refuses lone surrogates in strings, so the case reads the JSON text itself.
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..position]);
        let escape = rest
            .get(position + 1..position + 2)
            .ok_or_else(|| harness("an escape at the end"))?;
        if escape == "u" {
            let code = rest
                .get(position + 2..position + 6)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .ok_or_else(|| harness("an escape without four digits"))?;
            rest = &rest[position + 6..];
            match code {
                0xdc80..=0xdcff => bytes.push(code as u8),
                code => bytes.extend(char::from_u32(code).unwrap_or('\u{fffd}').to_string().bytes()),
            }
        } else {
            bytes.extend(match escape {
                "n" => "\n".bytes(),
                "t" => "\t".bytes(),
                "r" => "\r".bytes(),
                "b" => "\u{8}".bytes(),
                "f" => "\u{c}".bytes(),
                other => other.bytes(),
            });
            rest = &rest[position + 2..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The value of the first JSON string after `key` in the payload's text.
fn string_after(payload: &str, key: &str) -> Result<Vec<u8>, CaseError> {
    let start = payload
        .find(key)
        .map(|position| position + key.len())
        .ok_or_else(|| crate::verdict::violation(format_args!("{key} in the request"), payload))?;
    let rest = payload[start..].trim_start_matches([' ', ':', '[', '\n', '\t']);
    let body = rest
        .strip_prefix('"')
        .ok_or_else(|| crate::verdict::violation("a string", rest))?;
    let mut end = 0;
    while body.as_bytes().get(end).is_some_and(|byte| *byte != b'"') {
        end += if body.as_bytes()[end] == b'\\' { 2 } else { 1 };
    }
    bytes_of(&body[..end])
}

/// Bytes that are no UTF-8 arrive lossless by the extension, or the request fails closed; they are never altered.
fn bytes_travel(context: &mut Context) -> Verdict {
    for bytes in [
        &b"\xff"[..],
        b"a\x80b",
        b"\xc3\x28",
        b"\xed\xb2\x80",
        b"ok\xf0\x9f\x98",
        b"\xfe\xc3\xbc",
    ] {
        one_travels(context, bytes)?;
    }
    Ok(())
}

fn one_travels(context: &Context, bytes: &[u8]) -> Verdict {
    use std::os::unix::ffi::OsStrExt;
    let text = std::ffi::OsStr::from_bytes(bytes);
    let call = WrapperCall::new(context, "/bin/program", [text])?.variable("BYTES", text);
    let mut wrapper = call.start()?;
    let mut stream = match wrapper.handshake() {
        Ok(stream) => stream,
        // A wrapper without the extension may fail before or after the handshake.
        Err(_) => return wrapper.finish()?.expect_refused(),
    };
    match stream.frames.receive()? {
        crate::peer::wire::Received::Frame(frame) => {
            let payload = String::from_utf8(frame.payload)
                .map_err(|error| crate::verdict::violation("a payload in UTF-8", error))?;
            expect::equal(
                "argv[0] as bytes",
                bytes.to_vec(),
                string_after(&payload, "\"argv\"")?,
            )?;
            expect::equal(
                "BYTES as bytes",
                bytes.to_vec(),
                string_after(&payload, "\"BYTES\"")?,
            )?;
            stream.deny(None)?;
            wrapper.finish()?.expect_status(1)
        }
        _ => wrapper.finish()?.expect_refused(),
    }
}

/// Property: any bytes.
fn any_bytes_travel(context: &mut Context) -> Verdict {
    let context = &*context;
    property::holds(context, &proptest::collection::vec(1..=255_u8, 0..40), |bytes| {
        one_travels(context, &bytes)
    })
}

/// Under Run the command has its bytes as the wrapper had them.
fn bytes_under_run(context: &mut Context) -> Verdict {
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes(b"\xffname\x80");
    let path = context.directory().join("bin").join(bytes);
    let program = Program::at(context, &path, [])?;
    let call = WrapperCall::new(context, &program.path, [bytes])?.variable("BYTES", bytes);
    let mut wrapper = call.start()?;
    let mut stream = match wrapper.handshake() {
        Ok(stream) => stream,
        Err(_) => return wrapper.finish()?.expect_refused(),
    };
    if !matches!(stream.frames.receive()?, crate::peer::wire::Received::Frame(_)) {
        return wrapper.finish()?.expect_refused();
    }
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    expect::equal(
        "argv[0]",
        vec![bytes.as_bytes().to_vec()],
        report.arguments.clone(),
    )?;
    expect::equal("BYTES", Some(bytes.as_bytes().to_vec()), report.variable("BYTES"))
}
