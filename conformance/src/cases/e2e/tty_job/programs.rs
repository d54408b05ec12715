//! e2e.tty.job: programs that do something with their terminal or their process group, in an interactive shell.

use std::os::unix::fs::symlink;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::terminal::{PROMPT, Terminal};
use crate::spec::requirements::Role;
use crate::stage::e2e::installed;
use crate::stage::e2e::terminal::{TerminalShell, as_on_stock_in_one_session};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.tty.job/interpreter", interpreter),
    case("e2e.tty.job/timeouts", timeouts),
    case("e2e.tty.job/terminal-in-the-terminal", terminal_in_the_terminal),
    case("e2e.tty.job/substitution-stopped", substitution_stopped),
    case("e2e.tty.job/group-killed", group_killed),
]).needs("group");

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_Z: &str = "\u{1a}";

const DECISIONS: [&str; 2] = ["run", "escalate"];

/// Makes `run-NAME` and `escalate-NAME` of a program of the system.
///
/// # Errors
/// The case does not apply where that isn't installed.
fn both(context: &Context, name: &str) -> Verdict {
    let program = installed(name)?;
    std::fs::create_dir_all(context.path("bin"))?;
    for decision in DECISIONS {
        symlink(&program, context.path("bin").join(format!("{decision}-{name}")))?;
    }
    Ok(())
}

fn type_and_wait(terminal: &mut Terminal, line: &str, text: &str) -> Verdict {
    terminal.type_text(line)?;
    terminal.wait_for(text).map(drop)
}

/// Ctrl-C interrupts what an interpreter does and not the interpreter, and Ctrl-D leaves it.
fn interpreter(context: &mut Context) -> Verdict {
    both(context, "python3")?;
    as_on_stock_in_one_session(context, |terminal| {
        for decision in DECISIONS {
            let prompt = ">>> ";
            type_and_wait(
                terminal,
                &format!("PYTHON_BASIC_REPL=1 {decision}-python3 -q\n"),
                prompt,
            )?;
            // A signal that comes directly before a sleep doesn't end it: Python only looks afterwards.
            let busy = "exec('try:\\n print(\"busy\")\\n while True: pass\\nexcept KeyboardInterrupt: print(\"interrupted\")')\n";
            type_and_wait(terminal, busy, "\nbusy\r\n")?;
            type_and_wait(terminal, CTRL_C, prompt)?;
            type_and_wait(terminal, "print(6 * 7)\n", "\n42\r\n")?;
            terminal.wait_for(prompt)?;
            type_and_wait(terminal, CTRL_D, PROMPT)?;
            terminal.command("echo $?")?;
        }
        Ok(())
    })
}

/// timeout(1) ends a command on the terminal in its time, and Ctrl-C before that; with a group of its own and without.
fn timeouts(context: &mut Context) -> Verdict {
    both(context, "timeout")?;
    let lines = DECISIONS
        .map(|decision| ["", "--foreground "].map(|options| format!("{decision}-timeout {options}")));
    as_on_stock_in_one_session(context, |terminal| {
        for timeout in lines.as_flattened() {
            terminal.command(&format!("{timeout}0.2 sleep 600; echo $?"))?;
            terminal.command(&format!("{timeout}50 sh -c 'exit 7'; echo $?"))?;
        }
        Ok(())
    })?;
    // What timeout passes on comes to its command beside the key, so even in the stock shell the status is now this, now that.
    let mut shell = TerminalShell::start_in_one_session(context)?;
    for timeout in lines.as_flattened() {
        let line = format!("{timeout}50 sh -c 'echo running; exec sleep 600'\n");
        type_and_wait(&mut shell.terminal, &line, "\nrunning\r\n")?;
        type_and_wait(&mut shell.terminal, CTRL_C, PROMPT)?;
    }
    shell.leave()
}

/// script(1) opens a terminal of its own, passes keys on to what runs in it, and restores the settings.
fn terminal_in_the_terminal(context: &mut Context) -> Verdict {
    both(context, "script")?;
    as_on_stock_in_one_session(context, |terminal| {
        terminal.command("before=$(stty -g)")?;
        for decision in DECISIONS {
            let script = format!("{decision}-script -qec");
            terminal.command(&format!(
                "{script} 'stty size; exit 7' log; echo $?; grep -c '^24 80' log"
            ))?;
            let line = format!("{script} \"sh -c 'echo running; exec sleep 600'\" log\n");
            type_and_wait(terminal, &line, "running\r\n")?;
            type_and_wait(terminal, CTRL_C, PROMPT)?;
            terminal.command("echo $?; [ \"$(stty -g)\" = \"$before\" ] && echo restored")?;
        }
        Ok(())
    })
}

/// Ctrl-Z stops what reads from a process substitution, and `fg` continues it: it reads all.
fn substitution_stopped(context: &mut Context) -> Verdict {
    Dialect::of(context).needs_extensions("process substitution")?;
    both(context, "cat")?;
    as_on_stock_in_one_session(context, |terminal| {
        terminal.command("mkfifo gate")?;
        for decision in DECISIONS {
            let line = format!(
                "{decision}-cat <({decision}-it out:running; read -r x <gate; {decision}-it out:more)\n"
            );
            type_and_wait(terminal, &line, "\nrunning\r\n")?;
            type_and_wait(terminal, CTRL_Z, PROMPT)?;
            terminal.command("( (echo go >gate) & )")?;
            type_and_wait(terminal, "fg\n", "\nmore\r\n")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("echo $?")?;
        }
        terminal.command("rm gate").map(drop)
    })
}

/// A script signals its group when it leaves, and catches what it sends.
fn group_killed(context: &mut Context) -> Verdict {
    both(context, "sh")?;
    as_on_stock_in_one_session(context, |terminal| {
        for decision in DECISIONS {
            for script in [
                "trap \"trap - TERM; kill 0\" EXIT; trap : TERM; echo working",
                "trap \"echo leaving\" EXIT; trap \"exit 5\" TERM; kill 0; echo never",
                "trap : TERM; kill 0; echo cleaned; exit 6",
                "sleep 600 & trap \"kill 0\" EXIT; trap \"exit 7\" TERM; echo working",
            ] {
                terminal.command(&format!("{decision}-sh -c '{script}'"))?;
                terminal.command("echo $?")?;
            }
        }
        Ok(())
    })
}
