//! shell.memory: no invalid memory access for any number of arguments. Any build can fail these cases by a
//! crash or by wrong arguments; a sanitizer build fails by its report.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::finished::Finished;
use crate::peer::program::Program;
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::record::End;
use crate::spec::requirements::Role;
use crate::stage::shell::command;
use crate::system::process::Ended;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.memory/working-wrapper", working_wrapper).within_seconds(120),
    case("shell.memory/broken-wrapper", broken_wrapper).within_seconds(120),
    case("shell.memory/bare-scripts", bare_scripts).within_seconds(120),
    case("shell.memory/long-names", long_names),
]);

/// Numbers of arguments are tried up to this one.
const MOST: usize = 300;

/// A script that runs `command` with 0 to [`MOST`] arguments, plain and by `exec`, and prints a line at the end.
fn sweep(shell: &RecordedShell, command: &str) -> String {
    let exec = if shell.dialect.needs_extensions("exec -a").is_ok() {
        "exec -a name"
    } else {
        "exec"
    };
    format!(
        "set --; n=0; while [ $n -le {MOST} ]; do {command} \"$@\"; ( {exec} {command} \"$@\" ); set -- \"$@\" a$n; n=$((n+1)); done\n\
         echo end"
    )
}

/// The sanitizers' words on standard error, wherever they come from.
fn expect_no_report(result: &Finished) -> Verdict {
    let text = result.error_text();
    for word in [
        "Sanitizer",
        "runtime error:",
        "stack smashing",
        "corrupted",
        "free():",
        "malloc()",
    ] {
        if let Some(line) = text.lines().find(|line| line.contains(word)) {
            return Err(violation("no report of an invalid memory access", line));
        }
    }
    expect::equal("end of the shell", Ended::Exited(0), result.ended)?;
    expect::contains("standard output", &result.output_text(), "end\n")
}

fn prepare(shell: &mut RecordedShell) {
    // Memory not freed at exit is not an invalid access.
    shell.set_variable("ASAN_OPTIONS", Some("detect_leaks=0".as_ref()));
    shell.be_patient(20);
}

/// A wrapper that works: each vector arrives as it is.
fn working_wrapper(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let mut shell = RecordedShell::with_rules(context, [("tool", End::Exit(0))])?;
    prepare(&mut shell);
    let result = shell.run(&sweep(&shell, "tool"))?;
    expect_no_report(&result)?;
    let calls = shell.wrapper.starts()?;
    if calls.is_empty() {
        shell.some_calls()?;
    }
    expect::equal("calls", 2 * (MOST + 1), calls.len())?;
    for (number, report) in calls.iter().enumerate() {
        let count = number / 2;
        let first = if number % 2 == 1 && shell.dialect.needs_extensions("exec -a").is_ok() {
            "name"
        } else {
            "tool"
        };
        let expected: Vec<String> = std::iter::once(first.to_owned())
            .chain((0..count).map(|index| format!("a{index}")))
            .collect();
        let seen = report.argument_text();
        expect::equal("ARGV", expected.as_slice(), seen.get(2..).unwrap_or_default())?;
    }
    Ok(())
}

/// A wrapper that is missing, and one that isn't executable.
fn broken_wrapper(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let plain = context.write_file("plain", b"#!/bin/sh\n", 0o644)?;
    let bare = context.write_file("bare-wrapper", b"echo wrapper\n", 0o755)?;
    let missing = context.path("missing");
    let mut shell = RecordedShell::new(context)?;
    prepare(&mut shell);
    for wrapper in [missing, plain, bare] {
        shell.set_variable("EXEC_WRAPPER", Some(wrapper.as_os_str()));
        let result = shell.run(&sweep(&shell, "tool"))?;
        expect_no_report(&result)?;
        let lines = result.error_text().lines().count();
        expect::equal("lines on standard error", 2 * (MOST + 1), lines)?;
    }
    program.expect_not_started()
}

/// Scripts without `#!`, with a wrapper that is missing and with one that works.
fn bare_scripts(context: &mut Context) -> Verdict {
    let marker = context.path("marker");
    let text = format!("echo run >>{}\n", marker.display());
    context.write_file("bin/bare", text.as_bytes(), 0o755)?;
    let mut shell = RecordedShell::with_rules(context, [("bare", End::Exit(0))])?;
    prepare(&mut shell);
    let script = sweep(&shell, "bare").replace(&format!("-le {MOST}"), "-le 100");
    expect_no_report(&shell.run(&script)?)?;
    expect::equal("calls", 202, shell.wrapper.starts()?.len())?;
    shell.set_variable("EXEC_WRAPPER", Some(context.path("missing").as_os_str()));
    let result = shell.run(&sweep(&shell, "bare"))?;
    expect_no_report(&result)?;
    expect::that(!marker.exists(), "no bare script runs", "one has run")
}

/// A FILE of nearly 4,096 bytes, an argument of 128 KiB, many empty ones.
fn long_names(context: &mut Context) -> Verdict {
    let mut folder = context.path("deep");
    let mut relative = String::new();
    while folder.as_os_str().len() + relative.len() < 3_700 {
        relative.push_str(&"d".repeat(200));
        relative.push('/');
    }
    folder.push(&relative);
    std::fs::create_dir_all(&folder)?;
    let program = Program::at(context, &folder.join("tool"), [])?;
    let mut shell = RecordedShell::new(context)?;
    prepare(&mut shell);
    let path = program.text();
    let script = format!(
        "{path}\n{path} a '' b\n( exec {path} '' '' )\ncd {}; ./tool\necho end",
        folder.display()
    );
    expect_no_report(&shell.run(&script)?)?;
    let vectors: Vec<Vec<String>> = shell
        .some_calls()?
        .iter()
        .map(|call| call.argument_text())
        .collect();
    expect::equal(
        "ARGV of the calls",
        vec![
            vec![path],
            vec![path, "a", "", "b"],
            vec![path, "", ""],
            vec!["./tool"],
        ],
        vectors,
    )?;
    command(context, "short")?;
    let assignment = "x=y; while [ ${#x} -lt 131071 ]; do x=$x$x; done";
    let cut = match shell.dialect {
        Dialect::Other => return Ok(()),
        Dialect::Bash | Dialect::Zsh => "short \"${x:0:131071}\" '' '' end",
    };
    expect_no_report(&shell.run(&format!("{assignment}; {cut}; echo end"))?)?;
    let lengths: Vec<usize> = shell
        .only_call("short")?
        .arguments()
        .iter()
        .map(Vec::len)
        .collect();
    expect::equal("lengths of the arguments", vec![5, 131_071, 0, 0, 3], lengths)
}
