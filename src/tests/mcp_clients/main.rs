//! `mcp` driven by clients that others have written: the official Python SDK and the official inspector's command line.
//!
//! `make mcp-clients` installs them below `target/`. Without one its test is skipped, and says so.

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tempfile::TempDir;

use support::chain;
use support::processes::with_marker;
use support::repository::repository;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

fn main() {
    let arguments = Arguments::from_args();
    let clients = Path::new(PROJECT).join("target/mcp-clients");
    let python = clients.join("python/bin/python3");
    let inspector = clients.join("inspector/node_modules/.bin/mcp-inspector");
    let is_missing = |what: &str, program: &Path| {
        let missing = !program.is_file();
        if missing {
            eprintln!(
                "SKIPPED: `mcp` is not tested with {what}: {} is missing (`make mcp-clients` installs it)",
                program.display()
            );
        }
        missing
    };
    let without_python = is_missing("the Python SDK", &python);
    let without_inspector = is_missing("the inspector", &inspector);
    let trials = vec![
        Trial::test("the_python_sdk_drives_a_whole_session", move || {
            python_sdk(&python);
            Ok(())
        })
        .with_ignored_flag(without_python),
        Trial::test("the_inspector_finds_and_calls_the_tools", move || {
            inspect(&inspector);
            Ok(())
        })
        .with_ignored_flag(without_inspector),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// A server with a policy, in a folder of its own.
struct Server {
    folder: TempDir,
    command: Vec<String>,
}

impl Server {
    fn new(policy: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, policy).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let command = [
            text(Path::new(env!("CARGO_BIN_EXE_shell-escalation"))),
            "mcp".to_owned(),
            "--policy".to_owned(),
            text(&file),
            "--shell".to_owned(),
            text(&bash()),
            "--wrapper".to_owned(),
            text(&chain::wrapper()),
        ];
        let options = options.iter().map(|&option| option.to_owned());
        Self {
            command: command.into_iter().chain(options).collect(),
            folder,
        }
    }

    /// No process is left that names the folder.
    fn left_nothing(&self) {
        let left = with_marker(self.folder.path().to_str().unwrap());
        assert!(left.is_empty(), "still running: {left:?}");
    }
}

fn bash() -> PathBuf {
    let bash = Path::new(PROJECT).join("target/shells/bash-5.3/bin/bash");
    assert!(bash.is_file(), "{} is built by `make shells`", bash.display());
    bash
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

fn python_sdk(python: &Path) {
    let policy = "default = \"run\"\n\
        [[rule]]\nprogram = \"/usr/bin/git\"\nargv = [\"push\"]\naction = \"prompt\"\nreason = \"publishes\"\n";
    let server = Server::new(policy, &["--no-login"]);
    let outside = repository(server.folder.path());
    let output = succeeds(
        Command::new(python)
            .arg(Path::new(PROJECT).join("src/tests/mcp_clients/agent.py"))
            .arg(bash())
            .args(&server.command)
            .current_dir(server.folder.path())
            .env("HOME", server.folder.path()),
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "asked 1 question\nall done\n");
    assert!(outside.path().join("bare.git/refs/heads/main").exists());
    server.left_nothing();
}

fn inspect(inspector: &Path) {
    let policy = "default = \"run\"\n\
        [[rule]]\nprogram = \"/usr/bin/touch\"\naction = \"prompt\"\n";
    let run = |server: &Server, arguments: &[&str]| {
        succeeds(
            Command::new(inspector)
                .arg("--cli")
                .args(&server.command)
                .args(arguments)
                .current_dir(server.folder.path())
                .env("HOME", server.folder.path()),
        )
    };
    let json = |output: &Output| -> Value {
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let terminals = Server::new(policy, &["--no-login"]);
    let output = run(&terminals, &["--method", "tools/list", "--strict"]);
    assert_eq!(output.stderr, b"", "{}", String::from_utf8_lossy(&output.stderr));
    let listed = json(&output);
    let names: Vec<&str> = listed["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["exec_command", "write_stdin", "control_session", "list_sessions"]
    );
    let call = |server: &Server, tool: &str, argument: &str| {
        let arguments = [
            "--method",
            "tools/call",
            "--tool-name",
            tool,
            "--tool-arg",
            argument,
        ];
        json(&run(server, &arguments))["structuredContent"].clone()
    };
    let ran = call(&terminals, "exec_command", "cmd=echo $((6 * 7))");
    assert_eq!(
        (&ran["output"], &ran["exit_code"]),
        (&"42\n".into(), &0.into()),
        "{ran}"
    );
    terminals.left_nothing();

    let shell = Server::new(policy, &["--no-login", "--tools", "shell"]);
    let denied = call(
        &shell,
        "shell_command",
        "command=/usr/bin/touch file || echo failed",
    );
    assert_eq!(denied["stdout"], "failed\n", "{denied}");
    let reason = denied["stderr"].as_str().unwrap();
    assert!(reason.starts_with("Execution denied: "), "{denied}");
    assert!(!shell.folder.path().join("file").exists());
    shell.left_nothing();
}
