//! e2e.tty.signals: Ctrl-C, Ctrl-Z, fg and bg on commands under Run and Escalate.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::terminal::{PROMPT, Terminal};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::e2e::commands;
use crate::stage::e2e::terminal::{NAMES, TerminalShell, as_on_stock};
use crate::system::clock::Moment;
use crate::system::process::{self, ProcessHandle};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.tty.signals/ctrl-c", ctrl_c),
    case("e2e.tty.signals/ctrl-c-in-a-loop", ctrl_c_in_a_loop),
    case("e2e.tty.signals/ctrl-backslash", ctrl_backslash),
    case("e2e.tty.signals/ctrl-z-fg", ctrl_z_fg),
    case("e2e.tty.signals/bg", bg),
    case("e2e.tty.signals/child-follows", child_follows),
    case("e2e.tty.signals/own-stop", own_stop),
    case("e2e.tty.signals/redirected-streams", redirected_streams),
    case("e2e.tty.signals/kill-job", kill_job),
    case("e2e.tty.signals/own-group-stop-within-a-script", own_group_stop_within_a_script).needs("group"),
]);

const CTRL_C: &str = "\u{3}";
const CTRL_BACKSLASH: &str = "\u{1c}";
const CTRL_Z: &str = "\u{1a}";

/// Types a line whose command says `running` and then waits for signals.
fn start_waiting(terminal: &mut Terminal, line: &str) -> Verdict {
    terminal.type_text(&format!("{line}\n"))?;
    terminal.wait_for("\nrunning\r\n")?;
    Ok(())
}

fn key(terminal: &mut Terminal, key: &str) -> Result<String, CaseError> {
    terminal.type_text(key)?;
    terminal.wait_for(PROMPT)
}

fn expect_status(terminal: &mut Terminal, status: i32) -> Verdict {
    let seen = terminal.command("echo $?")?;
    expect::contains("`$?`", &seen, &format!("\n{status}\r\n"))
}

/// Ctrl-C ends the command, plain and in a pipeline: the shell prompts again, with status 130.
fn ctrl_c(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            for line in [
                format!("{name} out:running pause"),
                // The second stage speaks when it has heard from the first: both are there for the key.
                format!("{name} out:heard pause | {name} line err:running pause"),
                format!("( {name} out:running pause )"),
            ] {
                start_waiting(terminal, &line)?;
                key(terminal, CTRL_C)?;
                expect_status(terminal, 130)?;
            }
        }
        Ok(())
    })
}

/// A loop ends as well when its command has died of Ctrl-C.
fn ctrl_c_in_a_loop(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            start_waiting(
                terminal,
                &format!("while :; do {name} out:running pause; echo never; done"),
            )?;
            key(terminal, CTRL_C)?;
        }
        terminal.command("echo end").map(drop)
    })
}

/// Ctrl-\ ends the command by SIGQUIT, which the shell tells, with status 131.
fn ctrl_backslash(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        terminal.command("ulimit -c 0")?;
        for name in NAMES {
            start_waiting(terminal, &format!("{name} out:running pause"))?;
            key(terminal, CTRL_BACKSLASH)?;
            expect_status(terminal, 131)?;
        }
        Ok(())
    })
}

/// Ctrl-Z stops the command and the shell says so; `fg` continues it in the foreground, as often as one likes.
fn ctrl_z_fg(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            start_waiting(terminal, &format!("{name} out:running pause"))?;
            for _ in 0..2 {
                key(terminal, CTRL_Z)?;
                terminal.command("jobs")?;
                terminal.type_text("fg\n")?;
                terminal.wait_for("\ncontinued\r\n")?;
            }
            key(terminal, CTRL_C)?;
            expect_status(terminal, 130)?;
            terminal.command("jobs")?;
        }
        Ok(())
    })
}

/// `bg` continues it in the background, `fg` fetches it, Ctrl-C ends it.
fn bg(context: &mut Context) -> Verdict {
    commands(context, NAMES)?;
    let mut shell = TerminalShell::start(context)?;
    let terminal = &mut shell.terminal;
    for name in NAMES {
        start_waiting(terminal, &format!("{name} out:running pause"))?;
        key(terminal, CTRL_Z)?;
        // The shell's prompt and the command's word may come in any order.
        terminal.type_text("bg\n")?;
        terminal.wait_for("continued\r\n")?;
        terminal.synchronize("synchronized")?;
        let seen = terminal.command("jobs")?;
        expect::that(
            seen.to_lowercase().contains("running"),
            "the job runs after `bg`",
            format_args!("jobs: {seen:?}"),
        )?;
        let group = terminal.foreground_group()?;
        terminal.type_text("fg\n")?;
        // Ctrl-C before the shell has given the terminal away would be the shell's.
        terminal.wait_until_given_away(group)?;
        key(terminal, CTRL_C)?;
        expect_status(terminal, 130)?;
    }
    shell.leave()
}

/// The escalated child, and not only its wrapper, is what is stopped, continued and ended.
fn child_follows(context: &mut Context) -> Verdict {
    let programs = commands(context, NAMES)?;
    let mut shell = TerminalShell::start(context)?;
    for (name, program) in NAMES.into_iter().zip(&programs) {
        let terminal = &mut shell.terminal;
        start_waiting(terminal, &format!("{name} out:running pause"))?;
        let pid = only_pid(program)?;
        key(terminal, CTRL_Z)?;
        expect_state(context, name, pid, true)?;
        terminal.type_text("fg\n")?;
        terminal.wait_for("\ncontinued\r\n")?;
        expect_state(context, name, pid, false)?;
        let handle = ProcessHandle::open(nix::unistd::Pid::from_raw(pid))?;
        key(terminal, CTRL_C)?;
        if let Some(handle) = handle {
            handle.expect_end(&format!("{name} after Ctrl-C"), context.patience())?;
        }
    }
    shell.leave()
}

fn only_pid(program: &Program) -> Result<i32, CaseError> {
    Ok(program.only_start()?.pid)
}

/// Waits until the process is stopped, or is not. There is no event for this: /proc is looked at again and
/// again.
fn expect_state(context: &Context, name: &str, pid: i32, stopped: bool) -> Verdict {
    let deadline = Moment::now() + context.patience();
    loop {
        let state = process::state(pid);
        if state
            .as_ref()
            .is_some_and(|state| (state.state == 'T') == stopped)
        {
            return Ok(());
        }
        if deadline.is_over() {
            let word = if stopped { "is stopped" } else { "runs" };
            return Err(violation(
                format_args!("the process of {name} {word}"),
                shown(&state),
            ));
        }
        process::rest();
    }
}

/// A command that stops itself is a stopped job, which `fg` continues.
fn own_stop(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            terminal.command(&format!("{name} out:running stop out:resumed exit:4"))?;
            terminal.command("jobs")?;
            terminal.type_text("fg\n")?;
            terminal.wait_for("\nresumed\r\n")?;
            terminal.wait_for(PROMPT)?;
            expect_status(terminal, 4)?;
        }
        Ok(())
    })
}

/// An editor that a script starts stops its group: the job is stopped, the script with it, and `fg` continues both.
fn own_group_stop_within_a_script(context: &mut Context) -> Verdict {
    let shell = context.shell()?.display().to_string();
    for name in NAMES {
        let text = format!("#!{shell}\n{name} out:running stop-group out:back\necho edited\n");
        context.write_file(&format!("bin/edit-{name}"), text.as_bytes(), 0o755)?;
    }
    as_on_stock(context, |terminal| {
        for name in NAMES {
            for _ in 0..3 {
                terminal.command(&format!("edit-{name}"))?;
                terminal.command("jobs")?;
                terminal.type_text("fg\n")?;
                terminal.wait_for("\nback\r\nedited\r\n")?;
                terminal.wait_for(PROMPT)?;
            }
        }
        Ok(())
    })
}

/// The keys act on a command whose standard streams are not the terminal, too.
fn redirected_streams(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            start_waiting(terminal, &format!("{name} err:running pause </dev/null >file"))?;
            key(terminal, CTRL_C)?;
            expect_status(terminal, 130)?;
            start_waiting(terminal, &format!("{name} out:running pause </dev/null 2>file"))?;
            key(terminal, CTRL_Z)?;
            terminal.command("jobs")?;
            terminal.type_text("fg\n")?;
            terminal.wait_for("\ncontinued\r\n")?;
            key(terminal, CTRL_C)?;
            expect_status(terminal, 130)?;
        }
        Ok(())
    })
}

/// `kill %1` ends a stopped and a background job.
fn kill_job(context: &mut Context) -> Verdict {
    let programs = commands(context, NAMES)?;
    let mut shell = TerminalShell::start(context)?;
    for (name, program) in NAMES.into_iter().zip(&programs) {
        let terminal = &mut shell.terminal;
        terminal.type_text(&format!("{name} out:running pause &\n"))?;
        terminal.wait_for("running\r\n")?;
        let pid = only_pid(program)?;
        let handle = ProcessHandle::open(nix::unistd::Pid::from_raw(pid))?
            .ok_or_else(|| violation(format_args!("{name} runs"), "it has ended"))?;
        terminal.type_text("kill %1; wait; echo waited\n")?;
        terminal.wait_for("\nwaited\r\n")?;
        terminal.wait_for(PROMPT)?;
        handle.expect_end(&format!("{name} after `kill %1`"), context.patience())?;
    }
    shell.leave()
}
