//! `shell_command`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, text};
use super::support::processes::{gone_within, with_marker};

const RUN: &str = "default = \"run\"\n";

fn plain() -> Client {
    Client::with_shell_tool(RUN, &json!({}), &[])
}

#[test]
fn a_command_returns_status_and_output_as_text_and_as_data() {
    let mut client = plain();
    let result = client.call("shell_command", json!({"command": "pwd; echo error >&2; exit 7"}));
    let data = &result["structuredContent"];
    let folder = client.folder.path().canonicalize().unwrap();
    assert_eq!(data["stdout"], format!("{}\n", folder.display()));
    assert_eq!(
        (&data["stderr"], &data["exit_code"]),
        (&json!("error\n"), &json!(7))
    );
    assert_eq!(
        (&data["timed_out"], &result["isError"]),
        (&json!(false), &json!(false))
    );
    let text = text(&result);
    assert!(text.starts_with("Exit code: 7\nWall time: "), "{text}");
    assert!(text.ends_with("Standard error:\nerror\n"), "{text}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_command_has_a_directory_a_time_and_a_kind_of_shell() {
    let mut client = plain();
    std::fs::create_dir(client.folder.path().join("sub")).unwrap();
    let result = client.call(
        "shell_command",
        json!({"command": "pwd; shopt -q login_shell; echo $?", "workdir": "sub", "login": false}),
    );
    let stdout = result["structuredContent"]["stdout"].as_str().unwrap();
    assert!(stdout.ends_with("/sub\n1\n"), "{stdout}");
    let result = client.call(
        "shell_command",
        json!({"command": "shopt -q login_shell; echo $?"}),
    );
    assert_eq!(result["structuredContent"]["stdout"], "0\n");
    let started = Instant::now();
    let result = client.call(
        "shell_command",
        json!({"command": "echo begun; sleep 600", "timeout_ms": 2_000}),
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    let data = &result["structuredContent"];
    assert_eq!(
        (&data["timed_out"], &data["exit_code"]),
        (&json!(true), &json!(124))
    );
    assert_eq!(data["stdout"], "begun\n");
    let missing = client.call("shell_command", json!({"command": "pwd", "workdir": "missing"}));
    assert_eq!(missing["isError"], true);
    assert!(
        text(&missing).contains("missing: No such file or directory"),
        "{missing}"
    );
    assert_eq!(client.end(), Some(0));
}

#[test]
fn too_much_output_is_cut_and_the_rest_is_counted() {
    let mut client = plain();
    let result = client.call(
        "shell_command",
        json!({"command": "printf start; head -c 1000000 /dev/zero | tr '\\0' x; printf end; printf '\\377' >&2"}),
    );
    let data = &result["structuredContent"];
    let stdout = data["stdout"].as_str().unwrap();
    assert!(
        stdout.starts_with("startxxx") && stdout.ends_with("xxxend"),
        "{stdout}"
    );
    let left_out = data["bytes_left_out"].as_u64().unwrap();
    assert!(
        stdout.contains(&format!("[... {left_out} bytes left out here")),
        "{stdout}"
    );
    assert!(stdout.len() < 41_000 && left_out > 950_000);
    assert_eq!(
        (&data["bytes_replaced"], &data["stderr"]),
        (&json!(true), &json!("\u{fffd}"))
    );
    assert_eq!(client.end(), Some(0));
}

/// More than any message or memory has room for: the command goes on all the same, to its end.
#[test]
fn of_a_hundred_megabytes_the_ends_are_returned() {
    let mut client = plain();
    let result = client.call(
        "shell_command",
        json!({"command": "printf start; head -c 100000000 /dev/zero | tr '\\0' x; printf end; echo error >&2; exit 3"}),
    );
    let data = &result["structuredContent"];
    let stdout = data["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("startxxx") && stdout.ends_with("xxxend"));
    assert_eq!(
        (&data["exit_code"], &data["stderr"]),
        (&json!(3), &json!("error\n"))
    );
    let shown = stdout.matches('x').count() as u64;
    assert_eq!(data["bytes_left_out"].as_u64(), Some(100_000_000 - shown));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_call_that_is_taken_back_ends_with_all_that_it_started() {
    let mut client = plain();
    let folder = client.folder.path().to_owned();
    let marker = folder.join("ready").display().to_string();
    nix::unistd::mkfifo(&folder.join("ready"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let call = client.start_call(
        "shell_command",
        json!({"command": format!("setsid sh -c 'echo {marker} > {marker}; sleep 600; :' & wait"), "timeout_ms": 600_000}),
    );
    std::fs::read(folder.join("ready")).unwrap();
    let processes = with_marker(&marker);
    assert!(processes.len() > 1, "{processes:?}");
    client.notify(
        "notifications/cancelled",
        json!({"requestId": call, "reason": "test"}),
    );
    for pid in processes {
        assert!(gone_within(pid, Duration::from_secs(20)), "{pid} lives on");
    }
    // There is no answer to it, and the next call is served.
    let next = client.call("shell_command", json!({"command": "echo next"}));
    assert_eq!(next["structuredContent"]["stdout"], "next\n");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_client_that_goes_ends_all_that_runs() {
    for goes in ["closes its end", "SIGTERM", "SIGKILL"] {
        let mut client = plain();
        let folder = client.folder.path().to_owned();
        let marker = folder.join("ready").display().to_string();
        nix::unistd::mkfifo(&folder.join("ready"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        client.start_call(
            "shell_command",
            json!({"command": format!("setsid sh -c 'echo > {marker}; sleep 600; :' & wait"), "timeout_ms": 600_000}),
        );
        std::fs::read(folder.join("ready")).unwrap();
        let processes = with_marker(&marker);
        let started = Instant::now();
        let server = nix::unistd::Pid::from_raw(client.server.id().try_into().unwrap());
        match goes {
            "SIGTERM" => nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGTERM).unwrap(),
            "SIGKILL" => nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap(),
            _ => client.close(),
        }
        client.server.wait().unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{goes}: {:?}",
            started.elapsed()
        );
        for pid in processes {
            assert!(
                gone_within(pid, Duration::from_secs(20)),
                "{goes}: {pid} lives on"
            );
        }
    }
}

#[test]
fn a_client_hears_of_a_call_that_takes_its_time() {
    let mut client = plain();
    let call = client.ask(
        "tools/call",
        json!({
            "name": "shell_command",
            "arguments": {"command": "sleep 3"},
            "_meta": {"progressToken": "mine"},
        }),
    );
    let result = client.result(call);
    assert_eq!(result["structuredContent"]["exit_code"], 0);
    let progress = client.notification("notifications/progress");
    assert_eq!(progress["params"]["progressToken"], "mine");
    let message = progress["params"]["message"].as_str().unwrap();
    let seconds = message
        .strip_prefix("running after ")
        .and_then(|rest| rest.strip_suffix(" s"));
    let seconds: u64 = seconds.and_then(|number| number.parse().ok()).expect(message);
    // Later on a machine that stood still meanwhile.
    assert!(seconds >= 2, "{message}");
    assert_eq!(client.end(), Some(0));
}
