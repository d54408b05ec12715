//! Clients that break off, answer nonsense, or don't read.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Client, hello, server};
use super::support::processes::{gone_within, with_marker};

const PROMPT: &str = "default = \"run\"\n[[rule]]\nprogram = \"/usr/bin/touch\"\naction = \"prompt\"\n";

#[test]
fn an_answer_that_is_not_one_to_a_question_denies_with_a_reason() {
    for (answer, reason) in [
        (json!({}), "the MCP client's answer is not one to a question"),
        (json!(5), "the MCP client's answer is not one to a question"),
        (
            json!({"action": "yes"}),
            "the MCP client's answer is not one to a question",
        ),
        (
            json!({"action": "accept"}),
            "the MCP client's answer has no decision",
        ),
        (
            json!({"action": "accept", "content": {"decision": ["approve"]}}),
            "the MCP client's answer has no decision",
        ),
    ] {
        let mut client = Client::with_shell_tool(PROMPT, &json!({"elicitation": {}}), &[]);
        let call = client.start_call("shell_command", json!({"command": "/usr/bin/touch file"}));
        let form = client.form(call);
        client.reply(&form, answer.clone());
        let result = client.result(call);
        assert_eq!(
            result["structuredContent"]["stderr"],
            format!("Execution denied: not approved: {reason}\n"),
            "{answer}"
        );
        assert!(!client.folder.path().join("file").exists());
        assert_eq!(client.end(), Some(0));
    }
}

/// A server of which more has been asked than it can answer unread, with a command that goes on.
struct Flooded {
    server: Child,
    commands: Vec<i32>,
    _folder: TempDir,
}

impl Flooded {
    fn start() -> Self {
        let (folder, mut command) = server("default = \"run\"\n", &[]);
        let server = command.spawn().unwrap();
        let fifo = folder.path().join("begun");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let say = |message: Value| writeln!(server.stdin.as_ref().unwrap(), "{message}").unwrap();
        say(
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello("2025-06-18", &json!({}))}),
        );
        say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        // Some 5 KiB each, of which a pipe holds 64.
        for id in 2..42 {
            say(json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}));
        }
        let lives_on = format!("echo > {}; sleep 600; :", fifo.display());
        let arguments = json!({"cmd": format!("sh -c '{lives_on}'"), "yield_time_ms": 0});
        let params = json!({"name": "exec_command", "arguments": arguments});
        say(json!({"jsonrpc": "2.0", "id": 42, "method": "tools/call", "params": params}));
        std::fs::read(&fifo).unwrap();
        let commands = with_marker(&fifo.display().to_string());
        assert!(!commands.is_empty());
        Self {
            server,
            commands,
            _folder: folder,
        }
    }

    /// How the server ends, and how long that takes; by then all commands have ended as well.
    fn end(mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        let status = self.server.wait().unwrap();
        for pid in self.commands {
            assert!(gone_within(pid, Duration::ZERO), "{pid} lives on");
        }
        (status.code(), started.elapsed())
    }
}

#[test]
fn a_client_that_reads_nothing_is_left_when_it_has_said_its_last() {
    let mut flooded = Flooded::start();
    drop(flooded.server.stdin.take());
    let unread = flooded.server.stdout.take();
    let (code, took) = flooded.end();
    drop(unread);
    assert_eq!(code, Some(125));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_client_that_can_no_longer_be_answered_is_left() {
    let mut flooded = Flooded::start();
    // Waiting closes it otherwise.
    let _input = flooded.server.stdin.take();
    let mut output = BufReader::new(flooded.server.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    let (code, took) = flooded.end();
    assert_eq!(code, Some(125));
    assert!(took < Duration::from_secs(10), "{took:?}");
}
