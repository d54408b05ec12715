//! shell.argv: the argument vector, byte for byte.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::recording_wrapper::RecordedShell;
use crate::spec::requirements::Role;
use crate::stage::shell::command;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.argv/odd-arguments", odd_arguments),
    case("shell.argv/bytes", bytes),
    case("shell.argv/ten-thousand", ten_thousand),
    case("shell.argv/every-count", every_count).within_seconds(120),
    case("shell.argv/exec-a-and-l", exec_a_and_l),
    case("shell.argv/long-argument", long_argument),
]);

/// Empty strings, blanks, newlines, globs, dashes and quotes arrive as they are.
fn odd_arguments(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let script = "tool '' ' ' '\n' 'two\nlines' '\t' '*' '?' '[a' '-n' '--' '-' '\"' '\\' '$x' '`' \"'\" '~' '!' '' ''";
    shell.run(script)?.expect_output("")?;
    expect::equal(
        "ARGV",
        vec![
            "tool",
            "",
            " ",
            "\n",
            "two\nlines",
            "\t",
            "*",
            "?",
            "[a",
            "-n",
            "--",
            "-",
            "\"",
            "\\",
            "$x",
            "`",
            "'",
            "~",
            "!",
            "",
            "",
        ],
        shell.only_call("tool")?.argument_text(),
    )
}

/// All bytes but NUL arrive, in an argument and in argv[0], even where they are not UTF-8.
fn bytes(context: &mut Context) -> Verdict {
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'\'').collect();
    let name = OsStr::from_bytes(b"tool-\xff\x80");
    let program = crate::peer::program::Program::at(context, &context.path("bin").join(name), [])?;
    let shell = RecordedShell::new(context)?;
    let mut script = name.as_bytes().to_vec();
    for argument in [&all[..], b"\xff", b"a\x80b", "\u{e9}".as_bytes()] {
        script.extend_from_slice(b" '");
        script.extend_from_slice(argument);
        script.push(b'\'');
    }
    let mut arguments: Vec<&OsStr> = shell.dialect.plain_options().iter().map(OsStr::new).collect();
    arguments.extend([OsStr::new("-c"), OsStr::from_bytes(&script)]);
    // In the C locale no shell takes bytes for characters, and so none is entitled to refuse them.
    let launch = shell.launch(arguments)?.variable("LC_ALL", "C");
    shell.start(launch)?.finish()?.expect_output("")?;
    let calls = shell.some_calls()?;
    let expected: Vec<Vec<u8>> = [name.as_bytes(), &all, b"\xff", b"a\x80b", "\u{e9}".as_bytes()]
        .map(<[u8]>::to_vec)
        .to_vec();
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (call.report.arguments[1].clone(), call.arguments()))
        .collect();
    let file = program.path.as_os_str().as_bytes().to_vec();
    expect::equal("FILE and ARGV of all calls", vec![(file, expected)], seen)
}

/// 10,000 arguments arrive, in their order.
fn ten_thousand(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    shell.be_patient(12);
    let script = "set --; n=0; while [ $n -lt 100 ]; do set -- \"$@\" $n; n=$((n+1)); done\n\
        ten() { set -- \"$@\" \"$@\" \"$@\" \"$@\" \"$@\" \"$@\" \"$@\" \"$@\" \"$@\" \"$@\"; tool_or_ten \"$@\"; }\n\
        tool_or_ten() { if [ $# -lt 10000 ]; then ten \"$@\"; else tool \"$@\"; fi; }\n\
        ten \"$@\"";
    shell.run(script)?.expect_output("")?;
    let expected: Vec<String> = std::iter::once("tool".to_owned())
        .chain((0..10_000).map(|number| (number % 100).to_string()))
        .collect();
    let seen = shell.only_call("tool")?.argument_text();
    expect::equal("number of arguments", expected.len(), seen.len())?;
    let first = expected.iter().zip(&seen).position(|(wanted, got)| wanted != got);
    expect::equal("the first argument that is another", None, first)
}

/// Each number of arguments from 0 to 64 arrives, plain and by `exec`.
fn every_count(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    shell.be_patient(12);
    let script = "set --; n=0\nwhile [ $n -le 64 ]; do tool \"$@\"; ( exec tool \"$@\" ); set -- \"$@\" a$n; n=$((n+1)); done";
    shell.run(script)?.expect_output("")?;
    let expected: Vec<Vec<String>> = (0..=64)
        .flat_map(|count| {
            let vector: Vec<String> = std::iter::once("tool".to_owned())
                .chain((0..count).map(|number| format!("a{number}")))
                .collect();
            [vector.clone(), vector]
        })
        .collect();
    let calls = shell.some_calls()?;
    let seen: Vec<Vec<String>> = calls.iter().map(|call| call.argument_text()).collect();
    expect::equal("number of calls", expected.len(), seen.len())?;
    for (wanted, got) in expected.iter().zip(seen) {
        expect::equal("ARGV", wanted, &got)?;
    }
    Ok(())
}

/// argv[0] is what `exec -a`, `exec -l` and zsh's ARGV0 say.
fn exec_a_and_l(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    shell
        .dialect
        .needs_extensions("another argv[0] than the command's name")?;
    let mut script = "( exec -a 'another name' tool x )\n( exec -a '' tool )\n( exec -l tool y )\n\
                      ( exec -a -x tool )\n"
        .to_owned();
    let mut expected = vec![
        vec!["another name", "x"],
        vec![""],
        vec!["-tool", "y"],
        vec!["-x"],
    ];
    if shell.dialect == Dialect::Zsh {
        script.push_str("ARGV0=n tool w\n");
        expected.push(vec!["n", "w"]);
    } else {
        script.push_str("( exec -l -a z tool )\n( exec -la '' tool w )\n");
        expected.extend([vec!["-z"], vec!["-", "w"]]);
    }
    shell.run(&script)?.expect_output("")?;
    let calls = shell.some_calls()?;
    let seen: Vec<Vec<String>> = calls.iter().map(|call| call.argument_text()).collect();
    expect::equal("ARGV of each", expected, seen)
}

/// An argument of 100,000 bytes and a name of 200 arrive whole.
fn long_argument(context: &mut Context) -> Verdict {
    let name = "n".repeat(200);
    command(context, &name)?;
    let shell = RecordedShell::new(context)?;
    let argument = "abcdefghij".repeat(10_000);
    shell.run(&format!("{name} {argument} end"))?.expect_output("")?;
    let seen = shell.only_call(&name)?.argument_text();
    expect::that(
        seen == [name.as_str(), &argument, "end"],
        "an argument of 100,000 bytes and the next one arrive",
        format_args!(
            "lengths of the arguments: {:?}",
            seen.iter().map(String::len).collect::<Vec<_>>()
        ),
    )
}
