//! wrapper.run: the wrapper becomes the command.

use std::fs;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::plan::Act;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{run_directly, run_under};
use crate::system::launch::Launch;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run/no-search-in-path", no_search_in_path),
    case("wrapper.run/directory-behind-a-link", directory_behind_a_link),
    case("wrapper.run/same-process", same_process),
    case("wrapper.run/arguments-and-directory", arguments_and_directory),
    case("wrapper.run/environment-untouched", environment_untouched),
    case("wrapper.run/socket-stays-usable", socket_stays_usable),
    case("wrapper.run/standard-streams", standard_streams),
    case("wrapper.run/every-status", every_status),
    case("wrapper.run/killed-by-signal", killed_by_signal),
    case("wrapper.run/a-script", a_script),
    case("wrapper.run/relative-file", relative_file),
]);

/// The file that was decided upon is the one in the working directory, though PATH has another of its name.
fn no_search_in_path(context: &mut Context) -> Verdict {
    let here = Program::at(context, &context.work_directory().join("tool"), [])?;
    let elsewhere = Program::new(context, "tool", [])?;
    let folder = context.directory().join("bin");
    for arguments in [["tool"], ["other"]] {
        let mut wrapper = WrapperCall::new(context, "tool", arguments)?
            .variable("PATH", &folder)
            .start()?;
        let (mut stream, request) = wrapper.request()?;
        expect::equal("file", "tool", request.file()?)?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
    }
    expect::equal("starts of ./tool", 2, here.starts()?.len())?;
    elsewhere.expect_not_started()?;
    // And when the working directory has no such file, PATH is not searched either.
    fs::remove_file(&here.path)?;
    let mut wrapper = WrapperCall::new(context, "tool", ["tool"])?
        .variable("PATH", &folder)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let ended = wrapper.finish()?.ended;
    expect::that(ended.shell_status() != 0, "a failure", ended)?;
    elsewhere.expect_not_started()
}

/// The command is in the very directory that the wrapper was started in, however that was reached.
fn directory_behind_a_link(context: &mut Context) -> Verdict {
    let directory = context.path("a directory – ü");
    fs::create_dir(&directory)?;
    let link = context.path("link to it");
    std::os::unix::fs::symlink(&directory, &link)?;
    let change = |launch: Launch| launch.in_directory(&link);
    let direct = run_directly(context, change)?;
    let report = run_under(context, change)?;
    expect::equal(
        "device and inode of the working directory",
        direct.directory_identity,
        report.directory_identity,
    )
}

/// The command has the wrapper's pid: it is executed, not spawned.
fn same_process(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let pid = wrapper.process.pid.as_raw();
    let (mut stream, _) = wrapper.request()?;
    program.expect_not_started()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    expect::equal("the command's pid", pid, report.pid)?;
    expect::equal("the command's parent", std::process::id() as i32, report.parent)
}

/// ARGV, argv[0] included, and the working directory are the wrapper's.
fn arguments_and_directory(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let arguments = ["another name", "", "a b", "*", "ü"];
    let mut wrapper = WrapperCall::new(context, &program.path, arguments)?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    expect::equal(
        "argv",
        arguments.map(str::to_owned).to_vec(),
        report.argument_text(),
    )?;
    let directory = context.work_directory().to_string_lossy().into_owned();
    expect::equal(
        "directory",
        directory,
        String::from_utf8_lossy(&report.directory).into_owned(),
    )
}

/// The command's environment is the wrapper's own, its variables included: the same entries, none more.
fn environment_untouched(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?
        .variable("ZULU", "1")
        .variable("ALPHA", "")
        .variable("BASH_EXEC_WRAPPER", "/some/wrapper")
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let mut environment: Vec<String> = program
        .only_start()?
        .environment
        .iter()
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect();
    let wrapper_path = context.wrapper()?.display().to_string();
    let mut expected = vec![
        "PATH=/usr/bin:/bin".to_owned(),
        format!("TMPDIR={}", context.temporary_directory().display()),
        format!("EXEC_WRAPPER={wrapper_path}"),
        format!("CODEX_ESCALATE_SOCKET={ESCALATION_DESCRIPTOR}"),
        "ZULU=1".to_owned(),
        "ALPHA=".to_owned(),
        "BASH_EXEC_WRAPPER=/some/wrapper".to_owned(),
    ];
    expected.sort_unstable();
    environment.sort_unstable();
    expect::equal("the command's environment", expected, environment)
}

/// The command can call the wrapper again over the same socket, as a nested shell does.
fn socket_stays_usable(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let wrapper_path = context.wrapper()?.to_owned();
    // The wrapper runs itself, which is the plainest nested caller.
    let arguments = [
        wrapper_path.as_os_str(),
        program.path.as_os_str(),
        "inner".as_ref(),
    ];
    let mut wrapper = WrapperCall::new(context, &wrapper_path, arguments)?.start()?;
    let (mut outer, _) = wrapper.request()?;
    outer.run()?;
    let (mut inner, request) = wrapper.request()?;
    expect::equal("file of the inner request", program.text(), request.file()?)?;
    inner.run()?;
    wrapper.finish()?.expect_status(0)?;
    expect::equal(
        "argv of the command",
        vec!["inner".to_owned()],
        program.only_start()?.argument_text(),
    )
}

/// What the command writes goes where the wrapper's streams go, and nothing else does.
fn standard_streams(context: &mut Context) -> Verdict {
    let acts = [
        Act::Output(b"to output\n".to_vec()),
        Act::Error(b"to error\n".to_vec()),
    ];
    let program = Program::new(context, "program", acts)?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let finished = wrapper.finish()?;
    expect::equal("standard output", "to output\n", &*finished.output_text())?;
    expect::equal("standard error", "to error\n", &*finished.error_text())
}

/// The command's status is the wrapper's, from 0 to 255.
fn every_status(context: &mut Context) -> Verdict {
    for status in [0, 1, 2, 64, 101, 126, 127, 128, 129, 255] {
        let program = Program::new(context, &format!("exits-{status}"), [Act::Exit(status)])?;
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(status)?;
    }
    Ok(())
}

/// A command that a signal kills looks killed.
fn killed_by_signal(context: &mut Context) -> Verdict {
    let program = Program::new(context, "dies", [Act::Signal(libc::SIGTERM)])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    expect::equal(
        "the command's end",
        Ended::Killed(libc::SIGTERM),
        wrapper.finish()?.ended,
    )
}

/// A `#!` script is executed by its interpreter.
fn a_script(context: &mut Context) -> Verdict {
    let script = context.write_file("work/script", b"#!/bin/sh\necho \"$0:$1\"\nexit 7\n", 0o755)?;
    let mut wrapper = WrapperCall::new(context, &script, ["name", "argument"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let finished = wrapper.finish()?;
    expect::equal(
        "standard output",
        format!("{}:argument\n", script.display()),
        finished.output_text(),
    )?;
    finished.expect_status(7)
}

/// A relative FILE is executed from the working directory, not searched.
fn relative_file(context: &mut Context) -> Verdict {
    for file in ["program", "./program"] {
        let path = context.work_directory().join("program");
        let _ = std::fs::remove_file(&path);
        let program = Program::at(context, &path, [])?;
        let mut wrapper = WrapperCall::new(context, file, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        program.only_start()?;
    }
    Ok(())
}
