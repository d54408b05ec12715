//! wrapper.request: one per run, verbatim.

use std::os::unix::fs::symlink;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::{Level, Role};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.request/members", members),
    case("wrapper.request/relative-file", relative_file),
    case("wrapper.request/file-without-slash", file_without_slash),
    case("wrapper.request/unusual-arguments", unusual_arguments),
    case("wrapper.request/ten-thousand-arguments", ten_thousand_arguments),
    case("wrapper.request/environment-without-the-two", environment),
    case("wrapper.request/environment-without-the-alias", environment_without_the_alias).at(Level::Faithful),
    case("wrapper.request/environment-keeps-similar-names", similar_names),
    case("wrapper.request/environment-of-one-mebibyte", large_environment),
    case("wrapper.request/physical-working-directory", physical_directory),
    case("wrapper.request/directory-named-by-pwd", directory_named_by_pwd),
    case("wrapper.request/once", once),
    case("wrapper.request/other-socket-numbers", other_socket_numbers),
]);

/// The request has file, argv, workdir and env, as received.
fn members(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["zero", "one", "two"])?
        .variable("GREETING", "hello world")
        .start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("file", program.text(), request.file()?)?;
    expect::equal("argv", vec!["zero", "one", "two"], request.arguments()?)?;
    expect::equal(
        "workdir",
        context.work_directory().to_str(),
        Some(request.directory()?),
    )?;
    expect::equal(
        "GREETING in env",
        Some("hello world"),
        request.variable("GREETING")?,
    )?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// A relative FILE with a slash stays relative.
fn relative_file(context: &mut Context) -> Verdict {
    file_verbatim(context, "./sub/../program")
}

/// A FILE without a slash is not searched in PATH.
fn file_without_slash(context: &mut Context) -> Verdict {
    file_verbatim(context, "program")
}

fn file_verbatim(context: &Context, file: &str) -> Verdict {
    let mut wrapper = WrapperCall::new(context, file, ["x"])?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("file", file, request.file()?)?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// Empty strings, blanks, newlines, quotes, globs, escapes and characters beyond ASCII arrive as they are.
fn unusual_arguments(context: &mut Context) -> Verdict {
    let arguments = [
        "",
        " ",
        "a b",
        "\n",
        "\t\r",
        "\"'`",
        "*?[a]",
        "$HOME \\n",
        "ü–😀",
        "\u{1}\u{1f}\u{7f}",
        "\u{ffff}",
        "",
    ];
    let mut wrapper = WrapperCall::new(context, "/bin/program", arguments)?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("argv", arguments.as_slice(), request.arguments()?.as_slice())?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// 10,000 arguments arrive, and reach the command.
fn ten_thousand_arguments(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let arguments: Vec<String> = (0..10_000).map(|index| format!("argument-{index}")).collect();
    let mut wrapper = WrapperCall::new(context, &program.path, &arguments)?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::that(
        request.arguments()? == arguments,
        "argv verbatim, 10,000 strings",
        "something else",
    )?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    expect::that(
        program.only_start()?.argument_text() == arguments,
        "the command has all arguments",
        "it has others",
    )
}

/// env is the environment without EXEC_WRAPPER and CODEX_ESCALATE_SOCKET, which every shell sets.
fn environment(context: &mut Context) -> Verdict {
    let call = WrapperCall::new(context, "/bin/program", ["program"])?
        .variable("EMPTY", "")
        .variable("EQUALS", "a=b=c")
        .variable("QUOTES", "\"\\\n");
    let mut wrapper = call.start()?;
    let (mut stream, request) = wrapper.request()?;
    let mut names: Vec<&str> = request.environment()?.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    expect::equal(
        "names in env",
        vec!["EMPTY", "EQUALS", "PATH", "QUOTES", "TMPDIR"],
        names,
    )?;
    expect::equal("EMPTY", Some(""), request.variable("EMPTY")?)?;
    expect::equal("EQUALS", Some("a=b=c"), request.variable("EQUALS")?)?;
    expect::equal("QUOTES", Some("\"\\\n"), request.variable("QUOTES")?)?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// The older name of EXEC_WRAPPER, which some shells are given too, is left out as well.
fn environment_without_the_alias(context: &mut Context) -> Verdict {
    let call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let mut wrapper = call.variable("BASH_EXEC_WRAPPER", context.wrapper()?).start()?;
    let (mut stream, request) = wrapper.request()?;
    let mut names: Vec<&str> = request.environment()?.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    expect::equal("names in env", vec!["PATH", "TMPDIR"], names)?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// Only the three names are left out, not those that begin or end like them.
fn similar_names(context: &mut Context) -> Verdict {
    let similar = [
        "EXEC_WRAPPER_",
        "MY_EXEC_WRAPPER",
        "EXEC_WRAPPE",
        "CODEX_ESCALATE_SOCKET2",
        "exec_wrapper",
    ];
    let mut call = WrapperCall::new(context, "/bin/program", ["program"])?;
    for name in similar {
        call = call.variable(name, "kept");
    }
    let mut wrapper = call.start()?;
    let (mut stream, request) = wrapper.request()?;
    for name in similar {
        expect::equal(name, Some("kept"), request.variable(name)?)?;
    }
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// An environment of 1 MiB arrives whole.
fn large_environment(context: &mut Context) -> Verdict {
    let mut call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let value = |index: usize| format!("{index:04}").repeat(4096);
    for index in 0..64 {
        call = call.variable(format!("LARGE_{index}"), value(index));
    }
    let mut wrapper = call.start()?;
    let (mut stream, request) = wrapper.request()?;
    for index in 0..64 {
        let name = format!("LARGE_{index}");
        let whole = request.variable(&name)? == Some(value(index).as_str());
        expect::that(whole, format_args!("{name}, 16 KiB, verbatim"), "something else")?;
    }
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// workdir is the directory's own name, whatever PWD says and whichever symbolic link leads there.
fn physical_directory(context: &mut Context) -> Verdict {
    let link = context.path("link");
    symlink(context.work_directory(), &link)?;
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .directory(&link)
        .variable("PWD", "/elsewhere")
        .start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal(
        "workdir",
        context.work_directory().to_str(),
        Some(request.directory()?),
    )?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// Nor does a PWD that rightly names the directory by a symbolic link: pwd(1) would print it, getcwd(3) doesn't.
fn directory_named_by_pwd(context: &mut Context) -> Verdict {
    let link = context.path("link");
    symlink(context.work_directory(), &link)?;
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .directory(&link)
        .variable("PWD", &link)
        .start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal(
        "workdir",
        context.work_directory().to_str(),
        Some(request.directory()?),
    )?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// One handshake and one request per run, whatever the decision.
fn once(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for decision in 0..3 {
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        match decision {
            0 => stream.run()?,
            1 => stream.deny(None)?,
            _ => {
                stream.escalate()?;
                stream.result(0)?;
            }
        }
        wrapper.finish()?;
        wrapper.expect_no_handshake()?;
    }
    Ok(())
}

/// The escalation socket may have any number.
fn other_socket_numbers(context: &mut Context) -> Verdict {
    for number in [3, 4, 9, 10, 63, 255] {
        let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
            .socket_number(number)
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.deny(Some("seen"))?;
        wrapper.finish()?.expect_status(1)?;
    }
    Ok(())
}
