//! wrapper.usage: there are no options; any FILE and ARGV are data.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.usage/no-arguments", no_arguments),
    case("wrapper.usage/dash-sh-as-argv0", dash_sh_as_argv0),
    case("wrapper.usage/help-as-argv0", help_as_argv0),
    case("wrapper.usage/version-as-argument", version_as_argument),
    case("wrapper.usage/double-dash-as-argument", double_dash_as_argument),
    case("wrapper.usage/dash-file", dash_file),
    case("wrapper.usage/help-as-file", help_as_file),
]);

/// Without arguments: a status that is not 0, and nothing is sent. Whether it prints a usage line is left open.
fn no_arguments(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::without_arguments(context)?.start()?;
    let finished = wrapper.finish()?;
    expect::that(
        matches!(finished.ended, Ended::Exited(status) if status != 0),
        "an exit status that is not 0",
        finished.ended,
    )?;
    finished.expect_no_output()?;
    wrapper.expect_no_handshake()
}

/// A login shell's argv[0] is data.
fn dash_sh_as_argv0(context: &mut Context) -> Verdict {
    arguments_are_data(context, &["-sh", "-l"])
}

/// `--help` as argv[0] is data.
fn help_as_argv0(context: &mut Context) -> Verdict {
    arguments_are_data(context, &["--help"])
}

/// `--version` and `-V` as arguments are data.
fn version_as_argument(context: &mut Context) -> Verdict {
    arguments_are_data(context, &["program", "--version", "-V", "-h"])
}

/// `--` as argument is data, wherever it stands.
fn double_dash_as_argument(context: &mut Context) -> Verdict {
    arguments_are_data(context, &["--", "--", "x", "--"])
}

fn arguments_are_data(context: &Context, arguments: &[&str]) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, arguments)?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("file", program.text(), request.file()?)?;
    expect::equal("argv", arguments, request.arguments()?.as_slice())?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let started = program.only_start()?.argument_text();
    expect::equal(
        "the command's arguments",
        arguments,
        started.iter().map(String::as_str).collect::<Vec<_>>().as_slice(),
    )
}

/// A FILE that begins with a dash is a file in the working directory.
fn dash_file(context: &mut Context) -> Verdict {
    file_is_data(context, "-x")
}

/// A FILE called `--help` is a file in the working directory.
fn help_as_file(context: &mut Context) -> Verdict {
    file_is_data(context, "--help")
}

fn file_is_data(context: &Context, name: &str) -> Verdict {
    let program = Program::at(context, &context.work_directory().join(name), [])?;
    let mut wrapper = WrapperCall::new(context, name, [name])?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("file", name, request.file()?)?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    program.only_start().map(drop)
}
