//! Refusals and denials beyond the plain cases of [`super::fail_closed`] and [`super::deny`].

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use super::fail_closed::{fails_by, fails_without_request};
use super::support::any_call;
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wire::read_to_end;
use crate::peer::wrapper_call::{Finished, WrapperCall};
use crate::spec::requirements::Role;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.deny.message/slowly-read", slowly_read),
    case("wrapper.deny.message/quiet-under-debug-variables", quiet_under_debug_variables),
    case("wrapper.deny.control/every-control-character", every_control_character),
    case("wrapper.deny.control/other-text-stays", other_text_stays),
    case("wrapper.fail-closed/variable-nearly-a-number", variable_nearly_a_number),
    case("wrapper.fail-closed/descriptor-not-a-socket", descriptor_not_a_socket),
    case("wrapper.fail-closed/socket-without-a-peer", socket_without_a_peer),
    case("wrapper.fail-closed/end-before-the-descriptors-are-read", end_before_the_descriptors_are_read),
    case("wrapper.fail-closed/end-within-the-result", end_within_the_result),
    case("wrapper.fail-closed/one-line-under-debug-variables", one_line_under_debug_variables),
    case("wrapper.fail-closed/standard-error-closed", standard_error_closed),
    case("wrapper.fail-closed/standard-error-broken", standard_error_broken),
    case("wrapper.fail-closed/sigpipe-of-every-disposition", sigpipe_of_every_disposition),
]);

/// Variables with which programs and runtimes turn their logging on.
const DEBUG_VARIABLES: [(&str, &str); 6] = [
    ("RUST_BACKTRACE", "full"),
    ("RUST_LOG", "trace"),
    ("DEBUG", "1"),
    ("GODEBUG", "gctrace=1,inittrace=1"),
    ("PYTHONDEVMODE", "1"),
    ("LC_ALL", "xx_YY.UTF-8"),
];

fn with_debug_variables(call: WrapperCall<'_>) -> WrapperCall<'_> {
    DEBUG_VARIABLES
        .into_iter()
        .fold(call, |call, (name, value)| call.variable(name, value))
}

/// A reason of 200 KB into a pipe that is full before it is read.
fn slowly_read(context: &mut Context) -> Verdict {
    let reason = "slow ".repeat(40_000);
    let (mut reader, writer) = pipe()?;
    let mut wrapper = any_call(context)?
        .launched(|launch| launch.descriptor(2, writer))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some(&reason))?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    // The first pieces in single bytes, each when there is something.
    for _ in 0..64 {
        let more = readable_until(&reader, Instant::now() + context.patience())?;
        expect::that(more, "a denial on standard error", "nothing")?;
        let length = reader.read(&mut piece[..1])?;
        text.extend_from_slice(&piece[..length]);
    }
    let rest = read_to_end(&mut reader, Instant::now() + context.patience())?;
    text.extend(rest.unwrap_or_default());
    wrapper.finish()?.expect_status(1)?;
    expect::that(
        text == format!("Execution denied: {reason}\n").as_bytes(),
        "the whole reason",
        format_args!("{} bytes", text.len()),
    )
}

/// Debugging variables are the command's: they make a wrapper say no more.
fn quiet_under_debug_variables(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = || {
        Ok::<_, CaseError>(with_debug_variables(WrapperCall::new(
            context,
            &program.path,
            ["x"],
        )?))
    };
    let mut wrapper = call()?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some("no"))?;
    let finished = wrapper.finish()?;
    expect::equal(
        "standard error",
        "Execution denied: no\n",
        &*finished.error_text(),
    )?;
    finished.expect_no_output()?;
    program.expect_not_started()?;
    let mut wrapper = call()?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let finished = wrapper.finish()?;
    finished.expect_status(0)?;
    expect::equal("standard error under Run", "", &*finished.error_text())?;
    finished.expect_no_output()
}

/// The standard error of a denial for this reason.
fn denied(context: &Context, reason: &str) -> Result<Finished, CaseError> {
    let mut wrapper = any_call(context)?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some(reason))?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    finished.expect_no_output()?;
    Ok(finished)
}

/// Each control character alone between two letters: something visible stands for it.
fn every_control_character(context: &mut Context) -> Verdict {
    let control = (1..=0x9f_u32)
        .filter_map(char::from_u32)
        .filter(|character| character.is_control() && !matches!(character, '\t' | '\n'));
    let mut reason = String::new();
    let mut count = 0;
    for character in control {
        reason.push_str(&format!("<{character}>"));
        count += 1;
    }
    let finished = denied(context, &reason)?;
    let text = String::from_utf8(finished.error.clone())
        .map_err(|_| crate::verdict::violation("UTF-8 on standard error", finished.error_text()))?;
    let raw = text
        .trim_end_matches('\n')
        .chars()
        .find(|character| character.is_control());
    expect::that(
        raw.is_none(),
        "no control character arrives raw",
        format_args!("{raw:?} in {text:?}"),
    )?;
    let shown: Vec<&str> = text.split('<').skip(1).collect();
    expect::equal("escaped characters", count, shown.len())?;
    for escaped in shown {
        let form = escaped.trim_end().trim_end_matches('>');
        expect::that(
            !form.is_empty(),
            "a visible form of each control character",
            format_args!("none: {text:?}"),
        )?;
    }
    Ok(())
}

/// All but the control character is as it was: backslashes, other scripts, tabs and newlines.
fn other_text_stays(context: &mut Context) -> Verdict {
    let (before, after) = ("a\\n\\x07 ü–😀\u{a0}\u{2028}\tb\n", "\u{feff}c\\\\ é\n\nd");
    let finished = denied(context, &format!("{before}\u{7}{after}"))?;
    let text = finished.error_text();
    let rest = text.strip_prefix(&format!("Execution denied: {before}"));
    let form = rest.and_then(|rest| rest.strip_suffix(&format!("{after}\n")));
    expect::that(
        form.is_some_and(|form| !form.contains('\u{7}')),
        format_args!("{before:?}, something for the bell, {after:?}"),
        format_args!("{text:?}"),
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
        let finished = wrapper.finish()?;
        finished.expect_failed_closed()?;
        expect::contains("standard error", &finished.error_text(), "CODEX_ESCALATE_SOCKET")?;
        wrapper.expect_no_handshake()?;
        program.expect_not_started()?;
    }
    Ok(())
}

/// What a refused descriptor looks like to the suite, which holds it too.
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
    let written = readable_until(&reader, Instant::now())? && {
        let mut byte = [0];
        (&reader).read(&mut byte)? > 0
    };
    expect::that(!written, "nothing is written to the pipe", "something is")?;
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

/// A socket that was never connected, and one whose peer is gone with a full queue.
fn socket_without_a_peer(context: &mut Context) -> Verdict {
    let unconnected = UnixDatagram::unbound()?;
    fails_without_request(context, |call| call.client_end(Some(unconnected.into())))?;
    let (server_end, client_end) = UnixDatagram::pair()?;
    client_end.set_nonblocking(true)?;
    while client_end.send(b"filler").is_ok() {}
    drop(server_end);
    fails_without_request(context, |call| call.client_end(Some(client_end.into())))
}

/// The server says Escalate and is gone before it takes the descriptors.
fn end_before_the_descriptors_are_read(context: &mut Context) -> Verdict {
    for _ in 0..20 {
        fails_by(context, |mut stream| {
            stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
            Ok(None)
        })?;
    }
    Ok(())
}

/// The end comes within the result, at each of its parts.
fn end_within_the_result(context: &mut Context) -> Verdict {
    let bytes = crate::peer::wire::frame(br#"{"exit_code":0}"#);
    for length in [1, 3, 4, 5, bytes.len() - 1] {
        fails_by(context, |mut stream| {
            stream.escalate()?;
            stream.frames.send_bytes(&bytes[..length], &[])?;
            Ok(None)
        })?;
    }
    Ok(())
}

/// A refusal stays one line whatever debugging is asked for.
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
        wrapper.finish()?.expect_failed_closed()?;
    }
    fails_without_request(context, |call| {
        with_debug_variables(call).without_variable("CODEX_ESCALATE_SOCKET")
    })?;
    program.expect_not_started()
}

/// Nowhere to say it: 126 all the same, and standard output stays empty.
fn standard_error_closed(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call.launched(|launch| launch.closed(2)).start()?;
    drop(wrapper.handshake()?);
    let finished = wrapper.finish()?;
    finished.expect_status(126)?;
    finished.expect_no_output()?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call
        .launched(|launch| launch.closed(2))
        .client_end(None)
        .without_variable("CODEX_ESCALATE_SOCKET")
        .start()?;
    let finished = wrapper.finish()?;
    finished.expect_status(126)?;
    finished.expect_no_output()?;
    program.expect_not_started()
}

/// Standard error is a pipe that nobody reads, and SIGPIPE is ignored: the status is what it would be. (Where it is
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
        let status = if deny {
            stream.deny(Some("nobody hears it"))?;
            1
        } else {
            drop(stream);
            126
        };
        wrapper.finish()?.expect_status(status)?;
    }
    program.expect_not_started()
}

/// A server that hangs up is told apart from a broken pipe of the wrapper's own, whether SIGPIPE is at its default,
/// ignored or blocked, and however large the request is.
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
        // The request does not fit: the wrapper is still writing it when the server goes.
        let stream = wrapper.handshake()?;
        let begun = readable_until(
            stream.frames.socket(),
            Instant::now() + context.scaled(Duration::from_secs(5)),
        )?;
        expect::that(begun, "a request", "nothing")?;
        drop(stream);
        wrapper.finish()?.expect_failed_closed()?;
        program.expect_not_started()?;
    }
    Ok(())
}
