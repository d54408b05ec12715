//! shell.script and shell.script.bare: scripts with an interpreter line and without one.

use std::fs;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::record::End;
use crate::spec::requirements::Role;
use crate::stage::shell::{as_stock, command, obedient};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.script/with-interpreter", with_interpreter),
    case("shell.script/by-path-and-arguments", by_path_and_arguments),
    case("shell.script/own-interpreter", own_interpreter),
    case("shell.script/in-every-context", in_every_context),
    case("shell.script.bare/wrapped-and-run", bare_wrapped_and_run),
    case("shell.script.bare/in-every-context", bare_in_every_context),
    case("shell.script.bare/not-run-by-the-shell", bare_not_run_by_the_shell),
]);

/// FILE is the script, ARGV is the script's; it runs.
fn with_interpreter(context: &mut Context) -> Verdict {
    let script = context.write_file(
        "bin/script",
        b"#!/bin/sh -e\necho \"$0 $1 $#\"\nfalse\necho never\n",
        0o755,
    )?;
    let path = script.display().to_string();
    let shell = RecordedShell::new(context)?;
    let result = shell.run(&format!("{path} 'an argument' ''; echo $?\nscript; :"))?;
    let seen: Vec<_> = shell
        .some_calls()?
        .iter()
        .map(|call| (call.file(), call.argument_text()))
        .collect();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    expect::equal(
        "FILE and ARGV of the calls",
        vec![
            (path.clone(), argv(&[&path, "an argument", ""])),
            (path.clone(), argv(&["script"])),
        ],
        seen,
    )?;
    result.expect_output(&format!("{path} an argument 2\n1\n{path}  0\n"))
}

/// By PATH, by relative path, by link, with arguments: what the script sees is what it sees in the stock shell.
fn by_path_and_arguments(context: &mut Context) -> Verdict {
    let text = b"#!/bin/sh\necho \"$0\"; for a in \"$@\"; do echo \"<$a>\"; done; exit $#\n";
    context.write_file("bin/script", text, 0o755)?;
    context.write_file("work/d/script", text, 0o755)?;
    context.write_file("bin/by-env", b"#!/usr/bin/env sh\necho \"$0 $*\"\n", 0o755)?;
    std::os::unix::fs::symlink("script", context.work_directory().join("d/link"))?;
    let extensions = match Dialect::of(context) {
        Dialect::Other => "",
        _ => "( exec -a other d/script a ); echo $?\n",
    };
    let script = format!(
        "script a 'b c' '' '*'; echo $?\nd/script x; echo $?\n./d/link; echo $?\nby-env 1 2\n{extensions}\
         cd d; ../d/script; PATH=.:$PATH; script y\n( exec script z ); echo $?\nX=1 script; script <<E\nE\n"
    );
    as_stock(context, &script).map(drop)
}

/// An interpreter of the suite sees the argument vector that the kernel makes for the stock shell's execve.
fn own_interpreter(context: &mut Context) -> Verdict {
    let interpreter = command(context, "interpreter")?;
    let text = format!("#! {} an option\n", interpreter.text());
    context.write_file("bin/script", text.as_bytes(), 0o755)?;
    let line = "script a ''; cd bin; ./script; cd ..; exec bin/script";
    let line = format!("cd {}; {line}", context.directory().display());
    let shell = as_stock(context, &line)?;
    let starts = interpreter.starts()?;
    let (stock, own) = starts.split_at(starts.len() / 2);
    let vectors = |reports: &[crate::probe::report::Report]| -> Vec<Vec<String>> {
        reports.iter().map(|report| report.argument_text()).collect()
    };
    expect::equal("the interpreter's argument vectors", vectors(stock), vectors(own))?;
    // The script's name is the argument after the option, as the kernel has put it there.
    let names: Vec<String> = vectors(own)
        .into_iter()
        .filter_map(|vector| vector.into_iter().nth(2))
        .collect();
    let files: Vec<String> = shell.calls()?.iter().map(|call| call.file()).collect();
    expect::equal("FILE of the calls", names, files)
}

const CONTEXTS: &str = "script 1; ( script 2 ); script 3 | cat; : | script 4; x=$(script 5); echo \"$x\"; script 6 & wait\n\
    f() { script 7; }; f; script 8 && script 9; if script 10; then :; fi; eval 'script 11'; ( exec script 12 )\n\
    script 13 >out; cat out; for n in 14; do script $n; done; command script 15; exec script 16";

/// Scripts run in each context, with one call for each.
fn in_every_context(context: &mut Context) -> Verdict {
    context.write_file("bin/script", b"#!/bin/sh\necho script \"$1\"\n", 0o755)?;
    let shell = as_stock(context, CONTEXTS)?;
    let mut names = vec!["script"; 16];
    names.extend(["cat", "cat"]);
    shell.expect_calls_in_any_order(&names)
}

/// An executable text without `#!` goes to the wrapper once, and runs as a shell script: by its path, by PATH,
/// with arguments, empty, and with a first line that is a comment.
fn bare_wrapped_and_run(context: &mut Context) -> Verdict {
    context.write_file("bin/bare", b"echo \"bare $1 $#\"\nexit 5\n", 0o755)?;
    context.write_file("bin/empty", b"", 0o755)?;
    context.write_file("bin/comment", b"# a comment\necho comment\n", 0o755)?;
    context.write_file("work/here", b"echo \"$0\"; echo err >&2\n", 0o755)?;
    let script = "bare 'a b' ''; echo $?\nempty; echo $?\ncomment\n./here 2>&1\n:";
    let shell = as_stock(context, script)?;
    let files: Vec<_> = shell
        .calls()?
        .iter()
        .map(|call| (call.file_name(), call.argument_text()))
        .collect();
    let call = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        (words[0].rsplit('/').next().unwrap_or_default().to_owned(), words)
    };
    expect::equal(
        "FILE's name and ARGV of the calls",
        vec![
            call(&["bare", "a b", ""]),
            call(&["empty"]),
            call(&["comment"]),
            call(&["./here"]),
        ],
        files,
    )
}

/// The same in each context.
fn bare_in_every_context(context: &mut Context) -> Verdict {
    context.write_file("bin/script", b"echo bare \"$1\"\n", 0o755)?;
    let shell = as_stock(context, CONTEXTS)?;
    let mut names = vec!["script"; 16];
    names.extend(["cat", "cat"]);
    shell.expect_calls_in_any_order(&names)
}

/// When the wrapper doesn't execute it, the text has not been run at all: not by the shell, in no context.
fn bare_not_run_by_the_shell(context: &mut Context) -> Verdict {
    let marker = context.path("marker");
    let text = format!("echo run >>{}\n", marker.display());
    context.write_file("bin/bare", text.as_bytes(), 0o755)?;
    obedient(context, "tool")?;
    let shell = RecordedShell::with_rules(context, [("bare", End::Exit(126))])?;
    let script = "bare; echo $?; ( bare ); echo $?; bare | tool copy; x=$(bare); bare & wait $!; f() { bare; }; f\n\
                  ( exec bare ); command bare; eval bare; exec bare";
    let result = shell.run(script)?;
    let mut names = vec!["bare"; 10];
    names.push("tool");
    shell.expect_calls_in_any_order(&names)?;
    expect::that(
        !fs::exists(&marker)?,
        "the text of a bare script runs nowhere when the wrapper does not run it",
        "it has run",
    )?;
    result.expect_output("126\n126\n")?;
    result.expect_status(126)
}
