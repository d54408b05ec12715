//! The terminal while a person is asked, against everything else that has it.

use std::path::Path;
use std::process::Command;

use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use rexpect::session::PtySession;

use super::support::chain;
use super::support::processes::eventually;
use super::terminal::{interactive_by, prompt_policy, prompting, prompting_in, word};

/// The terminal's settings, seen from its other end.
fn settings(terminal: &PtySession) -> Termios {
    tcgetattr(terminal.process().get_file_handle().unwrap()).unwrap()
}

/// A named pipe; a command that reads it waits until [`open`].
fn gate(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let gate = folder.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    gate
}

fn open(gate: &Path) {
    drop(std::fs::File::options().write(true).open(gate).unwrap());
}

/// Answers with `no` and expects that nothing had been approved before.
fn refuse(terminal: &mut PtySession, output: &str) {
    terminal.send_line("no").unwrap();
    let before = terminal.exp_string("Execution denied: not approved").unwrap();
    assert!(!before.contains(output), "{before}");
}

#[test]
fn what_was_typed_before_the_question_does_not_answer_it() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder);
    let lines = format!(
        ":stty echo; echo 'Delete old files? [y/n]'; read -r line < '{}'\n/bin/echo echo esca''ped",
        gate.display()
    );
    let mut terminal = prompting(&folder, &lines);
    terminal.exp_string("[y/n]").unwrap();
    for line in ["y", "yes", "a"] {
        terminal.send_line(line).unwrap();
        // The echo says that it has arrived.
        terminal.exp_string(&format!("{line}\r\n")).unwrap();
    }
    open(&gate);
    word(&mut terminal);
    refuse(&mut terminal, "escaped");
    terminal.exp_eof().unwrap();
}

#[test]
fn what_a_program_puts_into_the_input_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder);
    let inject = folder.path().join("inject.py");
    let program = "import fcntl, sys, termios\n\
        done = 'injected'\n\
        with open('/dev/tty') as terminal:\n  \
            for byte in sys.argv[1:] + [10]:\n    \
                try: fcntl.ioctl(terminal, termios.TIOCSTI, bytes([int(byte)]))\n    \
                except OSError as error: done = str(error)\n\
        print(done)\n";
    std::fs::write(&inject, program).unwrap();
    let done = folder.path().join("done");
    // The letter y.
    let inject = format!("/usr/bin/python3 '{}' 121", inject.display());
    let lines = format!(
        ":{inject}; (read -r line < '{0}'; {inject} > '{1}.new'; mv '{1}.new' '{1}') &\n/bin/echo echo esca''ped",
        gate.display(),
        done.display()
    );
    let mut terminal = prompting_in("full-access", &folder, &lines);
    word(&mut terminal);
    open(&gate);
    eventually("the injection", || done.exists());
    // Where the kernel refuses (dev.tty.legacy_tiocsti is 0), the question just stays open.
    if std::fs::read_to_string(&done).unwrap() == "injected\n" {
        word(&mut terminal);
    }
    refuse(&mut terminal, "escaped");
    terminal.exp_eof().unwrap();
}

#[test]
fn guessing_ends_soon() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "/bin/echo echo esca''ped\n".repeat(5);
    let mut terminal = prompting(&folder, &lines);
    for question in 0..3 {
        for _ in 0..3 {
            word(&mut terminal);
            terminal.send_line("bababa").unwrap();
        }
        let end = if question < 2 {
            "Execution denied: not approved: three wrong answers"
        } else {
            "Execution denied: nothing is approved any more in this session: too many wrong answers"
        };
        terminal.exp_string(end).unwrap();
    }
    let rest = terminal.exp_eof().unwrap();
    assert_eq!(rest.matches("nothing is approved any more").count(), 2, "{rest}");
    assert!(!rest.contains("escaped"), "{rest}");
}

#[test]
fn never_is_an_answer_to_all_questions() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "/bin/echo echo esca''ped\n".repeat(3);
    let mut terminal = prompting(&folder, &lines);
    word(&mut terminal);
    terminal.send_line("never").unwrap();
    let rest = terminal.exp_eof().unwrap();
    assert_eq!(
        rest.matches("Execution denied: nothing is approved").count(),
        3,
        "{rest}"
    );
}

#[test]
fn a_terminal_in_raw_mode_is_as_good_and_gets_its_settings_back() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder);
    let lines = format!(
        ":stty raw -echo intr x erase y\n/bin/echo echo esca''ped\n:read -r line < '{}'",
        gate.display()
    );
    let mut terminal = prompting(&folder, &lines);
    let word = word(&mut terminal);
    let asking = settings(&terminal).local_flags;
    assert!(asking.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::TOSTOP));
    // A person's Enter is a carriage return, and what is typed is seen.
    terminal.send(&format!("xy\u{15}{word}\r")).unwrap();
    terminal.flush().unwrap();
    terminal.exp_string(&word).unwrap();
    terminal.exp_string("escaped").unwrap();
    let after = settings(&terminal);
    assert!(
        !after
            .local_flags
            .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::TOSTOP)
    );
    assert_eq!(after.control_chars[nix::libc::VINTR], b'x');
    assert_eq!(after.control_chars[nix::libc::VERASE], b'y');
    open(&gate);
    terminal.exp_eof().unwrap();
}

#[test]
fn the_settings_are_the_same_after_a_question() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder);
    let wait = format!(":echo waits; read -r line < '{}'", gate.display());
    let mut terminal = prompting(&folder, &format!("{wait}\n/bin/echo echo esca''ped\n{wait}"));
    terminal.exp_string("waits").unwrap();
    let before = settings(&terminal);
    open(&gate);
    word(&mut terminal);
    assert_ne!(settings(&terminal), before);
    terminal.send_line("no").unwrap();
    terminal.exp_string("waits").unwrap();
    assert_eq!(settings(&terminal), before);
    open(&gate);
    terminal.exp_eof().unwrap();
}

#[test]
fn a_background_process_cannot_write_over_the_question() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder);
    let mut program = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    program.arg("shell").arg("--writable").arg(folder.path());
    let mut terminal = interactive_by(program, prompt_policy(&folder).to_str().unwrap());
    let pid = folder.path().join("pid");
    let background = format!(
        "sh -c 'echo $$ >{}; read -r line <{}; echo over\"\"laid' &",
        pid.display(),
        gate.display()
    );
    terminal.send_line(&background).unwrap();
    terminal.exp_string("ready> ").unwrap();
    terminal
        .send_line(r#""$EXEC_WRAPPER" /bin/echo echo esca""ped"#)
        .unwrap();
    word(&mut terminal);
    open(&gate);
    eventually("the writer is stopped", || {
        let pid = std::fs::read_to_string(&pid).unwrap_or_default();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        state.contains(") T ")
    });
    terminal.send_line("no").unwrap();
    let before = terminal.exp_string("Execution denied: not approved").unwrap();
    assert!(!before.contains("overlaid"), "{before}");
    terminal.exp_string("ready> ").unwrap();
    terminal.send_line("fg").unwrap();
    terminal.exp_string("overlaid").unwrap();
}

#[test]
fn an_answer_that_another_process_reads_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let stolen = folder.path().join("stolen");
    // In a session of its own, it is not in the background of this terminal, nor of any. It reads once.
    let thief = format!("dd bs=1000 count=1 of={}", stolen.display());
    let lines = format!(":exec 3<&0; setsid {thief} <&3 &\n/bin/echo echo esca''ped");
    let mut terminal = prompting(&folder, &lines);
    let first = word(&mut terminal);
    eventually("the thief reads", || reads_a_terminal(&thief));
    terminal.send_line(&first).unwrap();
    terminal.exp_string("The answer was lost").unwrap();
    let second = word(&mut terminal);
    assert_ne!(first, second);
    eventually("the thief has it", || {
        std::fs::read_to_string(&stolen).is_ok_and(|text| text == format!("{first}\n"))
    });
    terminal.send_line(&second).unwrap();
    terminal.exp_string("escaped").unwrap();
    terminal.exp_eof().unwrap();
}

/// Whether a process with this command line waits for input.
fn reads_a_terminal(command: &str) -> bool {
    super::support::processes::with_marker(command).iter().any(|pid| {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        call.starts_with(&format!("{} 0x0 ", nix::libc::SYS_read))
    })
}

#[test]
fn a_flood_of_questions_starves_no_other_request() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let rules = "default = \"run\"\n[[rule]]\nprogram = \"/bin/echo\"\naction = \"prompt\"\n";
    std::fs::write(&policy, rules).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    run.args([
        "run",
        "--no-login",
        // Two hundred wrappers take their time where others use the cores.
        "--timeout",
        "10",
        "--approval-time",
        "5",
        "--policy",
    ])
    .arg(policy);
    run.arg("--writable").arg(folder.path());
    run.arg("--shell")
        .arg(chain::shell(folder.path()))
        .arg("--wrapper")
        .arg(chain::wrapper());
    // A hundred different questions, and as many requests of one; the run ends although none is answered.
    let lines = ":for i in $(seq 100); do \"$EXEC_WRAPPER\" /bin/echo echo $i & \"$EXEC_WRAPPER\" /bin/echo echo & done \
                 2>/dev/null\n/bin/cat cat /proc/sys/kernel/ostype\n:wait";
    run.args(["--", lines]);
    let mut terminal = rexpect::session::spawn_command(run, Some(60_000)).unwrap();
    terminal.exp_string("Linux").unwrap();
    terminal
        .exp_string("the command timed out and was killed")
        .unwrap();
    let status = format!("{:?}", terminal.process().wait().unwrap());
    assert!(status.ends_with(", 124)"), "{status}");
}

#[test]
fn what_cannot_be_shown_whole_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let lines = ":long=$(printf '%05000d' 0)\n/bin/echo echo $long '; rm -rf ~'";
    let mut terminal = prompting(&folder, lines);
    terminal
        .exp_string("Execution denied: needs approval, but has too much to show to a person (")
        .unwrap();
    terminal.exp_eof().unwrap();
}
