//! What puts a sandbox on, and which commands of a line get out of it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::sandbox::{Chain, client, run, text};
use super::support::chain;
use super::support::repository::repository;

#[test]
fn of_a_line_only_the_command_that_a_rule_names_leaves_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let outside = repository(folder.path());
    let policy = outside.path().join("policy.toml");
    // Nothing connects to it, unless the second command leaves the sandbox as well.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let line = format!(
        "/usr/bin/git push --quiet origin HEAD && echo pushed && /usr/bin/python3 -c '{}'",
        client(port)
    );
    let run = |rule: &str| {
        fs::write(&policy, format!("default = \"run\"\n{rule}")).unwrap();
        let output = run(folder.path(), &["--policy", policy.to_str().unwrap()], &line);
        assert!(!output.status.success());
        (text(&output.stdout), text(&output.stderr))
    };
    let (printed, errors) = run("");
    assert_eq!(printed, "", "{errors}");
    let (printed, errors) = run("[[rule]]\nprogram = \"git\"\nargv = [\"push\"]\naction = \"escalate\"\n");
    assert_eq!(printed, "pushed\n", "{errors}");
    assert!(errors.contains("Operation not permitted"), "{errors}");
    assert!(listener.accept().is_err(), "something has connected");
    assert!(outside.path().join("bare.git/refs/heads/main").exists());
}

/// Copies of the server and of its launcher in a folder.
fn installed(folder: &Path) -> PathBuf {
    for (file, name) in [
        (env!("CARGO_BIN_EXE_shell-escalation"), "shell-escalation"),
        (
            env!("CARGO_BIN_EXE_shell-escalation-sandbox"),
            "shell-escalation-sandbox",
        ),
    ] {
        // By another process: see `chain::script`.
        assert!(
            Command::new("cp")
                .arg(file)
                .arg(folder.join(name))
                .status()
                .unwrap()
                .success()
        );
    }
    folder.join("shell-escalation")
}

#[test]
fn the_launcher_beside_the_server_confines_unless_a_sandbox_may_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let server = installed(outside.path());
    let run = |workspace: &Path| {
        let chain = Chain::patched();
        let mut run = Command::new(&server);
        run.current_dir(workspace).args(["run", "--no-login", "--shell"]);
        run.arg(&chain.shell).arg("--wrapper").arg(&chain.wrapper);
        run.args(["--", "touch here; touch /etc/x || echo kept"]);
        run
    };
    let confined = run(folder.path()).output().unwrap();
    assert_eq!(text(&confined.stdout), "kept\n", "{}", text(&confined.stderr));
    let beside = outside.path().join("shell-escalation-sandbox");
    // It is the one that is executed...
    let broken = |workspace: &Path| {
        let mut run = run(workspace);
        chain::script(&beside, "#!/bin/sh\necho unconfined\n");
        run.output().unwrap()
    };
    assert_eq!(text(&broken(folder.path()).stdout), "unconfined\n");
    // ... but not where a sandboxed command could have put another one in its place.
    let own = broken(outside.path());
    assert_eq!(text(&own.stdout), "kept\n", "{}", text(&own.stderr));
}

#[test]
fn a_launcher_of_another_version_starts_nothing() {
    let plan = |version: &str| {
        format!(
            "{{\"version\":\"{version}\",\"name\":\"none\",\"read\":[{{\"Unix\":[47]}}],\"write\":[],\"protected\":[],\
             \"network\":false,\"strict\":false,\"says\":false}}"
        )
    };
    let launch = |plan: &str| {
        let target = "{\"file\":\"/bin/echo\",\"opened\":null,\"keep\":[0,1,2]}"
            .replace("\"/bin/echo\"", "{\"Unix\":[47,98,105,110,47,101,99,104,111]}");
        Command::new(env!("CARGO_BIN_EXE_shell-escalation-sandbox"))
            .args(["__sandbox", plan, &target, "0", "echo", "started"])
            .output()
            .unwrap()
    };
    let same = launch(&plan(env!("CARGO_PKG_VERSION")));
    assert_eq!(text(&same.stdout), "started\n", "{}", text(&same.stderr));
    let another = launch(&plan("0.0.1"));
    assert_eq!(
        (another.status.code(), text(&another.stdout).as_str()),
        (Some(125), "")
    );
    assert!(text(&another.stderr).contains("was executed by version 0.0.1: install both"));
    // Nor does one that doesn't know all that it is told.
    let more = launch(&plan(env!("CARGO_PKG_VERSION")).replace("\"read\"", "\"unknown\":1,\"read\""));
    assert_eq!((more.status.code(), text(&more.stdout).as_str()), (Some(125), ""));
    let alone = Command::new(env!("CARGO_BIN_EXE_shell-escalation-sandbox"))
        .output()
        .unwrap();
    assert_eq!(alone.status.code(), Some(2));
}
