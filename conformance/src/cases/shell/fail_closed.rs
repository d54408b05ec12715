//! shell.fail-closed: a wrapper that can't be executed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::finished::Finished;
use crate::peer::program::Program;
use crate::peer::recording_wrapper::RecordedShell;
use crate::spec::requirements::Role;
use crate::stage::shell::{command, obedient};
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.fail-closed/missing", missing),
    case("shell.fail-closed/not-executable", not_executable),
    case("shell.fail-closed/wrong-format", wrong_format),
    case("shell.fail-closed/relative", relative),
    case("shell.fail-closed/goes-on", goes_on),
    case("shell.fail-closed/removed-midway", removed_midway),
]);

/// What must not run: a program, a script, a bare script. The scripts leave a mark.
struct Victims {
    program: Program,
    marker: PathBuf,
}

const NAMES: [&str; 3] = ["program", "script", "bare"];

impl Victims {
    fn new(context: &Context) -> Result<Victims, CaseError> {
        let marker = context.path("marker");
        let mark = format!("echo \"$0\" >>{}\n", marker.display());
        context.write_file("bin/script", format!("#!/bin/sh\n{mark}").as_bytes(), 0o755)?;
        context.write_file("bin/bare", mark.as_bytes(), 0o755)?;
        Ok(Victims {
            program: command(context, "program")?,
            marker,
        })
    }

    fn expect_none_ran(&self) -> Verdict {
        self.program.expect_not_started()?;
        match fs::read_to_string(&self.marker) {
            Ok(names) => Err(violation("no script runs", format_args!("these ran: {names:?}"))),
            Err(_) => Ok(()),
        }
    }
}

/// Runs each kind of command in each context with EXEC_WRAPPER naming `wrapper`: nothing runs, each status is
/// 126 or 127, each message names the wrapper, and the shell carries on.
fn nothing_runs(context: &Context, victims: &Victims, wrapper: &str) -> Verdict {
    context.transcript.note(format_args!("EXEC_WRAPPER={wrapper:?}"));
    let mut shell = RecordedShell::new(context)?;
    shell.set_variable("EXEC_WRAPPER", Some(wrapper.as_ref()));
    for name in NAMES {
        let path = context.path("bin").join(name);
        let path = path.display();
        for script in [
            format!("{name}; echo $?"),
            format!("{name} with arguments; echo $?"),
            format!("{path}; echo $?"),
            format!("( {name} ); echo $?"),
            format!("( exec {name} ); echo $?"),
            format!("( X=1 exec {path} a b ); echo $?"),
            format!(": | {name}; echo $?"),
            format!("x=$({name}); echo $?"),
            format!("{name} & wait $!; echo $?"),
            format!("f() {{ {name}; }}; f; echo $?"),
            format!("eval {name}; echo $?"),
            format!("X=1 command {name}; echo $?"),
            format!("{name} <<E\ntext\nE\necho $?"),
        ] {
            expect_refused(&script, &shell.run(&script)?, wrapper)?;
        }
        let script = format!("exec {name}");
        let result = shell.run(&script)?;
        let ended = result.ended;
        expect::that(
            matches!(ended, Ended::Exited(126 | 127)),
            format_args!("{script:?} ends the shell with 126 or 127"),
            ended,
        )?;
        expect::contains(
            &format!("standard error of {script:?}"),
            &result.error_text(),
            wrapper,
        )?;
    }
    victims.expect_none_ran()?;
    shell.expect_no_call()
}

fn expect_refused(script: &str, result: &Finished, wrapper: &str) -> Verdict {
    let output = result.output_text();
    expect::that(
        output == "126\n" || output == "127\n",
        format_args!("status 126 or 127 after {script:?}"),
        format_args!(
            "standard output {output:?}, standard error {:?}, {}",
            result.error_text(),
            result.ended
        ),
    )?;
    expect::equal(&format!("end of {script:?}"), Ended::Exited(0), result.ended)?;
    expect::contains(
        &format!("standard error of {script:?}, which names the wrapper"),
        &result.error_text(),
        wrapper,
    )
}

/// A wrapper that doesn't exist: beside nothing, in no directory, below a file.
fn missing(context: &mut Context) -> Verdict {
    let victims = Victims::new(context)?;
    context.write_file("file", b"", 0o755)?;
    for name in ["no-such-wrapper", "file/below"] {
        nothing_runs(context, &victims, &text(&context.path(name)))?;
    }
    nothing_runs(context, &victims, "/nonexistent/wrapper")
}

/// A directory, a file without permission, a link to nowhere.
fn not_executable(context: &mut Context) -> Verdict {
    let victims = Victims::new(context)?;
    let folder = context.path("folder");
    fs::create_dir(&folder)?;
    nothing_runs(context, &victims, &text(&folder))?;
    let plain = context.write_file("plain", b"#!/bin/sh\necho wrapper\n", 0o644)?;
    nothing_runs(context, &victims, &text(&plain))?;
    let dangling = context.path("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling)?;
    nothing_runs(context, &victims, &text(&dangling))
}

/// A file that the kernel can't execute: garbage, a text without `#!`, a script without its interpreter. The
/// wrapper's own text isn't run by the shell either.
fn wrong_format(context: &mut Context) -> Verdict {
    let victims = Victims::new(context)?;
    let mark = format!("echo wrapper >>{}\n", victims.marker.display());
    for (name, bytes) in [
        ("garbage", b"\x7fELF\x02\x01\x01 no program".to_vec()),
        ("bare-text", mark.clone().into_bytes()),
        ("empty", Vec::new()),
        ("no-interpreter", format!("#!/nonexistent\n{mark}").into_bytes()),
    ] {
        let path = context.write_file(name, &bytes, 0o755)?;
        nothing_runs(context, &victims, &text(&path))?;
    }
    Ok(())
}

/// A relative path that names nothing from where the command runs.
fn relative(context: &mut Context) -> Verdict {
    let victims = Victims::new(context)?;
    nothing_runs(context, &victims, "no-such-wrapper")?;
    nothing_runs(context, &victims, "./no/such/wrapper")
}

/// The shell carries on as after any failed command, with many arguments too, and does not crash.
fn goes_on(context: &mut Context) -> Verdict {
    let victims = Victims::new(context)?;
    let wrapper = text(&context.path("no-such-wrapper"));
    let mut shell = RecordedShell::new(context)?;
    shell.set_variable("EXEC_WRAPPER", Some(wrapper.as_ref()));
    let script = "program; echo next; program || echo no; if program; then echo never; fi; ! program && echo not\n\
        set --; n=0; while [ $n -lt 200 ]; do set -- \"$@\" argument; n=$((n+1)); program \"$@\" || echo $n; done\n\
        script; bare; echo \"x$(program)x\"; ( set -e; program; echo never ); echo end";
    let result = shell.run(script)?;
    let mut output = "next\nno\nnot\n".to_owned();
    output.extend((1..=200).map(|number| format!("{number}\n")));
    output.push_str("xx\nend\n");
    expect::equal("standard output", output.as_str(), result.output_text().as_str())?;
    expect::equal("the shell's end", Ended::Exited(0), result.ended)?;
    let lines = result.error_text();
    let unnamed: Vec<&str> = lines.lines().filter(|line| !line.contains(&wrapper)).collect();
    expect::equal(
        "lines of standard error that do not name the wrapper",
        Vec::<&str>::new(),
        unnamed,
    )?;
    expect::equal("lines of standard error", 208, lines.lines().count())?;
    victims.expect_none_ran()
}

/// A wrapper that is removed while the shell runs: what came before was wrapped, what comes after fails closed,
/// also what the shell has hashed.
fn removed_midway(context: &mut Context) -> Verdict {
    let victims = Victims::new(context)?;
    obedient(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let wrapper = shell.wrapper.text();
    let script = format!(
        "tool out:before; rm {wrapper}; tool out:after; echo $?; program; echo $?; bare; echo $?; script; echo $?"
    );
    let result = shell.run(&script)?;
    shell.expect_calls(&["tool", "rm"])?;
    victims.expect_none_ran()?;
    let output = result.output_text();
    let statuses: Vec<&str> = output.lines().collect();
    expect::that(
        statuses.len() == 5
            && statuses[0] == "before"
            && statuses[1..].iter().all(|status| ["126", "127"].contains(status)),
        "`before`, then four times 126 or 127",
        format_args!(
            "standard output {output:?}, standard error {:?}",
            result.error_text()
        ),
    )?;
    expect::contains("standard error", &result.error_text(), wrapper)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
