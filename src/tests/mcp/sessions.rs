//! `exec_command`, `write_stdin`, `control_session` and `list_sessions`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, text};
use super::support::processes::{gone_within, with_marker};

const RUN: &str = "default = \"run\"\n";

fn plain() -> Client {
    Client::start(RUN, &json!({}), &[])
}

/// The id of a command that is still running.
fn session(result: &Value) -> u64 {
    result["structuredContent"]["session_id"]
        .as_u64()
        .unwrap_or_else(|| panic!("no session: {result}"))
}

fn output(result: &Value) -> &str {
    result["structuredContent"]["output"]
        .as_str()
        .unwrap_or_else(|| panic!("no output: {result}"))
}

/// The output of a call and of as many more as it takes to see so many bytes of a command that goes on.
fn seen_of(client: &mut Client, result: &Value, bytes: usize) -> String {
    let id = session(result);
    let mut seen = output(result).to_owned();
    while seen.len() < bytes {
        let more = client.call("write_stdin", json!({"session_id": id, "yield_time_ms": 100}));
        session(&more);
        assert_eq!(more["structuredContent"]["bytes_replaced"], false, "{more}");
        seen.push_str(output(&more));
    }
    seen
}

#[test]
fn a_command_that_ends_in_time_leaves_no_session() {
    let mut client = plain();
    let result = client.call("exec_command", json!({"cmd": "echo out; echo error >&2; exit 3"}));
    let data = &result["structuredContent"];
    assert_eq!((output(&result), &data["exit_code"]), ("out\nerror\n", &json!(3)));
    assert!(data.get("session_id").is_none(), "{data}");
    let text = text(&result);
    assert!(
        text.starts_with("Exit code: 3\nWall time: ") && text.ends_with("Output:\nout\nerror\n"),
        "{text}"
    );
    let list = client.call("list_sessions", json!({}));
    assert_eq!(list["structuredContent"]["sessions"], json!([]));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_command_that_goes_on_is_waited_for_and_typed_into() {
    let mut client = plain();
    let reads = "while read -r line; do echo \"got $line\"; done; echo bye; exit 4";
    let result = client.call("exec_command", json!({"cmd": reads, "yield_time_ms": 100}));
    let id = session(&result);
    let list = client.call("list_sessions", json!({}));
    assert_eq!(
        list["structuredContent"]["sessions"],
        json!([{"session_id": id, "command": reads, "tty": false, "running": true}])
    );
    let typed = json!({"session_id": id, "chars": "one\ntwo\n", "yield_time_ms": 500});
    let result = client.call("write_stdin", typed);
    assert_eq!(result["structuredContent"]["input_taken"], true);
    let seen = seen_of(&mut client, &result, "got two\n".len() * 2);
    assert_eq!(seen, "got one\ngot two\n");
    let closed = client.call("control_session", json!({"session_id": id, "action": "close"}));
    assert_eq!(closed["structuredContent"]["action"], "close");
    let gone = client.call("write_stdin", json!({"session_id": id, "chars": "three\n"}));
    assert_eq!(gone["isError"], true);
    assert!(
        text(&gone).contains(&format!("there is no session {id}")),
        "{gone}"
    );
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_terminal_is_one_and_is_interrupted_and_resized() {
    let mut client = plain();
    // Whichever of its processes is there when it is interrupted, what sleeps ends by that.
    let command = "trap : INT; sh -c 'stty size; exec sleep 600'; echo \"slept $?\"; stty size; \
                   read -r answer; echo \"answer $answer\"";
    let result = client.call(
        "exec_command",
        json!({"cmd": command, "tty": true, "yield_time_ms": 20_000}),
    );
    assert_eq!(output(&result), "24 80\r\n");
    let id = session(&result);
    let resize = json!({"session_id": id, "action": "resize", "rows": 50, "columns": 132});
    assert_eq!(client.call("control_session", resize)["isError"], false);
    let interrupted = client.call(
        "control_session",
        json!({"session_id": id, "action": "interrupt"}),
    );
    assert_eq!(interrupted["isError"], false, "{interrupted}");
    let mut seen = String::new();
    while !seen.contains("50 132") {
        let result = client.call("write_stdin", json!({"session_id": id, "yield_time_ms": 20_000}));
        seen.push_str(output(&result));
        session(&result);
    }
    assert!(seen.contains("slept 130"), "{seen:?}");
    let result = client.call(
        "write_stdin",
        json!({"session_id": id, "chars": "yes\n", "yield_time_ms": 20_000}),
    );
    let mut seen = output(&result).to_owned();
    let mut last = result;
    while last["structuredContent"].get("exit_code").is_none() {
        last = client.call("write_stdin", json!({"session_id": id, "yield_time_ms": 20_000}));
        seen.push_str(output(&last));
    }
    assert!(seen.contains("answer yes"), "{seen:?}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_session_that_is_closed_or_left_ends_with_all_that_it_started() {
    for closes in [true, false] {
        let mut client = plain();
        let marker = client.folder.path().join("marker").display().to_string();
        let command = format!("setsid sh -c 'echo begun; : {marker}; sleep 600; :' & wait");
        let result = client.call(
            "exec_command",
            json!({"cmd": command, "tty": true, "yield_time_ms": 20_000}),
        );
        assert_eq!(output(&result), "begun\r\n");
        let processes = with_marker(&marker);
        assert!(!processes.is_empty());
        let started = Instant::now();
        if closes {
            let id = session(&result);
            let closed = client.call("control_session", json!({"session_id": id, "action": "close"}));
            assert_eq!(closed["isError"], false, "{closed}");
            assert!(
                processes.iter().all(|pid| gone_within(*pid, Duration::ZERO)),
                "{processes:?}"
            );
        }
        assert_eq!(client.end(), Some(0));
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        for pid in processes {
            assert!(gone_within(pid, Duration::ZERO), "{pid} lives on");
        }
    }
}

#[test]
fn a_call_that_is_taken_back_leaves_no_session_that_the_client_does_not_know() {
    let mut client = plain();
    let marker = client.folder.path().join("ready").display().to_string();
    nix::unistd::mkfifo(marker.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let command = format!("sh -c 'echo > {marker}; sleep 600; :'");
    let call = client.start_call("exec_command", json!({"cmd": command, "yield_time_ms": 60_000}));
    std::fs::read(&marker).unwrap();
    let processes = with_marker(&marker);
    client.notify("notifications/cancelled", json!({"requestId": call}));
    for pid in processes {
        assert!(gone_within(pid, Duration::from_secs(20)), "{pid} lives on");
    }
    assert_eq!(
        client.call("list_sessions", json!({}))["structuredContent"]["sessions"],
        json!([])
    );
    assert_eq!(client.end(), Some(0));
}

#[test]
fn what_a_call_that_was_taken_back_has_seen_is_returned_by_the_next() {
    let mut client = plain();
    let command = "read -r; echo one; read -r; echo two";
    let result = client.call("exec_command", json!({"cmd": command, "yield_time_ms": 0}));
    let id = session(&result);
    let arguments = json!({"session_id": id, "chars": "\n", "yield_time_ms": 200_000});
    let call = client.ask(
        "tools/call",
        json!({"name": "write_stdin", "arguments": arguments, "_meta": {"progressToken": "waits"}}),
    );
    // By then it has taken what was written at once.
    client.notification("notifications/progress");
    client.notify("notifications/cancelled", json!({"requestId": call}));
    let result = client.call(
        "write_stdin",
        json!({"session_id": id, "chars": "\n", "yield_time_ms": 20_000}),
    );
    assert_eq!(output(&result), "one\ntwo\n");
    assert_eq!(result["structuredContent"]["exit_code"], 0);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_character_that_is_written_in_two_parts_is_shown_whole() {
    let mut client = plain();
    let command = "printf 'a\\303'; read -r; printf '\\251b\\303'";
    let result = client.call("exec_command", json!({"cmd": command, "yield_time_ms": 100}));
    assert_eq!(result["structuredContent"]["bytes_replaced"], false);
    assert_eq!(seen_of(&mut client, &result, 1), "a");
    let id = session(&result);
    let result = client.call(
        "write_stdin",
        json!({"session_id": id, "chars": "\n", "yield_time_ms": 20_000}),
    );
    // Of what ends in the middle of a character, nothing more comes.
    assert_eq!(output(&result), "éb\u{fffd}");
    assert_eq!(result["structuredContent"]["bytes_replaced"], true);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn output_is_bounded_and_what_was_left_out_is_counted() {
    let mut client = plain();
    let command = "printf start; head -c 5000000 /dev/zero | tr '\\0' x; printf end";
    let result = client.call(
        "exec_command",
        json!({"cmd": command, "max_output_tokens": 100, "yield_time_ms": 60_000}),
    );
    let shown = output(&result);
    assert!(shown.starts_with("startx") && shown.ends_with("xend"), "{shown}");
    let left_out = result["structuredContent"]["bytes_left_out"].as_u64().unwrap();
    assert_eq!(left_out, 5_000_008 - 400);
    assert!(
        shown.contains(&format!(
            "[... {left_out} bytes left out here, about 1249902 tokens ...]"
        )),
        "{shown}"
    );
    // One that never stops writing does not keep the call.
    let started = Instant::now();
    let result = client.call(
        "exec_command",
        json!({"cmd": "yes", "max_output_tokens": 10, "yield_time_ms": 300}),
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    let id = session(&result);
    client.call("control_session", json!({"session_id": id, "action": "close"}));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_call_names_no_shell_but_the_configured_one() {
    let mut client = plain();
    let refused = |client: &mut Client, tool: &str, arguments: Value, part: &str| {
        let result = client.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        assert!(text(&result).contains(part), "{result}");
    };
    for shell in ["/bin/sh", "zsh", "/usr/bin/../bin/bash", ""] {
        let arguments = json!({"cmd": "echo ran > ran", "shell": shell});
        refused(&mut client, "exec_command", arguments, "there is no shell");
    }
    assert!(!client.folder.path().join("ran").exists());
    let named = client.call(
        "exec_command",
        json!({"cmd": "echo $EXEC_WRAPPER", "shell": "bash"}),
    );
    assert!(output(&named).starts_with('/'), "{named}");
    let resize = json!({"session_id": 1, "action": "resize", "rows": 5});
    refused(&mut client, "control_session", resize, "both rows and columns");
    let rows = json!({"session_id": 1, "action": "close", "rows": 5, "columns": 5});
    refused(&mut client, "control_session", rows, "are for the action resize");
    refused(
        &mut client,
        "control_session",
        json!({"session_id": 1, "action": "stop"}),
        "unknown variant",
    );
    let long = json!({"cmd": "true", "yield_time_ms": 1_000_000});
    refused(
        &mut client,
        "exec_command",
        long,
        "yield_time_ms is at most 300000",
    );
    let unknown = json!({"session_id": 99, "action": "interrupt"});
    refused(&mut client, "control_session", unknown, "there is no session 99");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_session_is_in_the_sandbox() {
    let mut client = plain();
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("outside");
    for tty in [false, true] {
        let command = format!(
            "echo x > inside && echo x > {}; echo \"$TERM $PAGER\"; touch \"$TMPDIR/x\" && echo temporary",
            outside.display()
        );
        let result = client.call(
            "exec_command",
            json!({"cmd": command, "tty": tty, "yield_time_ms": 20_000}),
        );
        let mut seen = output(&result).to_owned();
        let mut last = result;
        while last["structuredContent"].get("exit_code").is_none() {
            let id = session(&last);
            last = client.call("write_stdin", json!({"session_id": id, "yield_time_ms": 20_000}));
            seen.push_str(output(&last));
        }
        assert!(client.folder.path().join("inside").exists());
        assert!(
            seen.contains("/outside: ") && seen.contains("dumb cat") && seen.contains("temporary"),
            "{seen}"
        );
        assert!(!outside.exists());
        let failed = client.call("exec_command", json!({"cmd": "/bin/false", "tty": tty}));
        let allowed = failed["structuredContent"]["sandbox"].as_str();
        assert!(
            allowed.is_some_and(|allowed| allowed.ends_with("$TMPDIR, and has no network")),
            "{failed}"
        );
        assert!(
            text(&failed).contains("If the sandbox refused it something"),
            "{failed}"
        );
    }
    assert_eq!(client.end(), Some(0));
}
