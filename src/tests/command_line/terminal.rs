//! On a terminal: approvals, an interactive shell, and the terminal's end.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rexpect::session::{PtySession, spawn_command};

use super::support::chain;
use super::support::processes::gone_within;

const PATIENCE: Option<u64> = Some(20_000);
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies/run.toml");

pub fn prompt_policy(folder: &tempfile::TempDir) -> PathBuf {
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "default = \"prompt\"\n").unwrap();
    policy
}

/// Waits for a question, to its end; the word that approves it.
pub fn word(terminal: &mut PtySession) -> String {
    let (_, found) = terminal.exp_regex("type [a-z]{6} ").unwrap();
    terminal.exp_string("in this session): ").unwrap();
    found["type ".len()..].trim_end().to_owned()
}

/// Waits for a question and answers it.
fn answer(terminal: &mut PtySession, answer: impl FnOnce(&str) -> String) {
    let word = word(terminal);
    terminal.send_line(&answer(&word)).unwrap();
}

fn yes(word: &str) -> String {
    word.to_owned()
}

pub fn prompting(folder: &tempfile::TempDir, command: &str) -> PtySession {
    prompting_in("workspace-write", folder, command)
}

pub fn prompting_in(sandbox: &str, folder: &tempfile::TempDir, command: &str) -> PtySession {
    let policy = prompt_policy(folder);
    let mut run = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    run.args(["run", "--no-login", "--sandbox", sandbox, "--policy"])
        .arg(policy);
    if sandbox != "full-access" {
        run.arg("--writable").arg(folder.path());
    }
    run.arg("--shell")
        .arg(chain::shell(folder.path()))
        .arg("--wrapper")
        .arg(chain::wrapper());
    run.args(["--", command]).env("ADDED", "1");
    spawn_command(run, PATIENCE).unwrap()
}

#[test]
fn a_person_is_asked_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let lines = ":export ADDED=2 NEW=3\n/bin/echo echo 'first one'\n/bin/echo echo second\n/bin/echo echo second\n/bin/echo echo third";
    let mut terminal = prompting(&folder, lines);
    terminal.exp_string("program     /bin/echo").unwrap();
    terminal.exp_string("arguments   echo \"first one\"").unwrap();
    terminal.exp_string("changed ADDED=2").unwrap();
    terminal.exp_string("added   NEW=3").unwrap();
    answer(&mut terminal, |_| "yes".to_owned());
    answer(&mut terminal, yes);
    terminal.exp_string("first one\r\n").unwrap();
    answer(&mut terminal, |word| format!("{word} always"));
    terminal.exp_string("second\r\n").unwrap();
    terminal.exp_string("second\r\n").unwrap();
    terminal.exp_string("arguments   echo third").unwrap();
    answer(&mut terminal, |_| "no".to_owned());
    terminal.exp_string("Execution denied: not approved").unwrap();
    terminal.exp_eof().unwrap();
}

/// One of the system's shells, interactive: unpatched, but with job control.
fn interactive() -> PtySession {
    let mut program = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    program.arg("shell");
    interactive_by(program, RUN)
}

pub fn interactive_by(mut shell: Command, policy: &str) -> PtySession {
    shell.args([
        "--policy",
        policy,
        "--shell",
        "/bin/bash",
        "--no-login",
        "--wrapper",
    ]);
    shell
        .arg(chain::wrapper())
        .env("PS1", "ready> ")
        .env("HOME", "/nonexistent");
    let mut terminal = spawn_command(shell, PATIENCE).unwrap();
    terminal
        .send_line("PS1='re''ady> '; unset PROMPT_COMMAND")
        .unwrap();
    terminal.exp_string("ready> ").unwrap();
    terminal
}

#[test]
fn the_terminal_of_a_killed_shell_is_given_back() {
    let mut caller = Command::new("/bin/sh");
    let script = r#""$0" "$@"; read -r line && echo "read:$line""#;
    caller.args(["-c", script, env!("CARGO_BIN_EXE_shell-escalation"), "shell"]);
    let mut terminal = interactive_by(caller, RUN);
    // The shell's own process group had the terminal, and ends with it.
    terminal.send_line("kill -KILL $$").unwrap();
    terminal.send_line("hello").unwrap();
    terminal.exp_string("read:hello\r\n").unwrap();
    terminal.exp_eof().unwrap();
}

#[test]
fn an_interactive_shell_has_its_terminal() {
    let mut terminal = interactive();
    terminal.send_line("tty && echo $((40+2))").unwrap();
    terminal.exp_string("/dev/pts/").unwrap();
    terminal.exp_string("42").unwrap();
    terminal.exp_string("ready> ").unwrap();
    // Interrupting a command leaves the shell alone; so does stopping one.
    terminal
        .send_line("sh -c 'echo be\"\"gun; exec sleep 600'")
        .unwrap();
    terminal.exp_string("begun").unwrap();
    terminal.send_control('c').unwrap();
    terminal.exp_string("ready> ").unwrap();
    terminal.send_line("echo $((128+2))-$?").unwrap();
    terminal.exp_string("130-130").unwrap();
    terminal.send_line("exit 5").unwrap();
    let status = format!("{:?}", terminal.process().wait().unwrap());
    assert!(
        status.starts_with("Exited(") && status.ends_with(", 5)"),
        "{status}"
    );
}

#[test]
fn a_question_borrows_the_terminal_of_an_interactive_shell() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    program.arg("shell");
    let mut terminal = interactive_by(program, prompt_policy(&folder).to_str().unwrap());
    let ask = r#""$EXEC_WRAPPER" /bin/echo echo out""side"#;
    // Each command is a job with a process group of its own, which has the terminal until the question.
    terminal.send_line(ask).unwrap();
    answer(&mut terminal, yes);
    terminal.exp_string("outside\r\n").unwrap();
    terminal.exp_string("ready> ").unwrap();
    terminal.send_line(ask).unwrap();
    word(&mut terminal);
    terminal.send_control('c').unwrap();
    terminal.exp_string("ready> ").unwrap();
    terminal.send_line("echo $((128+2))-$?").unwrap();
    terminal.exp_string("130-130").unwrap();
    terminal.exp_string("ready> ").unwrap();
    // Afterwards the job has it back.
    terminal
        .send_line(&format!("sh -c '{ask}; read -r line; echo read:$line'"))
        .unwrap();
    answer(&mut terminal, yes);
    terminal.exp_string("outside\r\n").unwrap();
    terminal.send_line("words").unwrap();
    terminal.exp_string("read:words\r\n").unwrap();
    terminal.exp_string("ready> ").unwrap();
    // A background command may not take it.
    terminal.send_line(&format!("{ask} & wait")).unwrap();
    terminal.exp_string("runs in the background").unwrap();
    terminal.exp_string("ready> ").unwrap();
    // No question is pending that could receive an interrupt, and the shell has the terminal.
    terminal.process_mut().signal(Signal::SIGINT).unwrap();
    terminal.exp_eof().unwrap();
}

#[test]
fn the_end_of_the_terminal_is_the_end_of_everything() {
    let mut terminal = interactive();
    terminal
        .send_line("setsid sh -c 'echo pid=$$; exec sleep 600' &")
        .unwrap();
    let (_, pid) = terminal.exp_regex("pid=[0-9]+").unwrap();
    let pid = pid.trim_start_matches("pid=").parse().unwrap();
    assert!(!gone_within(pid, Duration::ZERO));
    drop(terminal);
    assert!(gone_within(pid, Duration::from_secs(10)));
}
