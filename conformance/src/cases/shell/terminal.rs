//! Job control on a terminal: shell.signals and shell.transparent of an interactive shell.

use super::support::obedient;
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::recording_wrapper::{RecordedShell, without_process_ids};
use crate::peer::terminal::{PROMPT, Terminal, VARIABLES};
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.signals/foreground", foreground),
    case("shell.transparent/job-control", job_control),
]);

/// Leads a dialogue with an interactive shell and gives the screen and what `tool` (under the stock shell) or
/// the wrapper was started with.
fn led(
    context: &Context,
    stock: bool,
    dialogue: impl Fn(&mut Terminal) -> Verdict,
) -> Result<(String, Vec<Report>), CaseError> {
    let program: Program = obedient(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    for (name, value) in VARIABLES {
        shell.set_variable(name, Some(value.as_ref()));
    }
    let mut terminal = Terminal::open(context)?;
    let options = shell.dialect.interactive_options();
    let mut launch = if stock {
        shell.launch_stock(options)?
    } else {
        shell.launch(options)?
    };
    for number in 0..=2 {
        launch = launch.descriptor(number, terminal.other_side()?);
    }
    let mut running = shell.start(launch.on_terminal(0))?;
    terminal.wait_for(PROMPT)?;
    dialogue(&mut terminal)?;
    let screen = terminal.screen();
    terminal.type_text("exit 0\n")?;
    running.finish()?.expect_status(0)?;
    let reports = if stock {
        program.starts()?
    } else {
        shell.some_calls()?.into_iter().map(|call| call.report).collect()
    };
    // The next dialogue has a `tool` of its own.
    std::fs::remove_file(&program.path)?;
    Ok((screen, reports))
}

/// The wrapper's process group is in the foreground before the wrapper runs, or not at all for a background
/// job; groups and dispositions are the stock shell's.
fn foreground(context: &mut Context) -> Verdict {
    let dialogue = |terminal: &mut Terminal| {
        for line in [
            "tool",
            "tool & wait",
            "tool | cat",
            "( tool )",
            "( tool & wait )",
            "{ tool; tool; }",
            "x=$(tool)",
            "f() { tool; }; f",
            "{ tool; } & wait",
            "tool </dev/null >/dev/null 2>&1",
            "for i in 1 2; do tool; done",
        ] {
            terminal.command(line)?;
        }
        Ok(())
    };
    let (_, stock) = led(context, true, dialogue)?;
    let (_, mut seen) = led(context, false, dialogue)?;
    seen.retain(|report| report.argument_text()[1].ends_with("/tool"));
    let relations = |reports: &[Report]| -> Vec<(bool, bool, bool, u64, u64)> {
        reports
            .iter()
            .map(|report| {
                (
                    report.group == report.pid,
                    report.foreground_group == Some(report.group),
                    report.group == report.session,
                    report.ignored,
                    report.blocked,
                )
            })
            .collect()
    };
    expect::equal(
        "of each call: (leads its group, its group in the foreground, in the shell's group, ignored, blocked)",
        relations(&stock),
        relations(&seen),
    )?;
    // The measure itself: a plain command is in the foreground, one with `&` is not.
    expect::equal(
        "whether the first two calls are in the foreground",
        vec![true, false],
        relations(&seen)[..2]
            .iter()
            .map(|call| call.1)
            .collect::<Vec<_>>(),
    )
}

/// Stopped, continued and killed jobs look as with the stock shell.
fn job_control(context: &mut Context) -> Verdict {
    let dialogue = |terminal: &mut Terminal| {
        for line in ["tool out:text", "tool exit:3 & wait $!", "echo $?", "jobs"] {
            terminal.command(line)?;
        }
        for line in ["tool out:running pause", "( tool out:running pause )"] {
            terminal.type_text(&format!("{line}\n"))?;
            terminal.wait_for("\nrunning\r\n")?;
            terminal.type_text("\u{1a}")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("jobs")?;
            terminal.type_text("fg\n")?;
            terminal.wait_for("\ncontinued\r\n")?;
            terminal.type_text("\u{3}")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("echo $?; jobs")?;
        }
        terminal.command("tool out:running stop out:resumed exit:7")?;
        terminal.command("jobs; echo $?")?;
        terminal.type_text("fg\n")?;
        terminal.wait_for("\nresumed\r\n")?;
        terminal.wait_for(PROMPT)?;
        terminal.command("echo $?")?;
        terminal.command("tool die:15; tool die:9; echo $?")?;
        terminal.command("set +m; tool exit:2 & wait $!; echo $?; set -m")?;
        Ok(())
    };
    let (stock, _) = led(context, true, dialogue)?;
    let (seen, _) = led(context, false, dialogue)?;
    expect::equal(
        "the terminal's screen, as with the stock shell",
        without_process_ids(&stock),
        without_process_ids(&seen),
    )
}
