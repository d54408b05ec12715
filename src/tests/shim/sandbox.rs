//! `shim --sandbox`: what the suite starts in sessions is confined, however it starts it, and what is escalated is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::harness::Shim;
use super::support::chain;

/// A workspace, a folder beside it, and a command that tries to write to both.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.folder.path().join("work")).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self) -> String {
        let outside = self.path("outside");
        format!("rm -f '{outside}'; touch here && echo here; touch '{outside}' && echo outside; echo end")
    }

    fn params(&self, more: Value) -> Value {
        let mut params = json!({
            "session": "s",
            "shell": "/bin/sh",
            "wrapper": chain::wrapper(),
            "env": {"PATH": "/usr/bin:/bin"},
        });
        let Value::Object(more) = more else {
            panic!("an object: {more}")
        };
        params.as_object_mut().unwrap().extend(more);
        params
    }

    fn of_one_shot(&self, shim: &mut Shim, command: &str) -> String {
        let params = json!({"command": command, "workdir": self.path("work"), "login": false});
        let result = shim.call("exec", &self.params(params)).unwrap();
        result["stdout"].as_str().unwrap().to_owned()
    }

    fn of_session(&self, shim: &mut Shim, command: &str) -> String {
        let output = self.path("output");
        let params = json!({"argv": ["/bin/sh", "-c", command], "cwd": self.path("work"), "stdout": output});
        shim.call("session/start", &self.params(json!({}))).unwrap();
        let pid = shim.call("session/spawn", &self.params(params)).unwrap()["pid"].clone();
        let ended = shim.call("session/wait", &json!({"session": "s", "pid": pid}));
        assert_eq!(ended.unwrap()["exit_code"], 0);
        shim.call("session/close", &json!({"session": "s"})).unwrap();
        fs::read_to_string(output).unwrap()
    }

    fn of_terminal(&self, shim: &mut Shim, command: &str) -> String {
        let params = json!({"argv": ["/bin/sh", "-c", command], "cwd": self.path("work")});
        let opened = shim.call("terminal/open", &self.params(params)).unwrap();
        assert_eq!(opened["wrapped"], true);
        let mut text = String::new();
        loop {
            let read = json!({"terminal": opened["terminal"], "wait_ms": 10_000});
            let read = shim.call("terminal/read", &read).unwrap();
            let data = BASE64_STANDARD.decode(read["data"].as_str().unwrap()).unwrap();
            text += std::str::from_utf8(&data).unwrap();
            if !read["ended"].is_null() {
                return text
                    .lines()
                    .filter(|line| !line.contains(':'))
                    .fold(String::new(), |text, line| text + line + "\n");
            }
        }
    }
}

#[test]
fn shells_are_confined_however_they_are_started() {
    let place = Place::new();
    for (options, expected) in [
        (&["--sandbox", "workspace-write"][..], "here\nend\n"),
        (&["--sandbox", "read-only"], "end\n"),
        (
            &["--sandbox", "workspace-write", "--writable", &place.path("")],
            "here\noutside\nend\n",
        ),
        (&["--sandbox", "full-access"], "here\noutside\nend\n"),
        (&[], "here\noutside\nend\n"),
    ] {
        let mut shim = Shim::start_with(options);
        let command = place.command();
        for (way, output) in [
            ("one-shot", place.of_one_shot(&mut shim, &command)),
            ("session", place.of_session(&mut shim, &command)),
            ("terminal", place.of_terminal(&mut shim, &command)),
        ] {
            assert_eq!(output, expected, "{options:?} {way}");
        }
        assert_eq!(shim.end(), 0);
    }
}

#[test]
fn what_is_escalated_is_not_confined_and_its_shell_has_a_temporary_folder_meanwhile() {
    let place = Place::new();
    let outside = place.path("outside");
    let mut shim = Shim::start_with(&["--sandbox", "workspace-write"]);
    let output = place.path("output");
    let command = format!("\"$EXEC_WRAPPER\" /usr/bin/touch touch '{outside}' && mktemp");
    let params = json!({"argv": ["/bin/sh", "-c", command], "cwd": place.path("work"), "stdout": output});
    shim.call("session/start", &place.params(json!({}))).unwrap();
    let pid = shim.call("session/spawn", &place.params(params)).unwrap()["pid"].clone();
    shim.escalate();
    let ended = shim.call("session/wait", &json!({"session": "s", "pid": pid}));
    assert_eq!(ended.unwrap()["exit_code"], 0);
    assert!(Path::new(&outside).exists());
    let temporary = fs::read_to_string(output).unwrap();
    let temporary = Path::new(temporary.trim());
    let mode = fs::metadata(temporary.parent().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(shim.end(), 0);
    assert!(!temporary.exists());
}

#[test]
fn a_profile_that_is_none_is_refused() {
    for (options, complaint) in [
        (&["--sandbox", "narrow"][..], "--sandbox narrow: no such profile"),
        (&["--writable", "/srv"], "--writable has no effect"),
    ] {
        let mut shim = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
        let output = shim.arg("shim").args(options).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(said.contains(complaint), "{said}");
    }
}
