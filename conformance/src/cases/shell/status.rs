//! shell.status: the wrapper's status, or the signal that killed it, is the command's.

use std::fmt::Write as _;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::record::End;
use crate::spec::requirements::Role;
use crate::stage::shell::{commands, obedient};
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.status/every-status", every_status).within_seconds(120),
    case("shell.status/of-the-wrapper", of_the_wrapper),
    case("shell.status/killed", killed),
    case("shell.status/pipestatus-and-options", pipestatus_and_options),
    case("shell.status/end-of-the-shell", end_of_the_shell),
]);

/// Each status from 0 to 255 arrives in `$?`.
fn every_status(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    // 512 processes, which on a busy machine take their time.
    shell.be_patient(20);
    let result = shell.run("n=0; while [ $n -le 255 ]; do tool exit:$n; echo $?; n=$((n+1)); done")?;
    shell.some_calls()?;
    let mut expected = String::new();
    for status in 0..=255 {
        let _ = writeln!(expected, "{status}");
    }
    result.expect_output(&expected)
}

/// A wrapper that ends without executing the command gives the command's status.
fn of_the_wrapper(context: &mut Context) -> Verdict {
    let ends = [
        ("zero", End::Exit(0)),
        ("one", End::Exit(1)),
        ("two", End::Exit(2)),
        ("not-executable", End::Exit(126)),
        ("not-found", End::Exit(127)),
        ("all", End::Exit(255)),
        ("terminated", End::Signal(libc::SIGTERM)),
    ];
    let names: Vec<&str> = ends.iter().map(|(name, _)| *name).collect();
    commands(context, &names)?;
    let shell = RecordedShell::with_rules(context, ends)?;
    let lines: Vec<String> = names.iter().map(|name| format!("{name}; echo $?")).collect();
    let result = shell.run(&lines.join("\n"))?;
    shell.expect_calls(&names)?;
    expect::equal(
        "statuses",
        "0\n1\n2\n126\n127\n255\n143\n",
        result.output_text().as_str(),
    )
}

/// Death by a signal arrives as 128+N, with the stock shell's message.
fn killed(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    for signal in [
        libc::SIGTERM,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGINT,
        libc::SIGABRT,
    ] {
        let script =
            format!("tool die:{signal}; echo $?\ntool die:{signal} | :; ( tool die:{signal} ); echo $?\n:");
        let shell = RecordedShell::new(context)?;
        let stock = shell.run_stock(&script)?;
        let result = shell.run(&script)?;
        shell.some_calls()?;
        expect::equal(
            &format!("output of {script:?}"),
            format!("{0}\n{0}\n", 128 + signal),
            result.output_text(),
        )?;
        result.expect_as_stock(&script, &stock)?;
    }
    Ok(())
}

/// The statuses of a pipeline's elements, `pipefail`, `set -e`, `wait`, `&&`, `||`, `!` and conditions follow.
fn pipestatus_and_options(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let mut script = "tool exit:3 | tool exit:5; echo $?\ntool exit:5 | tool; echo $?\ntool exit:3 && echo never; tool exit:3 || echo or $?\n\
        if tool exit:1; then echo never; else echo else; fi; ! tool exit:1; echo $?; ! tool; echo $?\n\
        tool exit:9 & wait $!; echo $?; ( set -e; tool exit:6; echo never ); echo $?; ( tool exit:8 ); echo $?\n\
        x=$(tool exit:4); echo $?; { tool exit:2; }; echo $?; f() { tool exit:7; }; f; echo $?\n\
        while tool exit:1; do echo never; done; echo $?; until tool; do echo never; done; ( exec tool exit:33 ); echo $?\n"
        .to_owned();
    let mut expected = "5\n0\nor 3\nelse\n0\n1\n9\n6\n8\n4\n2\n7\n0\n33\n".to_owned();
    if shell.dialect != Dialect::Other {
        let statuses = shell.dialect.pipeline_statuses()?;
        let _ = write!(
            script,
            "tool exit:3 | tool | tool exit:5; echo {statuses}\nset -o pipefail; tool exit:3 | tool; echo $?\n\
             tool exit:3 | tool exit:4 | tool; echo $?; ( set -e; tool exit:3 | tool; echo never ); echo $?\n"
        );
        expected.push_str("3 0 5\n3\n4\n3\n");
    }
    let result = shell.run(&script)?;
    shell.some_calls()?;
    result.expect_output(&expected)
}

/// The last command's status is the shell's, also where the shell executes it without a fork.
fn end_of_the_shell(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    for (script, ended) in [
        ("tool exit:3", Ended::Exited(3)),
        ("tool; tool exit:4", Ended::Exited(4)),
        ("exec tool exit:5", Ended::Exited(5)),
        ("set -e; tool exit:6; echo never", Ended::Exited(6)),
        ("( tool exit:7 )", Ended::Exited(7)),
        ("tool exit:255", Ended::Exited(255)),
        ("tool exit:9; exit", Ended::Exited(9)),
        ("exec tool die:15", Ended::Killed(15)),
    ] {
        let shell = RecordedShell::new(context)?;
        let result = shell.run(script)?;
        shell.some_calls()?;
        result.expect_output("")?;
        expect::equal(&format!("end of the shell after {script:?}"), ended, result.ended)?;
    }
    Ok(())
}
