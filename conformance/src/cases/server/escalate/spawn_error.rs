//! Programs that cannot be started: a result of 127 or 126, and one line on the request's standard error.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, RequestMessage};
use crate::peer::program::Program;
use crate::peer::wire::{Received, read_whole};
use crate::shown::shown;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.spawn-error/missing", missing),
    case("server.escalate.spawn-error/below-a-file", below_a_file),
    case("server.escalate.spawn-error/dangling-link", dangling_link),
    case("server.escalate.spawn-error/not-executable", not_executable),
    case("server.escalate.spawn-error/directory", directory),
    case("server.escalate.spawn-error/link-loop", link_loop),
    case("server.escalate.spawn-error/name-too-long", name_too_long),
    case("server.escalate.spawn-error/open-for-writing", open_for_writing),
    case("server.escalate.spawn-error/arguments-too-long", arguments_too_long),
    case("server.escalate.spawn-error/bad-interpreter", bad_interpreter),
    case("server.escalate.spawn-error/no-standard-error", no_standard_error),
    case("server.escalate.spawn-error/nothing-mapped", nothing_mapped),
    case("server.escalate.spawn-error/standard-error-unwritable", standard_error_unwritable),
    case("server.escalate.spawn-error/standard-error-unread", standard_error_unread).at(Level::Hardened),
    case("server.escalate.spawn-error/standard-error-nearly-full", standard_error_nearly_full).at(Level::Hardened),
    case("server.escalate.spawn-error/directory-gone", directory_gone),
    case("server.escalate.spawn-error/next-is-served", next_is_served),
]);

/// The outcome of a request for a program that cannot be started.
struct Outcome {
    exit_code: i64,
    output: String,
    error: String,
    /// The server sent the result before it could have the descriptors, as it may (section 4.5).
    early: bool,
}

/// Escalates `request` with pipes as 1 and 2, and collects everything.
fn outcome(context: &Context, stage: &mut Stage, request: &RequestMessage) -> Result<Outcome, CaseError> {
    let mut requester = stage.granted(request)?;
    // When this is over, a server that answers before the descriptor message has done so.
    stage.sentinel()?;
    let early = match requester.frames.receive_within(Duration::ZERO)? {
        Received::Silence { bytes: 0 } => None,
        Received::Frame(frame) => Some(frame.json()?),
        other => {
            return Err(violation(
                "a stream that waits for the descriptor message, or an early result",
                shown(&other),
            ));
        }
    };
    let (output, output_writer) = pipe()?;
    let (error, error_writer) = pipe()?;
    let is_early = early.is_some();
    let result = match early {
        Some(result) => result,
        None => {
            requester.send_descriptors(&[(1, &output_writer), (2, &error_writer)])?;
            requester.result()?
        }
    };
    drop((output_writer, error_writer));
    let exit_code = result["exit_code"]
        .as_i64()
        .ok_or_else(|| violation("a result with exit_code, a number", format_args!("{result}")))?;
    expect::that(
        result.get("signal").is_none(),
        "the result of a program that was not started has no signal",
        &result,
    )?;
    Ok(Outcome {
        exit_code,
        output: whole(context, output, 1)?,
        error: whole(context, error, 2)?,
        early: is_early,
    })
}

/// All that was written to a pipe, whose end of file proves that no process holds it any more.
fn whole(context: &Context, reader: File, number: i32) -> Result<String, CaseError> {
    let what = format!("descriptor {number} is closed after the result");
    let bytes = read_whole(reader, what, context.patience())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Demands one of these exit codes, nothing on standard output, and one line that names the program.
fn expect_error(outcome: &Outcome, codes: &[i64], name: &str) -> Verdict {
    expect::that(
        codes.contains(&outcome.exit_code),
        format_args!("exit_code of a program that cannot be started: one of {codes:?}"),
        format_args!("{} (standard error: {:?})", outcome.exit_code, outcome.error),
    )?;
    expect::equal("standard output", "", outcome.output.as_str())?;
    if outcome.early {
        return expect::equal("standard error of an early result", "", outcome.error.as_str());
    }
    let lines: Vec<&str> = outcome.error.lines().collect();
    expect::that(
        lines.len() == 1 && outcome.error.ends_with('\n') && lines[0].contains(name),
        format_args!("one line on standard error that names {name}"),
        format_args!("{:?}", outcome.error),
    )
}

/// Escalates the file of that name and demands the failure.
fn expect_failure(context: &Context, file: &str, codes: &[i64], name: &str) -> Verdict {
    let mut stage = Stage::new(context)?;
    let request = stage.request_for(file);
    let outcome = outcome(context, &mut stage, &request)?;
    expect_error(&outcome, codes, name)?;
    stage.expect_no_zombies()?;
    stage.finish()
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A file that isn't there: 127.
fn missing(context: &mut Context) -> Verdict {
    let file = text(&context.path("bin/no-such-program"));
    expect_failure(context, &file, &[127], "no-such-program")
}

/// A path below something that is not a directory: 127 too.
fn below_a_file(context: &mut Context) -> Verdict {
    let file = context.write_file("bin/plain-file", b"#!/bin/sh\n", 0o755)?;
    let below = format!("{}/program-below", file.display());
    expect_failure(context, &below, &[127], "program-below")
}

/// A symbolic link that leads nowhere: 127.
fn dangling_link(context: &mut Context) -> Verdict {
    let link = context.path("bin/dangling");
    std::os::unix::fs::symlink("/nonexistent/program", &link)?;
    let mut stage = Stage::new(context)?;
    let request = stage.request_for(&text(&link));
    let outcome = outcome(context, &mut stage, &request)?;
    // The line may name the link or what it points to.
    let name = if outcome.error.contains("dangling") {
        "dangling"
    } else {
        "/nonexistent/program"
    };
    expect_error(&outcome, &[127], name)?;
    stage.finish()
}

/// A file without permission to execute: 126.
fn not_executable(context: &mut Context) -> Verdict {
    let file = context.write_file("bin/not-executable", b"#!/bin/sh\nexit 0\n", 0o644)?;
    expect_failure(context, &text(&file), &[126], "not-executable")
}

/// A directory: 126.
fn directory(context: &mut Context) -> Verdict {
    let path = context.path("bin/a-directory");
    std::fs::create_dir(&path)?;
    expect_failure(context, &text(&path), &[126], "a-directory")
}

/// Symbolic links in a circle: 126.
fn link_loop(context: &mut Context) -> Verdict {
    let link = context.path("bin/circle");
    std::os::unix::fs::symlink("circle", &link)?;
    expect_failure(context, &text(&link), &[126], "circle")
}

/// A name longer than any file system allows: 126.
fn name_too_long(context: &mut Context) -> Verdict {
    let name = "n".repeat(300);
    let file = text(&context.path(&format!("bin/{name}")));
    expect_failure(context, &file, &[126], "nnnn")
}

/// A program that another process has open for writing (ETXTBSY): 126.
fn open_for_writing(context: &mut Context) -> Verdict {
    let path = context.path("bin/being-written");
    std::fs::copy(context.link_probe("probe-to-copy")?, &path)?;
    let writer = File::options().write(true).open(&path)?;
    let verdict = expect_failure(context, &text(&path), &[126], "being-written");
    drop(writer);
    verdict
}

/// An argument that is longer than the kernel takes (E2BIG): 126.
fn arguments_too_long(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut stage = Stage::new(context)?;
    // SAFETY: sysconf(3) takes an integer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let length = usize::try_from(page).map_err(harness)? * 32 + 1;
    let argument = "x".repeat(length);
    let request = RequestMessage::new(program.text(), &[program.text(), &argument], &stage.directory);
    let outcome = outcome(context, &mut stage, &request)?;
    expect_error(&outcome, &[126], "program")?;
    program.expect_not_started()?;
    stage.finish()
}

/// A script whose interpreter is missing: the kernel says ENOENT though the file is there, so 127 or 126.
fn bad_interpreter(context: &mut Context) -> Verdict {
    let file = context.write_file("bin/bad-interpreter", b"#!/nonexistent/interpreter\n", 0o755)?;
    expect_failure(context, &text(&file), &[126, 127], "bad-interpreter")
}

/// Without a descriptor 2 no line is written, not even to another descriptor.
fn no_standard_error(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let file = text(&context.path("bin/no-such-program"));
    let (output, output_writer) = pipe()?;
    let (other, other_writer) = pipe()?;
    let null = null()?;
    let placements: [(i64, &dyn AsFdObject); 3] = [(0, &null), (1, &output_writer), (3, &other_writer)];
    let mut requester = stage.escalate_request(&stage.request_for(&file), &placements)?;
    requester.expect_exit_code(127)?;
    drop((output_writer, other_writer));
    expect::equal("standard output", "", whole(context, output, 1)?.as_str())?;
    expect::equal("descriptor 3", "", whole(context, other, 3)?.as_str())?;
    stage.finish()
}

/// Without any descriptor there is a result all the same.
fn nothing_mapped(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let file = text(&context.path("bin/no-such-program"));
    stage
        .escalate_request(&stage.request_for(&file), &[])?
        .expect_exit_code(127)?;
    stage.finish()
}

/// A standard error without a reader, one that is full, and one that is open for reading only: the result comes all
/// the same, and the server goes on serving.
fn standard_error_unwritable(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let file = text(&context.path("bin/no-such-program"));
    let (reader, broken) = pipe()?;
    drop(reader);
    let full = File::options().write(true).open("/dev/full")?;
    let read_only = File::open("/dev/null")?;
    for (what, descriptor) in [
        ("a pipe without reader", &broken),
        ("/dev/full", &full),
        ("a file open for reading", &read_only),
    ] {
        context.transcript.note(format_args!("standard error: {what}"));
        stage
            .escalate_request(&stage.request_for(&file), &[(2, descriptor)])?
            .expect_exit_code(127)?;
        stage.sentinel()?;
    }
    stage.finish()
}

/// A standard error that is a full pipe: the result comes all the same, and the session ends.
fn standard_error_unread(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let file = text(&context.path("bin/no-such-program"));
    let (_unread, mut full) = pipe()?;
    fcntl(&full, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while full.write(&[0; 4096]).is_ok() {}
    fcntl(&full, FcntlArg::F_SETFL(OFlag::empty()))?;
    stage
        .escalate_request(&stage.request_for(&file), &[(2, &full)])?
        .expect_exit_code(127)?;
    stage.sentinel()?;
    stage.close_session()?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// A pipe with room for PIPE_BUF bytes, which poll(2) calls writable, and a name that makes the line longer than that.
fn standard_error_nearly_full(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut file = text(&context.path("none"));
    while file.len() + 1 < libc::PATH_MAX as usize - 1 {
        file.push('/');
        let room = libc::PATH_MAX as usize - 1 - file.len();
        file.push_str(&"x".repeat(room.min(200)));
    }
    let (unread, mut full) = pipe()?;
    fcntl(&full, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while full.write(&[0; libc::PIPE_BUF]).is_ok() {}
    fcntl(&full, FcntlArg::F_SETFL(OFlag::empty()))?;
    (&unread).read_exact(&mut [0; libc::PIPE_BUF])?;
    stage
        .escalate_request(&stage.request_for(&file), &[(2, &full)])?
        .expect_exit_code(127)?;
    stage.sentinel()?;
    stage.close_session()?;
    stage.expect_no_zombies()?;
    drop(unread);
    stage.finish()
}

/// A working directory that isn't there: 126 or 127, and the program doesn't run somewhere else.
fn directory_gone(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let gone = text(&context.path("work/gone"));
    let plain = text(&context.write_file("work/plain-file", b"", 0o644)?);
    for directory in [gone, plain] {
        let request = RequestMessage::new(program.text(), &["program"], &directory);
        let outcome = outcome(context, &mut stage, &request)?;
        expect::that(
            [126, 127].contains(&outcome.exit_code),
            "exit_code 126 or 127 for a working directory that cannot be entered",
            outcome.exit_code,
        )?;
        program.expect_not_started()?;
    }
    stage.finish()
}

/// Forty failures among other requests do not affect those.
fn next_is_served(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let file = text(&context.path("bin/no-such-program"));
    for _ in 0..40 {
        stage
            .escalate_request(&stage.request_for(&file), &[])?
            .expect_exit_code(127)?;
        stage.sentinel()?;
    }
    stage.expect_no_zombies()?;
    stage.finish()
}
