//! shell.signals: dispositions, mask, process group and foreground process group.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::recording_wrapper::RecordedShell;
use crate::peer::terminal::Terminal;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::shell::command;
use crate::stage::shell::terminal::led;
use crate::system::launch::Launch;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.signals/dispositions", dispositions),
    case("shell.signals/inherited", inherited),
    case("shell.signals/background", background),
    case("shell.signals/mask", mask),
    case("shell.signals/process-groups", process_groups),
    case("shell.signals/foreground", foreground),
]);

/// Runs a script of calls of `tool` in the stock shell and under the recorder, with a changed launch, and
/// gives what `tool` and the wrapper were started with, in the order of the script.
fn reports(
    context: &Context,
    script: &str,
    change: impl Fn(Launch) -> Launch,
) -> Result<(Vec<Report>, Vec<Report>), CaseError> {
    let program = command(context, &format!("tool-{}", context.next_number()))?;
    let name = program.path.file_name().unwrap_or_default().to_string_lossy();
    let script = script.replace("tool", &name);
    std::fs::write(context.work_directory().join("sourced"), format!("{name}\n"))?;
    let shell = RecordedShell::new(context)?;
    let arguments = shell.command_arguments(&script);
    let stock = shell.start(change(shell.launch_stock(&arguments)?))?.finish()?;
    let wanted = program.starts()?;
    let result = shell.start(change(shell.launch(&arguments)?))?.finish()?;
    result.expect_as_stock(&script, &stock)?;
    let seen: Vec<Report> = shell
        .some_calls()?
        .into_iter()
        .map(|call| call.report)
        .filter(|report| report.argument_text()[1].ends_with(name.as_ref()))
        .collect();
    expect::equal("calls", wanted.len(), seen.len())?;
    Ok((wanted, seen))
}

/// The scripts that a shell can run without a terminal: bash alone has `set -m` there.
fn without_terminal<'s>(context: &Context, scripts: &[&'s str]) -> Vec<&'s str> {
    let bash = Dialect::of(context) == Dialect::Bash;
    let possible = |script: &&str| bash || !script.contains("set -m");
    scripts.iter().copied().filter(possible).collect()
}

/// Signal numbers of a mask, real-time ones that the C library keeps for itself aside.
fn numbers(mask: u64) -> Vec<u32> {
    (1..=64)
        .filter(|number| mask & (1 << (number - 1)) != 0 && ![32, 33].contains(number))
        .collect()
}

fn expect_same_signals(script: &str, wanted: &[Report], seen: &[Report]) -> Verdict {
    for (number, (wanted, seen)) in wanted.iter().zip(seen).enumerate() {
        expect::equal(
            &format!(
                "ignored signals and mask of call {} of {script:?}, as in the stock shell",
                number + 1
            ),
            (numbers(wanted.ignored), numbers(wanted.blocked)),
            (numbers(seen.ignored), numbers(seen.blocked)),
        )?;
    }
    Ok(())
}

/// What `trap ''` ignores is ignored, what has a handler is default again.
fn dispositions(context: &mut Context) -> Verdict {
    let script = "tool; trap '' INT; tool; trap : TERM; tool; trap '' PIPE HUP; tool; trap - INT; tool; ( trap - HUP; tool ); \
        ( trap '' USR1; tool ); ( trap : USR1; exec tool ); x=$(trap '' USR2; tool); : | tool; f() { tool; }; f; trap '' QUIT TSTP TTIN TTOU CHLD; tool\n\
        exec tool";
    let (wanted, seen) = reports(context, script, |launch| launch)?;
    expect_same_signals(script, &wanted, &seen)?;
    // The measure itself: what the script says must be in what the stock shell gave.
    expect::that(
        seen[1].ignores(libc::SIGINT) && !seen[0].ignores(libc::SIGINT) && !seen[2].ignores(libc::SIGTERM),
        "INT is ignored from the second call on, TERM is not",
        format_args!(
            "ignored: {:?}",
            seen.iter()
                .map(|report| numbers(report.ignored))
                .collect::<Vec<_>>()
        ),
    )
}

/// What was ignored or blocked when the shell started is so for its commands as in the stock shell.
fn inherited(context: &mut Context) -> Verdict {
    let script = "tool; ( tool ); tool & wait $!; trap - HUP USR1; tool; exec tool";
    let (wanted, seen) = reports(context, script, |launch| {
        launch
            .ignoring(libc::SIGHUP)
            .ignoring(libc::SIGUSR1)
            .ignoring(libc::SIGPIPE)
            .blocking(libc::SIGUSR2)
    })?;
    expect_same_signals(script, &wanted, &seen)?;
    expect::that(
        seen[0].ignores(libc::SIGUSR1) && seen[0].ignores(libc::SIGPIPE),
        "USR1 and PIPE, ignored at the shell's start, are ignored for the command",
        format_args!("ignored: {:?}", numbers(seen[0].ignored)),
    )
}

/// A background command ignores INT and QUIT without job control, and does not with it.
fn background(context: &mut Context) -> Verdict {
    for script in without_terminal(
        context,
        &[
            "tool & wait $!; ( tool & wait ); { tool; tool; } & wait $!; tool; f() { tool & wait $!; }; f",
            "set -m; tool & wait $!; ( tool & wait ); tool; set +m; tool & wait $!",
            "trap : INT; tool & wait $!; trap '' INT; tool & wait $!; tool",
        ],
    ) {
        let (wanted, seen) = reports(context, script, |launch| launch)?;
        expect_same_signals(script, &wanted, &seen)?;
    }
    Ok(())
}

/// The signal mask in traps, pipelines, substitutions, and after `wait`.
fn mask(context: &mut Context) -> Verdict {
    let mut script = "trap tool USR1; kill -USR1 $$; tool; : | tool; x=$(tool); tool & wait $!; tool; ( tool & wait; tool ); kill -USR1 $$\n\
        trap tool CHLD; trap - CHLD; ( trap tool EXIT; : ); . ./sourced; for n in 1 2; do tool; done; until tool; do :; done\n"
        .to_owned();
    if Dialect::of(context) != Dialect::Other {
        script.push_str("cat <(tool) >/dev/null\n");
    }
    script.push_str("exec tool");
    let (wanted, seen) = reports(context, &script, |launch| launch)?;
    expect_same_signals(&script, &wanted, &seen)
}

/// The process group is the shell's without job control, the job's own with it.
fn process_groups(context: &mut Context) -> Verdict {
    for script in without_terminal(
        context,
        &[
            "tool; ( tool ); tool & wait $!; : | tool; x=$(tool)",
            "set -m; tool; ( tool ); tool & wait $!; : | tool; x=$(tool); { tool; tool; } & wait $!; ( tool & wait ); set +m; tool",
            "set -m; tool | ( read x; tool ); tool & tool2=$!; wait; exec tool",
        ],
    ) {
        // In a session of its own the shell leads its group; without a terminal nothing is in the foreground.
        let (wanted, seen) = reports(context, script, |launch| launch.in_new_session())?;
        let relations = |reports: &[Report]| -> Vec<(bool, bool, bool)> {
            reports
                .iter()
                .map(|report| {
                    (
                        report.group == report.pid,
                        report.group == report.session,
                        report.foreground_group.is_some(),
                    )
                })
                .collect()
        };
        expect::equal(
            &format!("(leads its group, in the shell's group, has a terminal) for the calls of {script:?}"),
            relations(&wanted),
            relations(&seen),
        )?;
    }
    Ok(())
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
