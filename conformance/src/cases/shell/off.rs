//! shell.off: without an EXEC_WRAPPER that counts, the shell is the stock shell.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::recording_wrapper::RecordedShell;
use crate::shown::shown;
use crate::spec::requirements::{Level, Role};
use crate::stage::shell::{command, obedient};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.off/unset-empty-blank", unset_empty_blank),
    case("shell.off/as-stock", as_stock),
    case("shell.off/stays-off", stays_off).at(Level::Hardened),
]);

/// Unset, empty, or beginning with a blank or a tab: the command runs, the wrapper doesn't.
fn unset_empty_blank(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    let path = shell.wrapper.text().to_owned();
    let values = [
        None,
        Some(String::new()),
        Some(" ".to_owned()),
        Some(format!(" {path}")),
        Some(format!("\t{path}")),
    ];
    let script = "tool; ( tool ); tool | tool; exec tool";
    for (number, value) in values.into_iter().enumerate() {
        shell.set_variable("EXEC_WRAPPER", value.as_ref().map(|value| value.as_ref()));
        context
            .transcript
            .note(format_args!("EXEC_WRAPPER: {}", shown(&value)));
        shell.run(script)?.expect_output("")?;
        shell.expect_no_call()?;
        let starts = program.starts()?;
        expect::equal("commands that ran", (number + 1) * 5, starts.len())?;
        let seen = starts.last().and_then(|report| report.variable("EXEC_WRAPPER"));
        expect::equal(
            "EXEC_WRAPPER that the command finds",
            value,
            seen.map(|seen| String::from_utf8_lossy(&seen).into_owned()),
        )?;
    }
    Ok(())
}

/// Nothing that a script can see differs from the stock shell: output, messages, status, environment.
fn as_stock(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    context.write_file("bin/script", b"#!/bin/sh\necho \"$0: $*\"\n", 0o755)?;
    context.write_file("bin/bare", b"echo bare: \"$*\"\nexit 4\n", 0o755)?;
    context.write_file("bin/unexecutable", b"", 0o644)?;
    let mut shell = RecordedShell::new(context)?;
    shell.set_variable("EXEC_WRAPPER", None);
    shell.set_variable("CODEX_ESCALATE_SOCKET", None);
    let script = include_str!("../../../../fixtures/scripts/ordinary.sh");
    let stock = shell.run_stock(script)?;
    shell.run(script)?.expect_as_stock("ordinary.sh", &stock)
}

/// The variable counts as it was at the start: assigned and exported by a script, it changes nothing in this
/// shell.
fn stays_off(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    let path = shell.wrapper.text().to_owned();
    shell.set_variable("EXEC_WRAPPER", None);
    let script = format!(
        "EXEC_WRAPPER={path}; export EXEC_WRAPPER; tool; ( tool ); EXEC_WRAPPER={path} tool; exec tool"
    );
    shell.run(&script)?.expect_output("")?;
    shell.expect_no_call()?;
    let starts = program.starts()?;
    expect::equal("commands that ran", 4, starts.len())?;
    for report in starts {
        expect::equal(
            "EXEC_WRAPPER that the command finds",
            Some(path.as_bytes().to_vec()),
            report.variable("EXEC_WRAPPER"),
        )?;
    }
    Ok(())
}
