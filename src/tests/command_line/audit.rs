//! The audit log where it can't be written, and where the server is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::assert::OutputAssertExt;
use tempfile::TempDir;

use super::run::{program, run};

const SOME: &str = "default = \"run\"\n[[rule]]\nprogram = \"/bin/echo\"\naction = \"escalate\"\n";

fn audited(folder: &TempDir, policy: &str, log: &Path, command: &str) -> Command {
    let plain = run(folder, policy, command);
    let arguments: Vec<_> = plain.get_args().collect();
    let mut audited = program();
    audited
        .arg(arguments[0])
        .arg("--audit")
        .arg(log)
        .args(&arguments[1..]);
    audited
}

#[test]
fn what_cannot_be_recorded_is_not_escalated() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "/bin/echo echo outside\n/bin/cat cat /proc/sys/kernel/ostype";
    audited(&folder, SOME, Path::new("/dev/full"), lines)
        .assert()
        .success()
        .stdout("Linux\n")
        .stderr("Execution denied: the audit log cannot be written: No space left on device (os error 28)\n");
}

#[test]
fn the_start_of_a_command_is_on_record_when_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let script = folder.path().join("waits");
    super::support::chain::script(&script, "#!/bin/sh\necho started\nexec sleep 600\n");
    let policy = "default = \"escalate\"\n";
    let line = format!("{} waits", script.display());
    let mut server = audited(&folder, policy, &log, &line)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    let mut started = String::new();
    output.read_line(&mut started).unwrap();
    assert_eq!(started, "started\n");
    server.kill().unwrap();
    server.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(line["event"], "start");
    assert_eq!(line["argv"], serde_json::json!(["waits"]));
}

#[test]
fn what_was_taken_out_of_an_environment_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let lines = ":export GIT_SSH_COMMAND=secret-value\n/bin/echo echo one\n/bin/echo echo two";
    let policy = format!("{SOME}say_env = true\n");
    let mut command = audited(&folder, &policy, &log, lines);
    let environment = [("PATH", "/usr/bin:/bin"), ("OTHER", "1"), ("HOME", "/")];
    let output = command.env_clear().envs(environment).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let said = "shell-escalation: line 2 of the policy does not pass on to /bin/echo: GIT_SSH_COMMAND, TMPDIR, OTHER";
    assert!(error.starts_with(said) && error.lines().count() == 1, "{error}");
    assert_eq!(output.stdout, b"one\ntwo\n");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("secret-value"), "{text}");
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let names = line["env_removed"].as_array().unwrap();
        assert!(
            names.contains(&"GIT_SSH_COMMAND".into()) && names.contains(&"OTHER".into()),
            "{line}"
        );
    }
    let plain = audited(&folder, SOME, &log, lines);
    let mut logged = program();
    logged.args(["--log", "info"]).args(plain.get_args());
    let output = logged.env_clear().envs(environment).output().unwrap();
    let logged = String::from_utf8(output.stderr).unwrap();
    assert!(logged.contains("names=[\"GIT_SSH_COMMAND\", "), "{logged}");
}

#[test]
fn what_a_script_finds_as_its_name_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display();
    let script = folder.path().join("configure");
    super::support::chain::script(&script, "#!/bin/sh\necho \"$0\"\n");
    std::fs::copy("/bin/true", folder.path().join("binary")).unwrap();
    let lines = format!("{here}/configure configure\n{here}/binary binary");
    for (more, in_place) in [("", false), ("in_place = true\n", true)] {
        let log = folder.path().join(format!("audit-{in_place}"));
        let policy = format!(
            "default = \"run\"\n[[rule]]\nprogram = \"{here}/*\"\naction = \"escalate\"\nreplaceable = true\n{more}"
        );
        let plain = audited(&folder, &policy, &log, &lines);
        let mut logged = program();
        logged.args(["--log", "info"]).args(plain.get_args());
        let output = logged.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let name = String::from_utf8(output.stdout).unwrap();
        assert_eq!(name == format!("{}\n", script.display()), in_place, "{name}");
        assert_eq!(
            said.contains("a script finds /dev/fd/N as its $0"),
            !in_place,
            "{said}"
        );
        let text = std::fs::read_to_string(&log).unwrap();
        let records: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(records.len(), 4, "{text}");
        for line in &records {
            let of_script = line["program"] == script.to_str().unwrap();
            let by_descriptor = of_script && line["event"] == "end" && !in_place;
            let told = |yes: bool| if yes { true.into() } else { serde_json::Value::Null };
            assert_eq!(line["in_place"], told(in_place), "{line}");
            assert_eq!(line["by_descriptor"], told(by_descriptor), "{line}");
        }
    }
}
