//! wrapper.run.missing: 127 or 126 for a FILE that cannot be executed, and one line on standard error.

use std::fs;
use std::fs::File;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::run_file;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.missing/no-such-file", missing),
    case("wrapper.run.missing/not-executable", not_executable),
    case("wrapper.run.missing/a-directory", a_directory),
    case("wrapper.run.missing/below-a-file", below_a_file),
    case("wrapper.run.missing/removed-while-deciding", removed_while_deciding),
    case("wrapper.run.missing/whatever-execve-refuses", whatever_execve_refuses),
    case("wrapper.run.missing/standard-error-closed", standard_error_closed),
]);

/// A FILE that does not exist: 127 and one line on standard error.
fn missing(context: &mut Context) -> Verdict {
    cannot_run(context, "/nonexistent/program", 127)
}

/// A FILE that may not be executed: 126 and one line.
fn not_executable(context: &mut Context) -> Verdict {
    let path = context.write_file("work/plain", b"text\n", 0o644)?;
    cannot_run(context, &path.to_string_lossy(), 126)
}

/// A directory: 126 and one line.
fn a_directory(context: &mut Context) -> Verdict {
    cannot_run(context, "/tmp", 126)
}

/// A path below a plain file: 127 as in zsh and dash, or 126 as in bash, and one line.
fn below_a_file(context: &mut Context) -> Verdict {
    let path = context.write_file("work/plain", b"text\n", 0o755)?;
    let finished = run_file(context, &format!("{}/program", path.display()), &["program"])?;
    expect::that(
        matches!(finished.ended, Ended::Exited(126 | 127)),
        "status 126 or 127 for a path below a plain file",
        finished.ended,
    )?;
    finished.expect_no_output()?;
    finished.expect_one_line()
}

fn cannot_run(context: &Context, file: &str, status: i32) -> Verdict {
    let finished = run_file(context, file, &["program"])?;
    finished.expect_status(status)?;
    finished.expect_no_output()?;
    finished.expect_one_line()
}

/// FILE is removed while the decision is pending: 127 all the same.
fn removed_while_deciding(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    fs::remove_file(&program.path)?;
    stream.run()?;
    let finished = wrapper.finish()?;
    finished.expect_status(127)?;
    finished.expect_one_line()?;
    finished.expect_no_output()?;
    expect::contains("standard error", &finished.error_text(), program.text())
}

/// A pipe, a loop of links, a name that is too long, a file that is being written: 126, one line that names FILE.
fn whatever_execve_refuses(context: &mut Context) -> Verdict {
    let fifo = context.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let circle = context.path("loop");
    std::os::unix::fs::symlink(&circle, &circle)?;
    let long = context.path(&"n".repeat(300));
    let written = context.write_file("written", b"\x7fELF", 0o755)?;
    let _writer = File::options().append(true).open(&written)?;
    for path in [fifo, circle, long, written] {
        let text = path.to_string_lossy();
        let finished = run_file(context, &text, &["program"])?;
        finished.expect_status(126)?;
        finished.expect_one_line()?;
        finished.expect_no_output()?;
        expect::contains("standard error", &finished.error_text(), &text)?;
    }
    // Here the interpreter is missing: either status is right.
    let script = context.write_file("script", b"#!/nonexistent/interpreter\necho ran\n", 0o755)?;
    let finished = run_file(context, &script.to_string_lossy(), &["script"])?;
    let status = finished.ended.shell_status();
    expect::that(
        matches!(status, 126 | 127),
        "126 or 127 for a missing interpreter",
        finished.ended,
    )?;
    finished.expect_one_line()?;
    finished.expect_no_output()
}

/// With standard error closed, the status is the same, and nothing is written elsewhere.
fn standard_error_closed(context: &mut Context) -> Verdict {
    for (file, status) in [("/nonexistent/program", 127), ("/", 126)] {
        let call = WrapperCall::new(context, file, ["program"])?.launched(|launch| launch.closed(2));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        let finished = wrapper.finish()?;
        finished.expect_status(status)?;
        finished.expect_no_output()?;
    }
    Ok(())
}
