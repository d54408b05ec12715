//! e2e.tty.job: keys, windows and stops of the commands of an interactive shell.

use nix::unistd::Pid;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::recording_wrapper::stock_shell;
use crate::peer::terminal::{PROMPT, Terminal};
use crate::probe::signals::LAST;
use crate::spec::requirements::Role;
use crate::stage::e2e::commands;
use crate::stage::e2e::terminal::{NAMES, TerminalShell, as_on_stock_in_one_session};
use crate::system::clock::Moment;
use crate::system::process::{self, ProcessHandle};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.tty.job/background-reader-stops", background_reader_stops),
    case("e2e.tty.job/background-writer-with-tostop", background_writer_with_tostop),
    case("e2e.tty.job/dev-tty", dev_tty),
    case("e2e.tty.job/nested-shell-has-job-control", nested_shell_has_job_control),
    case("e2e.tty.job/ctrl-c-reaches-all-stages", ctrl_c_reaches_all_stages).within_seconds(60),
    case("e2e.tty.job/ctrl-c-once", ctrl_c_once),
    case("e2e.tty.job/own-group-once", own_group_once),
    case("e2e.tty.job/ctrl-z-fg", ctrl_z_fg),
    case("e2e.tty.job/window-size", window_size),
    case("e2e.tty.job/pipeline-killed", pipeline_killed),
]).needs("group");

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_Z: &str = "\u{1a}";

/// Runs `jobs` until it shows a job that is stopped. There is no event for this.
fn wait_until_a_job_is_stopped(context: &Context, terminal: &mut Terminal) -> Verdict {
    let deadline = Moment::now() + context.patience();
    loop {
        let jobs = terminal.command("jobs")?.to_lowercase();
        if jobs.contains("stopped") || jobs.contains("suspended") {
            return Ok(());
        }
        if deadline.is_over() {
            return Err(violation("a job that is stopped", format_args!("jobs: {jobs:?}")));
        }
    }
}

/// Fetches the job, whose command line ends so, and waits until it has the terminal and goes on: SIGCONT would take back a stop
/// that comes before. The line has to be there, too: a key that sends a signal discards what has not been read of the terminal.
fn fetch(context: &Context, terminal: &mut Terminal, end_of_line: &str) -> Verdict {
    let group = terminal.foreground_group()?;
    terminal.type_text("fg\n")?;
    terminal.wait_for(&format!("{end_of_line}\r\n"))?;
    terminal.wait_until_given_away(group)?;
    let job = terminal.foreground_group()?;
    let is_stopped = || {
        process::all()
            .iter()
            .any(|process| process.group == job && process.state == 'T')
    };
    expect::that(
        process::eventually(context.patience(), || !is_stopped()),
        "a job that is fetched goes on",
        format_args!("processes of group {job} are stopped"),
    )
}

/// What reads the terminal in the background is stopped, and what is typed is the shell's; in the foreground it reads.
fn background_reader_stops(context: &mut Context) -> Verdict {
    commands(context, NAMES)?;
    let mut shell = TerminalShell::start_in_one_session(context)?;
    let terminal = &mut shell.terminal;
    for name in NAMES {
        terminal.command(&format!("{name} copy &"))?;
        wait_until_a_job_is_stopped(context, terminal)?;
        for word in ["one", "two", "three"] {
            let seen = terminal.command(&format!("echo {word}"))?;
            expect::contains("what the shell prints", &seen, &format!("\n{word}\r\n"))?;
        }
        fetch(context, terminal, "copy")?;
        terminal.type_text("typed\n")?;
        terminal.wait_for("typed\r\ntyped\r\n")?;
        terminal.type_text(CTRL_D)?;
        terminal.wait_for(PROMPT)?;
    }
    shell.leave()
}

/// With `tostop`, what writes to the terminal in the background is stopped before it has written.
fn background_writer_with_tostop(context: &mut Context) -> Verdict {
    commands(context, NAMES)?;
    let mut shell = TerminalShell::start_in_one_session(context)?;
    let terminal = &mut shell.terminal;
    for name in NAMES {
        terminal.command("stty tostop")?;
        terminal.command(&format!("{name} out:written-by-{name} &"))?;
        wait_until_a_job_is_stopped(context, terminal)?;
        let written = format!("\nwritten-by-{name}\r\n");
        expect::that(
            !terminal.screen().contains(&written),
            "nothing is written in the background",
            format_args!("{:?}", terminal.screen()),
        )?;
        terminal.command("stty -tostop")?;
        terminal.type_text("fg\n")?;
        terminal.wait_for(&written)?;
        terminal.wait_for(PROMPT)?;
    }
    shell.leave()
}

/// /dev/tty is the terminal, whatever the standard streams are.
fn dev_tty(context: &mut Context) -> Verdict {
    as_on_stock_in_one_session(context, |terminal| {
        for name in NAMES {
            terminal.type_text(&format!("{name} ask </dev/null >file 2>&1\n"))?;
            terminal.wait_for("question> ")?;
            terminal.type_text("a word\n")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("cat file")?;
        }
        Ok(())
    })
}

/// An interactive shell within has jobs of its own, which stop and continue.
fn nested_shell_has_job_control(context: &mut Context) -> Verdict {
    let stock = stock_shell(context)?;
    for name in ["run-shell", "escalate-shell"] {
        let link = context.path("bin").join(name);
        std::fs::create_dir_all(context.path("bin"))?;
        std::os::unix::fs::symlink(stock, link)?;
    }
    let options = Dialect::of(context).interactive_options().join(" ");
    as_on_stock_in_one_session(context, |terminal| {
        for name in ["run-shell", "escalate-shell"] {
            terminal.command(&format!("{name} {options}"))?;
            terminal.type_text("run-it out:running pause\n")?;
            terminal.wait_for("\nrunning\r\n")?;
            stop_and_continue(terminal)?;
            terminal.type_text(CTRL_C)?;
            terminal.wait_for(PROMPT)?;
            terminal.command("echo $?")?;
            terminal.command("exit")?;
        }
        terminal.command("jobs; echo end").map(drop)
    })
}

/// Ctrl-Z stops the job in the foreground, which says when it has been continued, and `fg` continues it.
fn stop_and_continue(terminal: &mut Terminal) -> Verdict {
    terminal.type_text(CTRL_Z)?;
    terminal.wait_for(PROMPT)?;
    terminal.command("jobs")?;
    terminal.type_text("fg\n")?;
    terminal.wait_for("\ncontinued\r\n").map(drop)
}

/// A command that lives until the end of its input dies of Ctrl-C, and never sees the end of the command before it.
fn ctrl_c_reaches_all_stages(context: &mut Context) -> Verdict {
    as_on_stock_in_one_session(context, |terminal| {
        for _ in 0..20 {
            terminal.type_text("escalate-it out:running pause | escalate-it copy out:finished\n")?;
            terminal.wait_for("\nrunning\r\n")?;
            terminal.type_text(CTRL_C)?;
            terminal.wait_for(PROMPT)?;
        }
        Ok(())
    })
}

/// Two keys are two signals, of which the second ends the command. Between them it is stopped and continued, so that there is
/// time for what should not come. A second signal that comes before the first is taken is lost in it, so this is tried often.
fn ctrl_c_once(context: &mut Context) -> Verdict {
    as_on_stock_in_one_session(context, |terminal| {
        for name in NAMES.repeat(3) {
            terminal.type_text(&format!("{name} catch:2\n"))?;
            terminal.wait_for("\nready\r\n")?;
            terminal.type_text(CTRL_C)?;
            terminal.wait_for("caught\r\n")?;
            for _ in 0..3 {
                terminal.type_text(CTRL_Z)?;
                terminal.wait_for(PROMPT)?;
                fetch(context, terminal, "catch:2")?;
            }
            terminal.type_text(CTRL_C)?;
            terminal.wait_for("caught\r\n")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("echo end")?;
        }
        Ok(())
    })
}

/// What a command sends to its process group comes to it once. It says how often when another signal comes, which its group's
/// leader, the wrapper, has got later: what should not come has come before that. Real-time signals are not lost in each other.
fn own_group_once(context: &mut Context) -> Verdict {
    as_on_stock_in_one_session(context, |terminal| {
        for name in NAMES {
            for signal in [libc::SIGTSTP, libc::SIGURG, libc::SIGWINCH, 40, 41] {
                let shell = terminal.foreground_group()?;
                terminal.type_text(&format!("{name} signal-group:{signal}\n"))?;
                terminal.wait_for("\nsent\r\n")?;
                terminal.wait_until_given_away(shell)?;
                let leader = Pid::from_raw(terminal.foreground_group()?);
                if let Some(leader) = ProcessHandle::open(leader)? {
                    leader.signal(LAST)?;
                }
                terminal.wait_for("caught 1\r\n")?;
                terminal.wait_for(PROMPT)?;
            }
        }
        Ok(())
    })
}

/// Ctrl-Z stops all of a pipeline, and `fg` continues it.
fn ctrl_z_fg(context: &mut Context) -> Verdict {
    as_on_stock_in_one_session(context, |terminal| {
        for name in NAMES {
            for line in [
                format!("{name} out:running pause"),
                format!("{name} out:heard pause | {name} line err:running pause"),
            ] {
                terminal.type_text(&format!("{line}\n"))?;
                terminal.wait_for("\nrunning\r\n")?;
                for _ in 0..3 {
                    stop_and_continue(terminal)?;
                }
                terminal.type_text(CTRL_C)?;
                terminal.wait_for(PROMPT)?;
                terminal.command("jobs; echo $?")?;
            }
        }
        Ok(())
    })
}

/// A change of the window's size reaches the command.
fn window_size(context: &mut Context) -> Verdict {
    as_on_stock_in_one_session(context, |terminal| {
        for (name, rows) in NAMES.into_iter().zip([40, 50]) {
            terminal.type_text(&format!("{name} resized\n"))?;
            terminal.wait_for("\nwaiting\r\n")?;
            terminal.resize(rows, 100)?;
            terminal.wait_for(PROMPT)?;
        }
        terminal.resize(24, 80)
    })
}

/// `kill` of a background job ends all of its pipeline, which `wait` tells.
fn pipeline_killed(context: &mut Context) -> Verdict {
    let programs = commands(context, NAMES)?;
    let mut shell = TerminalShell::start_in_one_session(context)?;
    let terminal = &mut shell.terminal;
    for (name, program) in NAMES.into_iter().zip(&programs) {
        for (number, signal) in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1]
            .into_iter()
            .enumerate()
        {
            // The second stage speaks when it has heard from the first. The shell's prompt may come before and after that.
            terminal.type_text(&format!(
                "{name} out:heard pause | {name} line err:running pause &\n"
            ))?;
            terminal.wait_for("running\r\n")?;
            terminal.synchronize("synchronized")?;
            let stages = &program.starts()?[2 * number..];
            expect::equal("stages that have started", 2, stages.len())?;
            let stages = stages
                .iter()
                .map(|start| ProcessHandle::open(Pid::from_raw(start.pid)))
                .collect::<Result<Vec<_>, _>>()?;
            terminal.type_text(&format!("kill -{signal} %%; wait $!; echo status $?; wait\n"))?;
            terminal.wait_for(&format!("status {}\r\n", 128 + signal))?;
            terminal.wait_for(PROMPT)?;
            for stage in stages.into_iter().flatten() {
                stage.expect_end(&format!("a stage of {name} after `kill`"), context.patience())?;
            }
        }
    }
    shell.leave()
}
