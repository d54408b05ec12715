//! The escalated child: program, arguments, directory, environment, streams, exit code.

use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::read_to_end;
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::{file, null};
use crate::stage::server::{Escalated, Stage};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate/program-and-arguments", program_and_arguments),
    case("server.escalate/working-directory", working_directory),
    case("server.escalate/environment", environment),
    case("server.escalate/standard-streams", standard_streams),
    case("server.escalate/same-file-descriptions", same_file_descriptions),
    case("server.escalate/every-exit-code", every_exit_code).within_seconds(240),
    case("server.escalate/relative-program", relative_program),
    case("server.escalate/no-search-in-path", no_search_in_path),
    case("server.escalate/ten-thousand-arguments", ten_thousand_arguments),
    case("server.escalate/big-environment", big_environment),
    case("server.escalate/result-when-the-child-ends", result_when_the_child_ends),
    case("server.escalate/one-result", one_result),
    case("server.escalate/script", script),
    case("server.escalate/bare-script", bare_script).at(Level::Faithful),
    case("server.escalate/long-lived", long_lived).at(Level::Hardened).within_seconds(90),
]);

/// The program that was decided on runs, with the request's argv and nothing else.
fn program_and_arguments(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let lists: [&[&str]; 6] = [
        &[""],
        &["", "behind an empty name"],
        &["program"],
        &["-login", "a", "", " b c ", "d\ne"],
        &["/another/name", "*", "~", "$X", "--", "'\"\\"],
        &["ü–😀", "\u{1}\u{7f}"],
    ];
    for (index, arguments) in lists.into_iter().enumerate() {
        let program = Program::new(context, &format!("program-{index}"), [Act::Exit(5)])?;
        let request = stage.request(program.text(), arguments);
        let mut requester = stage.escalate_quietly(&request)?;
        requester.expect_exit_code(5)?;
        let report = program.only_start()?;
        expect::equal("argv of the child", arguments, &*report.argument_text())?;
        let executable = String::from_utf8_lossy(&report.executable).into_owned();
        expect::equal("/proc/self/exe of the child", program.text(), &*executable)?;
    }
    stage.finish()
}

/// It runs in the request's working directory, not in the server's.
fn working_directory(context: &mut Context) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let mut stage = Stage::new(context)?.decide_by_hand();
    for name in ["plain", "with blanks and ü", "deep/er"] {
        let directory = context.work_directory().join(name);
        std::fs::create_dir_all(&directory)?;
        let program = Program::new(context, &format!("in-{}", context.next_number()), [])?;
        let request = RequestMessage::new(program.text(), &["program"], &directory.to_string_lossy());
        let mut requester = stage.escalate_quietly(&request)?;
        requester.expect_exit_code(0)?;
        let metadata = std::fs::metadata(&directory)?;
        expect::equal(
            "device and inode of the child's working directory",
            (metadata.dev(), metadata.ino()),
            program.only_start()?.directory_identity,
        )?;
    }
    stage.finish()
}

/// The request's variables are in the child's environment, with their values.
fn environment(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let mut request = stage.request(program.text(), &["program"]);
    let mut variables: Vec<(String, String)> = (0..20)
        .map(|index| (format!("NAME_{index}"), format!("value {index}")))
        .collect();
    for (name, value) in [
        ("EMPTY", ""),
        ("EQUALS", "a=b=c"),
        ("LINES", "one\ntwo"),
        ("WIDE", "ü–😀"),
        ("PATH", "/nowhere"),
    ] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    for (name, value) in &variables {
        request = request.variable(name, value);
    }
    stage.escalate_quietly(&request)?.expect_exit_code(0)?;
    let report = program.only_start()?;
    for (name, value) in &variables {
        expect::equal(
            &format!("{name} in the child"),
            Some(value.clone()),
            report
                .variable(name)
                .map(|value| String::from_utf8_lossy(&value).into_owned()),
        )?;
    }
    stage.finish()
}

/// What the child reads and writes is what was sent as 0, 1 and 2.
fn standard_streams(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let acts = [Act::Copy, Act::Error(b"to standard error".to_vec()), Act::Exit(0)];
    let program = Program::new(context, "program", acts)?;
    let input = file(context, "input", "what is read")?;
    let (output, output_writer) = pipe()?;
    let (error, error_writer) = pipe()?;
    let request = stage.request(program.text(), &["program"]);
    let placements = [
        (0, &input as _),
        (1, &output_writer as _),
        (2, &error_writer as _),
    ];
    let mut requester = stage.escalate_request(&request, &placements)?;
    drop((output_writer, error_writer));
    requester.expect_exit_code(0)?;
    let deadline = Moment::now() + context.patience();
    for (name, pipe, text) in [
        ("standard output", output, "what is read"),
        ("standard error", error, "to standard error"),
    ] {
        let bytes = read_to_end(pipe, deadline)?.unwrap_or_default();
        expect::equal(name, text, &*String::from_utf8_lossy(&bytes))?;
    }
    stage.finish()
}

/// The descriptors are the same open file descriptions: offset and position are shared, nothing is copied.
fn same_file_descriptions(context: &mut Context) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [Act::Output(b"child".to_vec()), Act::Exit(0)])?;
    let mut shared = file(context, "shared", "")?;
    shared.write_all(b"before ")?;
    let null = null()?;
    let request = stage.request(program.text(), &["program"]);
    let mut requester = stage.escalate_request(&request, &[(0, &null), (1, &shared), (2, &null)])?;
    requester.expect_exit_code(0)?;
    shared.write_all(b" after")?;
    shared.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    shared.read_to_string(&mut text)?;
    expect::equal("the shared file", "before child after", &*text)?;
    let report = program.only_start()?;
    let metadata = shared.metadata()?;
    let held = report
        .descriptor(1)
        .map(|descriptor| (descriptor.identity, descriptor.offset));
    expect::equal(
        "device, inode and offset of descriptor 1 at the child's start",
        Some(((metadata.dev(), metadata.ino()), Some(7))),
        held,
    )?;
    stage.finish()
}

/// Each exit code from 0 to 255 is reported.
fn every_exit_code(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    stage.shim.decide_by(|_| Answer::Escalate);
    let null = null()?;
    for code in 0..=255 {
        let request = stage.request("/bin/sh", &["sh", "-c", "exit \"$0\"", &code.to_string()]);
        let mut requester = stage.session.socket.open()?;
        requester.request(&request)?;
        requester.expect_action(&json!("Escalate"))?;
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        requester.expect_exit_code(code)?;
    }
    stage.finish()
}

/// A relative program is the one in the request's working directory, even if the server's own has one of that name.
fn relative_program(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let right = Program::at(context, &context.work_directory().join("p"), [Act::Exit(21)])?;
    let nested = Program::at(context, &context.work_directory().join("p2"), [Act::Exit(22)])?;
    let wrong = Program::at(context, &context.path("p"), [Act::Exit(23)])?;
    let wrong_too = Program::at(context, &context.path("p2"), [Act::Exit(23)])?;
    for (name, code) in [("./p", 21), ("p2", 22)] {
        let request = stage.request(name, &["p"]);
        stage.escalate_quietly(&request)?.expect_exit_code(code)?;
    }
    right.only_start()?;
    nested.only_start()?;
    wrong.expect_not_started()?;
    wrong_too.expect_not_started()?;
    stage.finish()
}

/// A program without a slash isn't searched for in any PATH.
fn no_search_in_path(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let right = Program::at(context, &context.work_directory().join("sh"), [Act::Exit(24)])?;
    let request = stage
        .request("sh", &["sh", "-c", "exit 25"])
        .variable("PATH", "/usr/bin:/bin");
    stage.escalate_quietly(&request)?.expect_exit_code(24)?;
    right.only_start()?;
    stage.finish()
}

/// Ten thousand arguments reach the child, in order.
fn ten_thousand_arguments(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let words: Vec<String> = (0..10_000).map(|number| format!("argument {number}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let request = stage.request(program.text(), &words);
    stage.escalate_quietly(&request)?.expect_exit_code(0)?;
    let report = program.only_start()?;
    expect::equal("argv of the child", &*words, &*report.argument_text())?;
    stage.finish()
}

/// An environment of 1 MiB reaches the child.
fn big_environment(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let mut request = stage.request(program.text(), &["program"]);
    let value = "v".repeat(64 << 10);
    for index in 0..16 {
        request = request.variable(&format!("BIG_{index}"), &value);
    }
    stage.escalate_quietly(&request)?.expect_exit_code(0)?;
    let report = program.only_start()?;
    for index in 0..16 {
        let name = format!("BIG_{index}");
        expect::that(
            report.variable(&name).as_deref() == Some(value.as_bytes()),
            format_args!("{name} of {} bytes in the child", value.len()),
            format_args!(
                "{} bytes",
                shown(&report.variable(&name).map(|value| value.len()))
            ),
        )?;
    }
    stage.finish()
}

/// The result comes when the child itself has ended, though a process of its own still holds its output.
fn result_when_the_child_ends(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let (output, output_writer) = pipe()?;
    let null = null()?;
    let request = stage.request(program.text(), &["child"]);
    let placements = [(0, &null as _), (1, &output_writer as _), (2, &null as _)];
    let mut requester = stage.escalate_request(&request, &placements)?;
    drop(output_writer);
    let mut child = program.accept("the escalated child")?;
    child.must(&Order::Fork {
        new_session: false,
        new_group: false,
        orphan: false,
    })?;
    // It holds descriptor 1 from its fork on.
    let _left = program.accept("the process that the child leaves")?;
    child.send(&Order::Exit(4))?;
    requester.expect_exit_code(4)?;
    drop(output);
    stage.finish()
}

/// There is one result, and nothing after it.
fn one_result(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh", "-c", "exit 6"]);
    let mut requester = stage.escalate_quietly(&request)?;
    requester.expect_exit_code(6)?;
    stage.sentinel()?;
    match requester.frames.receive_within(Duration::ZERO)? {
        crate::peer::wire::Received::Frame(frame) => Err(crate::verdict::violation(
            "one result",
            format_args!("another message: {}", crate::transcript::shown(&frame.payload)),
        )),
        _ => stage.finish(),
    }
}

/// A script with `#!` runs, with its arguments.
fn script(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let text = b"#!/bin/sh\n[ \"$1\" = one ] && [ \"$2\" = 'two words' ] && exit 31\nexit 32\n";
    let script = context.write_file("script", text, 0o755)?;
    let request = stage.request(&script.to_string_lossy(), &["script", "one", "two words"]);
    stage.escalate_quietly(&request)?.expect_exit_code(31)?;
    stage.finish()
}

/// A text without `#!` runs as a shell script, as execvp(3) does it.
fn bare_script(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let text = b"[ \"$1\" = one ] && [ \"$2\" = 'two words' ] && exit 33\nexit 34\n";
    let script = context.write_file("bare", text, 0o755)?;
    let request = stage.request(&script.to_string_lossy(), &["bare", "one", "two words"]);
    let mut requester = stage.escalate_quietly(&request)?;
    requester.expect_exit_code(33)?;
    stage.finish()
}

/// A child outlives the server thread that started it: 200 requests, and an idle time that is longer
/// than the usual keep-alive of a pool's threads.
fn long_lived(context: &mut Context) -> Verdict {
    const IDLE: Duration = Duration::from_secs(12);
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        mut child,
    } = stage.start(&program)?;
    stage.shim.decide_by(|_| Answer::Run);
    for _ in 0..200 {
        let request = stage.request("/bin/sh", &["x"]);
        let mut other = stage.session.socket.open()?;
        other.request(&request)?;
        other.expect_action(&json!("Run"))?;
    }
    let ended = child.process()?.ended_within(IDLE)?;
    expect::that(!ended, "the child lives until it ends by itself", "it has ended")?;
    child.send(&Order::Exit(35))?;
    requester.expect_exit_code(35)?;
    stage.finish()
}
