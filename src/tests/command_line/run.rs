//! `run`: statuses, ends and errors.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::assert::OutputAssertExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::support::chain;
use super::support::processes::gone_within;

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    command
        .env_remove("SHELL_ESCALATION_SHELL")
        .env_remove("SHELL_ESCALATION_WRAPPER");
    command
}

/// `run` with a policy and a shell that hands lines to the wrapper.
pub fn run(folder: &TempDir, policy: &str, command: &str) -> Command {
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    let mut run = program();
    // What the sandbox allows is said after other tests' failures.
    run.args(["run", "--quiet", "--no-login", "--policy"]).arg(file);
    // The stand-in for a patched shell writes there.
    run.arg("--writable").arg(folder.path());
    run.arg("--shell")
        .arg(chain::shell(folder.path()))
        .arg("--wrapper")
        .arg(chain::wrapper());
    run.args(["--", command]);
    run
}

pub fn stock(command: &str) -> Command {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies/run.toml");
    let mut run = program();
    run.args([
        "run",
        "--policy",
        policy,
        "--shell",
        "/bin/sh",
        "--no-login",
        "--wrapper",
    ])
    .arg(chain::wrapper());
    run.args(["--", command]);
    run
}

#[test]
fn the_status_is_the_command_s() {
    for status in [0, 1, 7, 126, 127, 255] {
        stock(&format!("exit {status}")).assert().code(status);
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL, Signal::SIGPIPE] {
        let status = stock(&format!("kill -{} $$", signal as i32)).status().unwrap();
        assert_eq!(status.signal(), Some(signal as i32));
    }
}

#[test]
fn the_shell_is_a_login_shell_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let shell = folder.path().join("shell");
    chain::script(&shell, "#!/bin/sh\necho \"$1\"\n");
    for (options, expected) in [(&[][..], "-lc\n"), (&["--no-login"], "-c\n")] {
        let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies/run.toml");
        let mut run = program();
        run.args(["run", "--policy", policy, "--wrapper"])
            .arg(chain::wrapper())
            .arg("--shell")
            .arg(&shell)
            .args(options)
            .args(["--", "true"]);
        run.assert().success().stdout(expected);
    }
}

#[test]
fn the_help_has_the_rules_only_where_they_can_be_read() {
    for command in ["run", "shell", "check"] {
        let help = program().args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("--policy"), "{help}");
        assert_eq!(help.contains("--rules"), cfg!(feature = "rules"), "{help}");
    }
}

#[test]
fn arguments_are_joined_and_streams_are_inherited() {
    let mut run = stock("read line; echo \"$line\"; echo err >&2");
    run.arg("; echo more")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = run.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"in\n").unwrap();
    child
        .wait_with_output()
        .unwrap()
        .assert()
        .success()
        .stdout("in\nmore\n")
        .stderr("err\n");
}

#[test]
fn the_policy_file_decides() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "default = \"run\"\n[[rule]]\nprogram = \"/bin/sh\"\naction = \"escalate\"\n\
                  [[rule]]\nprogram = \"rm\"\naction = \"deny\"\nreason = \"use the trash\"\n";
    let lines = "/bin/echo echo runs\n/bin/sh sh -c 'echo ${EXEC_WRAPPER-outside}'\n/bin/rm rm x";
    run(&folder, policy, lines)
        .assert()
        .code(1)
        .stdout("runs\noutside\n")
        .stderr("Execution denied: use the trash\n");
    // With no person to ask, the answer is no.
    let output = run(&folder, "default = \"prompt\"", "/bin/echo echo");
    let mut detached = Command::new("setsid");
    detached
        .arg("--wait")
        .arg(output.get_program())
        .args(output.get_args());
    detached
        .assert()
        .code(1)
        .stderr("Execution denied: needs approval, but there is no terminal to ask on\n");
}

#[test]
fn the_audit_log_has_two_lines_per_escalated_command() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let mut run = run(
        &folder,
        "default = \"escalate\"",
        "/bin/sh sh -c 'exit 3'\n/bin/echo echo hi",
    );
    let command = run
        .get_args()
        .map(Into::into)
        .collect::<Vec<std::ffi::OsString>>();
    run = program();
    run.args(&command[..1])
        .arg("--audit")
        .arg(&log)
        .args(&command[1..]);
    run.assert().success().stdout("hi\n");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<&serde_json::Value> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["start", "end", "start", "end"]);
    assert!(lines[0]["result"].is_null());
    assert_eq!(lines[1]["program"], "/bin/sh");
    let canonical = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(lines[1]["canonical"], canonical.to_str().unwrap());
    assert_eq!(lines[1]["decision"], "escalate");
    assert_eq!(lines[1]["rule"], "default");
    assert_eq!(lines[1]["result"], serde_json::json!({"exit_code": 3}));
    assert!(lines[1]["peer"].is_u64() && lines[1]["error"].is_null());
    assert_eq!(lines[3]["argv"], serde_json::json!(["echo", "hi"]));
}

#[test]
fn everything_is_killed_at_the_timeout() {
    let mut run = stock("echo $$; setsid sleep 600 & echo $!; wait");
    let arguments: Vec<std::ffi::OsString> = run.get_args().map(Into::into).collect();
    run = program();
    run.args(&arguments[..1])
        .args(["--timeout", "0.3"])
        .args(&arguments[1..]);
    let output = run.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "shell-escalation: the command timed out and was killed\n"
    );
    assert_eq!(output.status.code(), Some(124));
    for pid in String::from_utf8(output.stdout).unwrap().lines() {
        assert!(gone_within(pid.parse().unwrap(), Duration::ZERO));
    }
}

/// Starts a command that prints two pids, one of them in a session of its own, and waits.
fn waiting() -> (std::process::Child, Vec<i32>) {
    let mut child = stock("echo $$; setsid sleep 600 & echo $!; wait")
        // Not in the foreground of a terminal, where interrupts would be left to the shell.
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pids = lines.take(2).map(|line| line.unwrap().parse().unwrap()).collect();
    (child, pids)
}

#[test]
fn a_terminated_run_ends_everything_and_then_itself() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let (mut child, pids) = waiting();
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        for pid in pids {
            assert!(gone_within(pid, Duration::ZERO));
        }
    }
}

#[test]
fn killing_a_run_ends_everything() {
    let (mut child, pids) = waiting();
    child.kill().unwrap();
    child.wait().unwrap();
    for pid in pids {
        assert!(gone_within(pid, Duration::from_secs(1)), "{pid} lives on");
    }
}

#[test]
fn errors_say_what_happened_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    std::fs::write(
        &broken,
        "default = \"run\"\n\n[[rule]]\nprogram = \"git\"\naction = \"allow\"\n",
    )
    .unwrap();
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies/run.toml");
    let cases: [&[&str]; 11] = [
        &[
            "run",
            "--policy",
            broken.to_str().unwrap(),
            "--shell",
            "/bin/sh",
            "--wrapper",
            "/bin/true",
            "--",
            "true",
        ],
        &[
            "run",
            "--policy",
            "/no/policy.toml",
            "--shell",
            "/bin/sh",
            "--wrapper",
            "/bin/true",
            "--",
            "true",
        ],
        &[
            "run",
            "--policy",
            good,
            "--shell",
            "/no/shell",
            "--wrapper",
            "/bin/true",
            "--",
            "true",
        ],
        &[
            "run",
            "--policy",
            good,
            "--shell",
            "/bin/sh",
            "--wrapper",
            "/no/wrapper",
            "--",
            "true",
        ],
        &["run", "--policy", good, "--timeout", "soon", "--", "true"],
        &["run", "--policy", good],
        &[
            "run",
            "--sandbox",
            "nowhere",
            "--shell",
            "/bin/sh",
            "--wrapper",
            "/bin/true",
            "--",
            "true",
        ],
        &[
            "run",
            "--sandbox",
            "full-access",
            "--sandbox-strict",
            "--shell",
            "/bin/sh",
            "--wrapper",
            "/bin/true",
            "--",
            "true",
        ],
        &[
            "run",
            "--writable",
            "/no/folder",
            "--shell",
            "/bin/sh",
            "--wrapper",
            "/bin/true",
            "--",
            "true",
        ],
        &["--log", "=!", "shim"],
        &["shell", "--policy", good],
    ];
    let shown = |arguments: &[&str]| {
        let output = program().args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).unwrap();
        let text = text.replace(folder.path().to_str().unwrap(), "FOLDER");
        let arguments = arguments
            .join(" ")
            .replace(folder.path().to_str().unwrap(), "FOLDER");
        let arguments = arguments.replace(env!("CARGO_MANIFEST_DIR"), "PROJECT");
        format!(
            "$ shell-escalation {arguments}\n{text}[{}]\n\n",
            output.status.code().unwrap()
        )
    };
    insta::assert_snapshot!(cases.map(shown).concat());
}

#[test]
fn a_proc_of_another_pid_namespace_is_noticed_before_anything_is_started() {
    // A namespace of its own, but the /proc of this one.
    let run = stock("echo ran");
    let mut outside = Command::new("unshare");
    outside.args(["--user", "--map-root-user", "--pid", "--fork"]);
    outside.arg(run.get_program()).args(run.get_args());
    let output = outside.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("/proc belongs to another pid namespace"),
        "{errors}"
    );
    assert_eq!((output.stdout, output.status.success()), (Vec::new(), false));
}
