//! An interactive shell on a terminal, in a session of the server under test; and the same in the stock shell,
//! for what must look the same.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::finished::without_process_ids;
use crate::peer::program::Program;
use crate::peer::recording_wrapper::stock_shell;
use crate::peer::terminal::{PROMPT, Terminal, VARIABLES};
use crate::probe::plan::Act;
use crate::stage::e2e::{EndToEnd, commands};
use crate::system::launch::Launch;
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict};

/// An interactive shell on a terminal, with wrapper and server.
pub struct TerminalShell<'a> {
    /// Wrapper and server.
    pub all: EndToEnd<'a>,
    /// What a person sees and types.
    pub terminal: Terminal,
    /// The session's name.
    pub session: String,
    pid: i64,
}

impl<'a> TerminalShell<'a> {
    /// Starts it and waits for its prompt.
    pub fn start(context: &'a Context) -> Result<TerminalShell<'a>, CaseError> {
        let mut all = EndToEnd::new(context)?;
        let mut terminal = Terminal::open(context)?;
        let name = format!("on-terminal-{}", context.next_number());
        let starter = Program::new(
            context,
            &name,
            [Act::Terminal(terminal.path().to_owned()), Act::Execute],
        )?;
        let session = all.start_session()?;
        let shell = context.shell()?.display().to_string();
        let mut argv = vec![starter.text(), &shell];
        argv.extend(all.dialect.interactive_options());
        let mut environment = all.base_environment();
        for (name, value) in VARIABLES {
            environment[name] = json!(value);
        }
        let (_, error) = all.output_files();
        let params = json!({
            "session": session,
            "argv": argv,
            "cwd": context.work_directory(),
            "env": environment,
            "stderr": error,
        });
        let pid = all.spawn_by(params)?;
        terminal.wait_for(PROMPT)?;
        Ok(TerminalShell {
            all,
            terminal,
            session,
            pid,
        })
    }

    /// The same on a terminal that is the server's, too: shell, wrappers and server are in one session.
    pub fn start_in_one_session(context: &'a Context) -> Result<TerminalShell<'a>, CaseError> {
        let mut terminal = Terminal::open(context)?;
        let mut all = EndToEnd::on(context, |launch| launch.on_terminal_at(terminal.path()))?;
        let session = all.start_session()?;
        let shell = context.shell()?.display().to_string();
        let mut argv = vec![shell.as_str()];
        argv.extend(all.dialect.interactive_options());
        let mut environment = all.base_environment();
        for (name, value) in VARIABLES {
            environment[name] = json!(value);
        }
        let params = json!({
            "session": session,
            "argv": argv,
            "cwd": context.work_directory(),
            "env": environment,
            "stdin": terminal.path(),
            "stdout": terminal.path(),
            "stderr": terminal.path(),
        });
        let pid = all.spawn_by(params)?;
        terminal.wait_for(PROMPT)?;
        Ok(TerminalShell {
            all,
            terminal,
            session,
            pid,
        })
    }

    /// The shell's process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.pid).unwrap_or_default()
    }

    /// Waits for the shell's end, which something else must have brought about.
    pub fn wait(&mut self) -> Result<Ended, CaseError> {
        self.all.wait(&self.session, self.pid)
    }

    /// Leaves the shell, closes the session, ends the server. No program may keep the terminal open.
    pub fn leave(mut self) -> Verdict {
        self.terminal.type_text("exit 0\n")?;
        expect::equal("end of the interactive shell", Ended::Exited(0), self.wait()?)?;
        self.all.shim.close_session(&self.session)?;
        self.terminal.expect_end()?;
        self.all.shutdown()
    }
}

/// The commands of a dialogue.
pub const NAMES: [&str; 2] = ["run-it", "escalate-it"];

/// Leads the same dialogue with the stock shell and with the three implementations: the screens must be equal,
/// process ids aside.
pub fn as_on_stock(context: &Context, dialogue: impl Fn(&mut Terminal) -> Verdict) -> Verdict {
    compared(context, TerminalShell::start, dialogue)
}

/// The same where shell, wrappers and server are in one session.
pub fn as_on_stock_in_one_session(context: &Context, dialogue: impl Fn(&mut Terminal) -> Verdict) -> Verdict {
    compared(context, TerminalShell::start_in_one_session, dialogue)
}

fn compared<'a>(
    context: &'a Context,
    start: impl FnOnce(&'a Context) -> Result<TerminalShell<'a>, CaseError>,
    dialogue: impl Fn(&mut Terminal) -> Verdict,
) -> Verdict {
    commands(context, NAMES)?;
    let expected = stock_screen(context, &dialogue)?;
    let mut shell = start(context)?;
    dialogue(&mut shell.terminal)?;
    let seen = shell.terminal.screen();
    shell.leave()?;
    expect::equal(
        "the terminal's screen, as with the stock shell",
        without_process_ids(&stopped_either_way(&without_echoes(&expected))),
        without_process_ids(&stopped_either_way(&without_echoes(&seen))),
    )
}

/// The kernel echoes a key after it has sent the key's signal, so programs and the shell may write before that. zsh starts a new
/// line where an echo stands.
fn without_echoes(screen: &str) -> String {
    ["^C", "^Z", "^\\"]
        .iter()
        .fold(screen.to_owned(), |screen, echo| screen.replace(echo, ""))
        .replace("\n\nzsh: suspended", "\nzsh: suspended")
}

/// zsh tells by what signal a job was stopped. A wrapper may stop itself by SIGSTOP, whatever has stopped its escalated child
/// (`wrapper.escalate.stopped`), so either is told as zsh tells it of Ctrl-Z. What runs without a wrapper has no such choice.
fn stopped_either_way(screen: &str) -> String {
    let [_, escalated] = NAMES;
    let told = |line: &str| {
        if !line.contains(&format!("suspended (signal)  {escalated} ")) {
            return line.to_owned();
        }
        line.replace("suspended (signal)", "suspended")
    };
    on_one_line(screen).split_inclusive('\n').map(told).collect()
}

/// zsh gives each command of a pipeline a line where not all were stopped by the same signal.
fn on_one_line(screen: &str) -> String {
    let mut whole = String::new();
    for line in screen.split_inclusive('\n') {
        let next = line.trim_start_matches("zsh:").trim_start();
        match (whole.strip_suffix('\n'), next.strip_prefix("suspended")) {
            (Some(before), Some(next)) if before.ends_with(" | ") => {
                let (start, command) = before.rsplit_once("suspended").unwrap_or((before, ""));
                let command = command.trim_start_matches(" (signal)").trim_start();
                let next = next.trim_start_matches(" (signal)").trim_start();
                whole = format!("{start}suspended  {command}{next}");
            }
            _ => whole.push_str(line),
        }
    }
    whole
}

/// What appears on the terminal when the stock shell is led through the dialogue.
fn stock_screen(context: &Context, dialogue: impl Fn(&mut Terminal) -> Verdict) -> Result<String, CaseError> {
    let mut terminal = Terminal::open(context)?;
    let shell = context.shell()?.display().to_string();
    let dialect = crate::peer::dialect::Dialect::of(context);
    let arguments = std::iter::once(shell.as_str()).chain(dialect.interactive_options().iter().copied());
    let mut launch = Launch::new(stock_shell(context)?, context.work_directory())
        .arguments(arguments)
        .variable("PATH", format!("{}:/usr/bin:/bin", context.path("bin").display()))
        .variable("HOME", context.work_directory())
        .variable("TMPDIR", context.temporary_directory())
        .variable("LC_ALL", "C.UTF-8")
        .on_terminal(0);
    for (name, value) in VARIABLES {
        launch = launch.variable(name, value);
    }
    for number in 0..=2 {
        launch = launch.descriptor(number, terminal.other_side()?);
    }
    let mut running = launch.start()?;
    terminal.wait_for(PROMPT)?;
    dialogue(&mut terminal)?;
    let screen = terminal.screen();
    terminal.type_text("exit 0\n")?;
    running.wait("the stock shell", context.patience())?;
    Ok(screen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_echo_does_not_matter() {
        let at_once =
            "ready> run-it catch:2\nready\n^Z\n[1]+  Stopped                    run-it catch:2\nready> ";
        let late =
            "ready> run-it catch:2\nready\n\n[1]+  Stopped                    run-it catch:2\n^Zready> ";
        assert_eq!(without_echoes(at_once), without_echoes(late));
        let without_a_stop = "ready> run-it catch:2\nready\n^Zready> ";
        assert_ne!(without_echoes(at_once), without_echoes(without_a_stop));
    }

    #[test]
    fn an_escalated_job_that_stopped_itself_by_sigstop_reads_as_one_that_the_key_stopped() {
        let by_sigstop = "ready> escalate-it out:running pause\nrunning\n\
            ^Zzsh: suspended (signal)  escalate-it out:running pause\nready> jobs\n\
            [1]  + suspended (signal)  escalate-it out:running pause\nready> ";
        let by_the_key = "ready> escalate-it out:running pause\nrunning\n\
            ^Z\nzsh: suspended  escalate-it out:running pause\nready> jobs\n\
            [1]  + suspended  escalate-it out:running pause\nready> ";
        let by_sigstop = without_echoes(by_sigstop);
        let by_the_key = without_echoes(by_the_key);
        assert_eq!(stopped_either_way(&by_sigstop), by_the_key);
        assert_eq!(stopped_either_way(&by_the_key), by_the_key);
        let pipeline = by_the_key.replace("out:running pause", "out:heard pause | escalate-it line");
        for lines in [
            "suspended (signal)  escalate-it out:heard pause | \n       suspended           escalate-it line",
            "suspended           escalate-it out:heard pause | \nzsh: suspended (signal)  escalate-it line",
        ] {
            let by_different_signals =
                pipeline.replace("suspended  escalate-it out:heard pause | escalate-it line", lines);
            assert_ne!(by_different_signals, pipeline);
            assert_eq!(stopped_either_way(&by_different_signals), pipeline);
        }
        let without_a_wrapper = by_sigstop.replace("escalate-it", "run-it");
        assert_eq!(stopped_either_way(&without_a_wrapper), without_a_wrapper);
    }
}
