//! e2e.tty.prompt: an interactive shell works as usual.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::terminal::PROMPT;
use crate::spec::requirements::Role;
use crate::stage::e2e::commands;
use crate::stage::e2e::terminal::{NAMES, TerminalShell, as_on_stock};
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.tty.prompt/commands", prompt_and_commands),
    case("e2e.tty.prompt/history", history),
    case("e2e.tty.prompt/terminal-under-both", terminal_under_both),
    case("e2e.tty.prompt/window-size", window_size),
    case("e2e.tty.prompt/input", input),
    case("e2e.tty.prompt/exit", exit),
    case("e2e.tty.prompt/denied", denied),
]);

/// Prompt, output, messages and statuses appear in the order and form of the stock shell.
fn prompt_and_commands(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            for line in [
                format!("{name} out:hello err:there"),
                format!("{name} exit:3"),
                "echo $?".to_owned(),
                format!("{name} out:a | {name} copy | cat; echo b"),
                format!("x=$({name} out:c); echo $x"),
                format!("for i in 1 2; do {name} out:$i; done"),
                "no-such-command".to_owned(),
                format!("{name} die:15"),
                "echo $?".to_owned(),
                format!("{name} out:end </dev/null >file; cat file"),
            ] {
                terminal.command(&line)?;
            }
        }
        Ok(())
    })
}

/// The line before comes back by the arrow key (or `!!`), edited and run again.
fn history(context: &mut Context) -> Verdict {
    let again = match Dialect::of(context) {
        Dialect::Bash => "\u{1b}[A more",
        Dialect::Zsh => "!! more",
        Dialect::Other => {
            return Err(crate::peer::dialect::no_such_syntax("history"));
        }
    };
    as_on_stock(context, |terminal| {
        for name in NAMES {
            terminal.command(&format!("{name} out:one; echo echoed"))?;
            let seen = terminal.command(again)?;
            expect::contains("output of the line from the history", &seen, "echoed more")?;
        }
        terminal.command("cat /dev/null")?;
        Ok(())
    })
}

/// Under Run and under Escalate the terminal is the command's: standard input, output and error, and its size.
fn terminal_under_both(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            let seen = terminal.command(&format!("{name} size"))?;
            expect::contains(&format!("what {name} says of its terminal"), &seen, "24 80")?;
        }
        let seen = terminal.command("/usr/bin/test -t 0 && /usr/bin/test -t 1 && echo it is")?;
        expect::contains("what test says", &seen, "\nit is")
    })
}

/// A new window size reaches the command in the foreground.
fn window_size(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for (number, name) in NAMES.into_iter().enumerate() {
            terminal.type_text(&format!("{name} resized\n"))?;
            terminal.wait_for("\nwaiting\r\n")?;
            let columns = 100 + number as u16;
            terminal.resize(30, columns)?;
            let seen = terminal.wait_for(PROMPT)?;
            expect::contains("the new size", &seen, &format!("30 {columns}"))?;
        }
        Ok(())
    })
}

/// What is typed reaches the command, and the end of file that Ctrl-D makes.
fn input(context: &mut Context) -> Verdict {
    as_on_stock(context, |terminal| {
        for name in NAMES {
            terminal.type_text(&format!("{name} out:reading line out:done\n"))?;
            terminal.wait_for("\nreading\r\n")?;
            terminal.type_text("typed text\n")?;
            let seen = terminal.wait_for(PROMPT)?;
            expect::contains("what the command read", &seen, "typed text\r\ntyped text\r\ndone")?;
            terminal.type_text(&format!("{name} out:reading copy out:done\n"))?;
            terminal.wait_for("\nreading\r\n")?;
            terminal.type_text("one\n")?;
            terminal.wait_for("one\r\none\r\n")?;
            terminal.type_text("\u{4}")?;
            let seen = terminal.wait_for(PROMPT)?;
            expect::contains("what appears after the end of file", &seen, "done")?;
        }
        Ok(())
    })
}

/// `exit N` ends the shell with N, also after escalated commands and with none left running.
fn exit(context: &mut Context) -> Verdict {
    commands(context, NAMES)?;
    for status in [0, 7] {
        let mut shell = TerminalShell::start(context)?;
        shell.terminal.command("escalate-it out:x; run-it out:y")?;
        shell.terminal.type_text(&format!("exit {status}\n"))?;
        expect::equal(
            "end of the interactive shell",
            Ended::Exited(status),
            shell.wait()?,
        )?;
        shell.all.shim.close_session(&shell.session)?;
        shell.terminal.expect_end()?;
        shell.all.shutdown()?;
    }
    Ok(())
}

/// A denial is shown, the status is 1, the prompt comes back.
fn denied(context: &mut Context) -> Verdict {
    let program = commands(context, ["deny-it"])?;
    let mut shell = TerminalShell::start(context)?;
    let seen = shell.terminal.command("deny-it")?;
    expect::contains("the terminal", &seen, "\nExecution denied: no deny-it\r\n")?;
    let seen = shell.terminal.command("echo $?")?;
    expect::contains("the status", &seen, "\n1\r\n")?;
    program[0].expect_not_started()?;
    shell.leave()
}
