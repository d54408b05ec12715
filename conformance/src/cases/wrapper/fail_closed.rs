//! wrapper.fail-closed: on any failure nothing is executed, at once; 126 and one line on standard error are cases of their
//! own, so that the others say what is worse than a number.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::finished::Finished;
use crate::peer::program::Program;
use crate::peer::wire::{ESCALATION_DESCRIPTOR, frame};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{
    any_call, each_decision_fails, each_result_fails, fails_by, fails_without_request, in_sandbox,
    with_debug_variables,
};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::transcript::shown;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.fail-closed/status", status_is_126),
    case("wrapper.fail-closed/one-line", one_line),
    case("wrapper.fail-closed/variable-missing", variable_missing),
    case("wrapper.fail-closed/variable-no-number", variable_no_number),
    case("wrapper.fail-closed/descriptor-closed", descriptor_closed),
    case("wrapper.fail-closed/handshake-ignored", handshake_ignored),
    case("wrapper.fail-closed/end-before-the-decision", end_before_decision),
    case("wrapper.fail-closed/end-within-the-decision", end_within_decision),
    case("wrapper.fail-closed/end-before-the-result", end_before_result),
    case("wrapper.fail-closed/unknown-action", unknown_action),
    case("wrapper.fail-closed/malformed-result", malformed_result),
    case("wrapper.fail-closed/variable-nearly-a-number", variable_nearly_a_number),
    case("wrapper.fail-closed/variable-empty-and-socket-on-0", variable_empty_and_socket_on_0),
    case("wrapper.fail-closed/descriptor-not-a-socket", descriptor_not_a_socket),
    case("wrapper.fail-closed/socket-without-a-peer", socket_without_a_peer),
    case("wrapper.fail-closed/end-before-the-descriptors-are-read", end_before_the_descriptors_are_read),
    case("wrapper.fail-closed/end-within-the-result", end_within_the_result),
    case("wrapper.fail-closed/one-line-under-debug-variables", one_line_under_debug_variables),
    case("wrapper.fail-closed/standard-error-closed", standard_error_closed),
    case("wrapper.fail-closed/standard-error-broken", standard_error_broken),
    case("wrapper.fail-closed/sigpipe-of-every-disposition", sigpipe_of_every_disposition),
]);

/// Replies after which a wrapper fails closed, none for the end of file.
const BAD_DECISIONS: [Option<&[u8]>; 5] = [
    None,
    Some(b"{"),
    Some(b"{}"),
    Some(br#"{"action":"Sudo"}"#),
    Some(br#"{"action":7}"#),
];

/// How a wrapper ends for each kind of failure, with what failed.
fn failures(context: &Context) -> Result<Vec<(String, Finished)>, CaseError> {
    let mut ends = Vec::new();
    let mut before_a_request = |what: &str, call: WrapperCall<'_>| -> Verdict {
        ends.push((what.to_owned(), call.start()?.finish()?));
        Ok(())
    };
    let variable = "CODEX_ESCALATE_SOCKET";
    before_a_request(
        "no CODEX_ESCALATE_SOCKET",
        any_call(context)?.without_variable(variable),
    )?;
    for value in ["", "x", "-1", "20x"] {
        let what = format!("CODEX_ESCALATE_SOCKET {value:?}");
        before_a_request(&what, any_call(context)?.variable(variable, value))?;
    }
    before_a_request("a closed descriptor", any_call(context)?.client_end(None))?;
    let file: OwnedFd = File::open("/dev/null")?.into();
    before_a_request("a file for the socket", any_call(context)?.client_end(Some(file)))?;
    let (server_end, client_end) = UnixDatagram::pair()?;
    drop(server_end);
    before_a_request("no peer", any_call(context)?.client_end(Some(client_end.into())))?;
    for sandboxed in [false, true] {
        for payload in BAD_DECISIONS {
            let call = any_call(context)?;
            let mut wrapper = if sandboxed {
                call.launched(in_sandbox)
            } else {
                call
            }
            .start()?;
            let (mut stream, _) = wrapper.request()?;
            if let Some(payload) = payload {
                stream.frames.send(payload, &[])?;
            }
            drop(stream);
            let reply = payload.map_or("the end of file".to_owned(), shown);
            let place = if sandboxed { ", in a sandbox" } else { "" };
            ends.push((format!("{reply} for a decision{place}"), wrapper.finish()?));
        }
    }
    for payload in [None, Some(&b"{}"[..]), Some(br#"{"exit_code":"0"}"#)] {
        let mut wrapper = any_call(context)?.start()?;
        let (mut stream, _) = wrapper.request()?;
        drop(stream.escalate()?);
        if let Some(payload) = payload {
            stream.frames.send(payload, &[])?;
        }
        drop(stream);
        let reply = payload.map_or("the end of file".to_owned(), shown);
        ends.push((format!("{reply} for a result"), wrapper.finish()?));
    }
    Ok(ends)
}

/// Each kind of failure has the status 126, also where standard error is closed.
fn status_is_126(context: &mut Context) -> Verdict {
    let mut ends = failures(context)?;
    for with_variable in [true, false] {
        let mut call = any_call(context)?
            .launched(|launch| launch.closed(2))
            .client_end(None);
        if !with_variable {
            call = call.without_variable("CODEX_ESCALATE_SOCKET");
        }
        ends.push(("standard error closed".to_owned(), call.start()?.finish()?));
    }
    let status =
        |(what, finished): &(String, Finished)| expect::with_input(what, finished.expect_status(126));
    expect::all(ends.iter().map(status))
}

/// Each kind of failure says in one line what went wrong; for the variable the line names it.
fn one_line(context: &mut Context) -> Verdict {
    let ends = failures(context)?;
    expect::all(ends.iter().map(|(what, finished)| {
        let one_line = expect::with_input(what, finished.expect_one_line());
        let variable = "CODEX_ESCALATE_SOCKET";
        if what.contains(variable) {
            let named = expect::contains("standard error", &finished.error_text(), variable);
            return expect::all([one_line, named]);
        }
        one_line
    }))
}

/// Without CODEX_ESCALATE_SOCKET.
fn variable_missing(context: &mut Context) -> Verdict {
    fails_without_request(context, |call| call.without_variable("CODEX_ESCALATE_SOCKET"))
}

/// With a CODEX_ESCALATE_SOCKET that is not a descriptor number.
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
        let verdict = fails_without_request(context, |call| call.variable("CODEX_ESCALATE_SOCKET", value));
        expect::with_input(format_args!("the value {value:?}"), verdict)?;
    }
    Ok(())
}

/// With the number of a descriptor that is not open.
fn descriptor_closed(context: &mut Context) -> Verdict {
    fails_without_request(context, |call| call.client_end(None))?;
    fails_without_request(context, |call| call.variable("CODEX_ESCALATE_SOCKET", "999999"))
}

/// A server that receives the handshake and closes the stream at once.
fn handshake_ignored(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    drop(wrapper.handshake()?);
    wrapper.finish()?.expect_refused()?;
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
    // `{"Escalate":{"x":1}}` has a payload where none belongs; reading it as Escalate hands over descriptors.
    each_decision_fails(
        context,
        &[
            br#"{"action":"Sudo"}"#,
            br#"{"action":"run"}"#,
            br#"{"action":"Deny"}"#,
            br#"{"action":{"Escalate":{"x":1}}}"#,
            br#"{"action":""}"#,
            br#"{"action":null}"#,
            br#"{"action":{}}"#,
            br#"{"action":{"Sudo":{}}}"#,
            br#"{}"#,
            br#"{"exit_code":0}"#,
        ],
    )
}

/// A malformed result.
fn malformed_result(context: &mut Context) -> Verdict {
    each_result_fails(
        context,
        &[
            b"",
            b"0",
            b"{}",
            b"{\"exit_code\":\"0\"}",
            b"{\"exit_code\":null}",
            b"{\"exit_code\":0",
            b"{\"exit_code\":0}}",
        ],
    )
}

/// Values that a lenient reader of numbers takes for the socket's number.
fn variable_nearly_a_number(context: &mut Context) -> Verdict {
    let number = ESCALATION_DESCRIPTOR;
    let beyond_64_bits = (1_u128 << 64) + number as u128;
    for value in [
        format!(" {number}"),
        format!("{number} "),
        format!("\t{number}"),
        format!("{number}\n"),
        format!("+{number}"),
        format!("-{number}"),
        format!("{number},21"),
        format!("{number}/"),
        "2e1".to_owned(),
        "0x14".to_owned(),
        "0b10100".to_owned(),
        "2_0".to_owned(),
        "٢٠".to_owned(),
        "２０".to_owned(),
        beyond_64_bits.to_string(),
        "-4294967276".to_owned(),
    ] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let mut wrapper = call.variable("CODEX_ESCALATE_SOCKET", &value).start()?;
        let finished = wrapper.finish();
        let verdict = expect::all([
            program.expect_not_started(),
            wrapper.expect_no_handshake(),
            finished.and_then(|finished| finished.expect_refused()),
        ]);
        expect::with_input(format_args!("the value {value:?}"), verdict)?;
    }
    Ok(())
}

/// An empty variable is no 0, not even where the escalation socket has that number.
fn variable_empty_and_socket_on_0(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?.socket_number(0);
    let mut wrapper = call.variable("CODEX_ESCALATE_SOCKET", "").start()?;
    let finished = wrapper.finish();
    expect::all([
        program.expect_not_started(),
        wrapper.expect_no_handshake(),
        finished.and_then(|finished| finished.expect_refused()),
    ])
}

/// The state of a descriptor, which the suite sees through its own copy.
fn state_of(descriptor: &impl AsFd) -> Result<(i32, Option<i64>, u64), CaseError> {
    let offset = nix::unistd::lseek(descriptor, 0, nix::unistd::Whence::SeekCur).ok();
    let size = u64::try_from(nix::sys::stat::fstat(descriptor)?.st_size).unwrap_or(0);
    Ok((fcntl(descriptor, FcntlArg::F_GETFL)?, offset, size))
}

/// The number names a file, a pipe, a directory, a terminal: nothing is written to it, and its flags stay.
fn descriptor_not_a_socket(context: &mut Context) -> Verdict {
    let path = context.write_file("notes", b"0123456789", 0o644)?;
    let mut file = File::options().read(true).write(true).open(&path)?;
    file.seek(SeekFrom::Start(5))?;
    let log = File::options().append(true).open(&path)?;
    let (reader, writer) = pipe()?;
    let pair = nix::pty::openpty(None, None)?;
    let kinds: Vec<OwnedFd> = vec![
        file.into(),
        log.into(),
        reader.try_clone()?.into(),
        writer.into(),
        File::open("/")?.into(),
        File::open("/dev/null")?.into(),
        File::open("/etc/passwd")?.into(),
        File::options().read(true).write(true).open("/dev/null")?.into(),
        pair.slave,
    ];
    for descriptor in kinds {
        let ours = descriptor.try_clone()?;
        let before = state_of(&ours)?;
        fails_without_request(context, |call| call.client_end(Some(descriptor)))?;
        expect::equal("status flags, offset and size", before, state_of(&ours)?)?;
    }
    expect::equal(
        "the file's content",
        b"0123456789".to_vec(),
        std::fs::read(&path)?,
    )?;
    let written = readable_until(&reader, Moment::now())? && {
        let mut byte = [0];
        (&reader).read(&mut byte)? > 0
    };
    expect::that(
        !written,
        "nothing is written to the pipe",
        "something was written",
    )?;
    // Standard input, under its own number.
    let mut input = File::options().read(true).write(true).open(&path)?;
    input.seek(SeekFrom::Start(3))?;
    let ours = input.try_clone()?;
    let before = state_of(&ours)?;
    fails_without_request(context, |call| {
        call.client_end(None)
            .socket_number(0)
            .launched(|launch| launch.descriptor(0, input))
    })?;
    expect::equal("status flags, offset and size of 0", before, state_of(&ours)?)
}

/// A socket that was never connected, one whose peer is gone, and one whose peer is gone with a full queue.
fn socket_without_a_peer(context: &mut Context) -> Verdict {
    let unconnected = UnixDatagram::unbound()?;
    fails_without_request(context, |call| call.client_end(Some(unconnected.into())))?;
    let (server_end, client_end) = UnixDatagram::pair()?;
    drop(server_end);
    fails_without_request(context, |call| call.client_end(Some(client_end.into())))?;

    let (server_end, client_end) = UnixDatagram::pair()?;
    client_end.set_nonblocking(true)?;
    while client_end.send(b"filler").is_ok() {}
    drop(server_end);
    fails_without_request(context, |call| call.client_end(Some(client_end.into())))
}

/// The server sends Escalate and hangs up before it receives the descriptors.
fn end_before_the_descriptors_are_read(context: &mut Context) -> Verdict {
    for _ in 0..20 {
        fails_by(context, |mut stream| {
            stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
            Ok(None)
        })?;
    }
    Ok(())
}

/// End of file within a result, at each of its parts.
fn end_within_the_result(context: &mut Context) -> Verdict {
    let bytes = frame(br#"{"exit_code":0}"#);
    for length in [1, 3, 4, 5, bytes.len() - 1] {
        fails_by(context, |mut stream| {
            stream.escalate()?;
            stream.frames.send_bytes(&bytes[..length], &[])?;
            Ok(None)
        })?;
    }
    Ok(())
}

/// A failure stays one line whichever debugging variables are set.
fn one_line_under_debug_variables(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for malformed in [true, false] {
        let call = with_debug_variables(WrapperCall::new(context, &program.path, ["program"])?);
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        if malformed {
            stream.frames.send(b"{", &[])?;
        }
        drop(stream);
        wrapper.finish()?.expect_one_line()?;
    }
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let call = with_debug_variables(call).without_variable("CODEX_ESCALATE_SOCKET");
    call.start()?.finish()?.expect_one_line()?;
    program.expect_not_started()
}

/// With standard error closed it refuses all the same, and standard output stays empty.
fn standard_error_closed(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call.launched(|launch| launch.closed(2)).start()?;
    drop(wrapper.handshake()?);
    wrapper.finish()?.expect_refused()?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call
        .launched(|launch| launch.closed(2))
        .client_end(None)
        .without_variable("CODEX_ESCALATE_SOCKET")
        .start()?;
    wrapper.finish()?.expect_refused()?;
    program.expect_not_started()
}

/// Standard error is a pipe without a reader, and SIGPIPE is ignored: it denies and refuses as usual. (Where SIGPIPE is
/// not ignored it may end the wrapper, as it ends any program.)
fn standard_error_broken(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for deny in [true, false] {
        let (reader, writer) = pipe()?;
        drop(reader);
        let call = WrapperCall::new(context, &program.path, ["program"])?
            .launched(|launch| launch.descriptor(2, writer).ignoring(libc::SIGPIPE));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        if deny {
            stream.deny(Some("nowhere to go"))?;
            wrapper.finish()?.expect_status(1)?;
        } else {
            drop(stream);
            wrapper.finish()?.expect_refused()?;
        }
    }
    program.expect_not_started()
}

/// A server that hangs up during a large request does not kill the wrapper by SIGPIPE, whether that is at its default,
/// ignored or blocked.
fn sigpipe_of_every_disposition(context: &mut Context) -> Verdict {
    let value = "0123456789abcdef".repeat(1024);
    for disposition in 0..3 {
        let program = Program::new(context, &format!("program-{disposition}"), [])?;
        let mut call = WrapperCall::new(context, &program.path, ["program"])?;
        for index in 0..64 {
            call = call.variable(format!("LARGE_{index}"), &value);
        }
        let mut wrapper = call
            .launched(|launch| match disposition {
                0 => launch,
                1 => launch.ignoring(libc::SIGPIPE),
                _ => launch.blocking(libc::SIGPIPE),
            })
            .start()?;
        // The request does not fit into the socket: the wrapper is still writing it when the server hangs up.
        let stream = wrapper.handshake()?;
        let begun = readable_until(
            stream.frames.socket(),
            Moment::now() + context.scaled(Duration::from_secs(5)),
        )?;
        expect::that(begun, "a request", "nothing")?;
        drop(stream);
        wrapper.finish()?.expect_refused()?;
        program.expect_not_started()?;
    }
    Ok(())
}
