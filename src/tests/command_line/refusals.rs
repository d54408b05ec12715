//! What a user is told when the sandbox refuses something: by the program, if it says it, and in any case by `run` and `shell`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use rexpect::session::{PtySession, spawn_command};

use super::run::program;
use super::sandbox::{Chain, run, text};
use super::support::chain;
use super::workday::{NOBODY, Programs};

fn is_installed(tool: &str) -> bool {
    Command::new(tool).arg("-V").output().is_ok()
}

/// What `run` says after a command that has failed in the default profile.
fn allowed_in(folder: &Path) -> String {
    format!(
        "shell-escalation: if the sandbox refused it something: workspace-write can write to {}, $TMPDIR, and has no network; to \
         allow more, use --writable, --sandbox, or a rule that escalates the command (--quiet omits this line)\n",
        fs::canonicalize(folder).unwrap().display()
    )
}

#[test]
fn after_a_failure_run_says_what_the_sandbox_allows() {
    let folder = tempfile::tempdir().unwrap();
    let allowed = allowed_in(folder.path());
    let said = |command: &str, own: &str| {
        let output = run(folder.path(), &[], command);
        let errors = text(&output.stderr);
        assert!(!output.status.success(), "{command}: {errors}");
        assert_eq!(text(&output.stdout), "", "{command}");
        assert!(errors.contains(own), "{command}: {errors}");
        assert!(errors.ends_with(&allowed), "{command}: {errors}");
        // Once, whatever was refused.
        assert_eq!(errors.matches("shell-escalation: ").count(), 1, "{errors}");
    };
    said("touch /etc/x", "'/etc/x': Read-only file system");
    said("/bin/false", "");
    // Programs that don't tell of what they were refused.
    for (tool, command, own) in [
        ("curl", "curl -sS http://127.0.0.1:1", "connect"),
        ("ssh", "ssh -F /dev/null somewhere", "somewhere"),
    ] {
        if is_installed(tool) {
            said(command, own);
        } else {
            eprintln!("{tool} is not installed, so it is NOT TESTED");
        }
    }
}

#[test]
fn nothing_is_said_where_the_sandbox_is_not_the_reason_or_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let quiet = |options: &[&str], command: &str| {
        let output = run(folder.path(), options, command);
        assert_eq!(text(&output.stderr), "", "{options:?} {command}");
    };
    quiet(&[], "/bin/true");
    quiet(&["--quiet"], "/bin/false");
    quiet(&[], "kill -TERM $$");
    let said = |options: &[&str], command: &str| text(&run(folder.path(), options, command).stderr);
    let without = said(&["--sandbox", "full-access"], "/bin/false");
    assert!(!without.contains("refused"), "{without}");
    let late = said(&["--timeout", "0.2"], "/bin/sleep 60");
    assert!(late.contains("timed out") && !late.contains("refused"), "{late}");
    // The filter kills what it can't examine.
    let killed = said(&[], &format!("kill -{} $$", Signal::SIGSYS as i32));
    assert_eq!(killed, allowed_in(folder.path()));
}

/// An interactive patched shell; if a user is named, of that one, with copies of the programs in a folder.
fn interactive(folder: &Path, user: Option<u32>, programs: &Path, options: &[&str]) -> PtySession {
    let Chain { shell, wrapper } = Chain::patched();
    let (mut program, shell, wrapper) = match user {
        None => (program(), shell, wrapper),
        Some(user) => {
            let Programs {
                mut server,
                patched,
                wrapper,
                ..
            } = Programs::for_everyone(programs);
            server.uid(user).gid(user);
            (server, patched, wrapper)
        }
    };
    program
        .current_dir(folder)
        .args(["shell", "--no-login", "--shell"]);
    program.arg(shell).arg("--wrapper").arg(wrapper).args(options);
    program
        .env("PS1", "ready> ")
        .env("HOME", "/nonexistent")
        // No bracketed paste.
        .env("TERM", "dumb");
    spawn_command(program, Some(20_000)).unwrap()
}

#[test]
fn an_interactive_shell_is_confined_and_says_at_the_beginning_to_what() {
    an_interactive_shell_is_confined(None);
}

#[test]
fn an_ordinary_user_s_interactive_shell_is_confined_as_well() {
    if geteuid().is_root() {
        an_interactive_shell_is_confined(Some(NOBODY));
    } else {
        eprintln!("SKIPPED: not root, so the other test is that of an ordinary user");
    }
}

fn an_interactive_shell_is_confined(user: Option<u32>) {
    let programs = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    for folder in [&folder, &outside] {
        chown(folder.path(), user, user).unwrap();
    }
    let here = fs::canonicalize(folder.path()).unwrap();
    let policy = outside.path().join("policy.toml");
    let elsewhere = fs::canonicalize(outside.path()).unwrap();
    let elsewhere = elsewhere.display();
    chain::script(
        &outside.path().join("outside.test"),
        &format!("#!/bin/sh\necho > '{elsewhere}/made' && echo made\n"),
    );
    let rule = format!(
        "default = \"run\"\n[[rule]]\nprogram = \"{elsewhere}/outside.test\"\naction = \"escalate\"\nreplaceable = true\n"
    );
    fs::write(&policy, rule).unwrap();
    let mut shell = interactive(
        folder.path(),
        user,
        programs.path(),
        &["--policy", policy.to_str().unwrap()],
    );
    let said = format!(
        "shell-escalation: the sandbox workspace-write can write to {}, $TMPDIR, and has no network (--quiet omits this line)\r\n",
        here.display()
    );
    let before = shell.exp_string(&said).unwrap();
    assert_eq!(before, "");
    shell.exp_string("ready> ").unwrap();
    let mut said = |command: &str| {
        shell.send_line(&format!("{command}; echo status $?")).unwrap();
        let (output, status) = shell.exp_regex("status [0-9]+\r\n").unwrap();
        shell.exp_string("ready> ").unwrap();
        let status: i32 = status.trim().trim_start_matches("status ").parse().unwrap();
        (output, status)
    };
    let (refused, status) = said(&format!("touch {elsewhere}/x"));
    assert!(
        refused.contains("Read-only file system") && status == 1,
        "{refused}"
    );
    let (refused, status) = said("echo x > /etc/x");
    assert!(refused.contains("/etc/x: ") && status == 1, "{refused}");
    assert_eq!(said("touch here && mktemp > /dev/null").1, 0);
    assert!(folder.path().join("here").exists());
    // Each command is still decided.
    let (escalated, status) = said(&format!("{elsewhere}/outside.test"));
    assert_eq!((escalated.as_str(), status), ("made\r\n", 0));
    // Job control is that of any shell.
    let (stopped, _) = said("sleep 60 & kill -STOP $!; wait $!; jobs; kill -KILL %1; wait %1");
    assert!(stopped.contains("Stopped"), "{stopped}");
    shell.send_line("exit 3").unwrap();
    shell.exp_eof().unwrap();
    let status = format!("{:?}", shell.process().wait().unwrap());
    assert!(status.ends_with(", 3)"), "{status}");
    let mut quiet = interactive(folder.path(), user, programs.path(), &["--quiet"]);
    assert_eq!(quiet.exp_string("ready> ").unwrap(), "");
    quiet.send_line("exit").unwrap();
    quiet.exp_eof().unwrap();
}
