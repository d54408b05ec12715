//! Every method of the harness protocol.

use std::time::Duration;

use serde_json::json;

use super::harness::Shim;
use super::support::processes::gone_within;
use super::support::wrapper::null;

#[test]
fn it_says_who_it_is_and_what_it_can() {
    let mut shim = Shim::start();
    let answer = shim
        .call(
            "initialize",
            &json!({"protocol": 1, "suite": {"name": "t", "version": "0"}}),
        )
        .unwrap();
    assert_eq!(answer["protocol"], 1);
    assert_eq!(answer["implementation"]["name"], "shell-escalation");
    assert_eq!(
        answer["capabilities"],
        json!([
            "session",
            "cancel",
            "exec",
            "unrelated",
            "signals",
            "bytes",
            "umask",
            "stopped",
            "group",
            "inherited",
            "terminals",
            "approvals",
            "tools"
        ])
    );
}

#[test]
fn unknown_methods_sessions_and_processes_are_errors() {
    let mut shim = Shim::start();
    assert_eq!(shim.call("nonsense", &json!({})), Err(-32601));
    for method in ["session/close", "session/cancel", "session/spawn", "session/wait"] {
        let params = json!({"session": "x", "pid": 1, "argv": ["/bin/true"], "cwd": "/", "env": {}});
        assert_eq!(shim.call(method, &params), Err(-32602), "{method}");
    }
    assert_eq!(shim.call("process/wait", &json!({"pid": 1})), Err(-32602));
    shim.send_line("{");
    let complaint = shim.wait_for(|message| message["id"].is_null());
    assert_eq!(complaint["error"]["code"], -32700);
    assert_eq!(shim.call("session/start", &json!({"session": "x"})), Err(-32602));
}

#[test]
fn decisions_go_to_the_suite_and_back() {
    let mut shim = Shim::start();
    let (_, client) = shim.session("s");
    let answers = [
        (json!({"action": "run"}), Some(json!({"action": "Run"}))),
        (json!({"action": "escalate"}), Some(json!({"action": "Escalate"}))),
        (
            json!({"action": "deny", "reason": "x"}),
            Some(json!({"action": {"Deny": {"reason": "x"}}})),
        ),
        (
            json!({"action": "deny", "reason": null}),
            Some(json!({"action": {"Deny": {"reason": null}}})),
        ),
        (json!({"action": "explode"}), None),
    ];
    for (answer, expected) in answers {
        let mut stream = client.request(&["/bin/true", "é\n\""]);
        let (id, params) = shim.question();
        assert_eq!(
            params,
            json!({"session": "s", "program": "/bin/true", "argv": ["/bin/true", "é\n\""], "workdir": "/",
                   "env": {"PATH": "/usr/bin:/bin"}})
        );
        shim.decide(id, &answer);
        assert_eq!(stream.try_receive(), expected);
    }
    let mut stream = client.request(&["/bin/true"]);
    let (id, _) = shim.question();
    shim.send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": 1, "message": "broken"}}));
    assert_eq!(stream.try_receive(), None);
    // An answered question is not withdrawn afterwards.
    shim.call("initialize", &json!({})).unwrap();
    assert!(!shim.has_said("policy/cancelled"));
}

#[test]
fn a_question_that_is_no_longer_needed_is_withdrawn() {
    let mut shim = Shim::start();
    let (_, client) = shim.session("s");
    let stream = client.request(&["/bin/true"]);
    let (id, _) = shim.question();
    drop(stream);
    let notice = shim.wait_for(|message| message["method"] == "policy/cancelled");
    assert_eq!(notice["params"], json!({"session": "s", "id": id}));
    assert!(notice.get("id").is_none());
    // A late answer does no harm.
    shim.decide(id, &json!({"action": "run"}));
    let _stream = client.request(&["/bin/true"]);
    let (id, _) = shim.question();
    shim.call("session/close", &json!({"session": "s"})).unwrap();
    shim.wait_for(|message| message["method"] == "policy/cancelled" && message["params"]["id"] == id);
}

#[test]
fn spawned_processes_have_the_given_environment_and_streams() {
    let mut shim = Shim::start();
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, "from the file\n").unwrap();
    std::fs::write(&output, "to be truncated, this is long").unwrap();
    shim.call(
        "session/start",
        &json!({"session": "s", "shell": "/x", "wrapper": "/no/wrapper"}),
    )
    .unwrap();
    let script = "cat; /usr/bin/env; exit 9";
    let spawned = shim.call(
        "session/spawn",
        &json!({"session": "s", "argv": ["/bin/sh", "-c", script], "cwd": "/tmp", "env": {"A": "1", "EXEC_WRAPPER": "old"},
                "stdin": input, "stdout": output, "more": 1}),
    );
    let pid = spawned.unwrap()["pid"].clone();
    let ended = shim
        .call("session/wait", &json!({"session": "s", "pid": pid}))
        .unwrap();
    assert_eq!(ended, json!({"exit_code": 9, "signal": null}));
    let output = std::fs::read_to_string(output).unwrap();
    let mut lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.remove(0), "from the file");
    lines.retain(|line| !line.starts_with("PWD=") && !line.starts_with("CODEX_ESCALATE_SOCKET="));
    lines.sort_unstable();
    // Some shells export a few variables of their own.
    lines
        .retain(|line| !line.starts_with("_=") && !line.starts_with("OLDPWD") && !line.starts_with("SHLVL="));
    assert_eq!(lines, ["A=1", "EXEC_WRAPPER=/no/wrapper"]);
}

#[test]
fn the_shim_raises_its_limit_of_open_files_but_not_that_of_what_it_spawns() {
    let mut shim = Shim::start_with_open_files(123);
    let folder = tempfile::tempdir().unwrap();
    shim.call(
        "session/start",
        &json!({"session": "s", "shell": "/x", "wrapper": "/w"}),
    )
    .unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", shim.child.id())).unwrap();
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let [.., soft, hard, _unit] = open_files.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{open_files}");
    };
    assert_eq!(soft, hard);
    for (spawn, wait) in [
        ("session/spawn", "session/wait"),
        ("process/spawn", "process/wait"),
    ] {
        let output = folder.path().join("out");
        let params = json!({"session": "s", "argv": ["/bin/sh", "-c", "ulimit -Sn"], "cwd": "/", "env": {},
                            "stdout": output});
        let pid = shim.call(spawn, &params).unwrap()["pid"].clone();
        shim.call(wait, &json!({"session": "s", "pid": pid})).unwrap();
        assert_eq!(std::fs::read_to_string(output).unwrap(), "123\n", "{spawn}");
    }
}

#[test]
fn unrelated_processes_run_and_end() {
    let mut shim = Shim::start();
    let spawned = shim
        .call(
            "process/spawn",
            &json!({"argv": ["/bin/sleep", "600"], "cwd": "/", "env": {}}),
        )
        .unwrap();
    let pid = i32::try_from(spawned["pid"].as_i64().unwrap()).unwrap();
    let waiting = shim.ask("process/wait", &json!({"pid": pid}));
    // A pending request does not delay others.
    assert!(shim.call("initialize", &json!({})).is_ok());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(shim.answer(waiting), Ok(json!({"exit_code": null, "signal": 15})));
    assert_eq!(
        shim.call(
            "process/spawn",
            &json!({"argv": ["/no/program"], "cwd": "/", "env": {}})
        ),
        Err(-32000)
    );
}

#[test]
fn one_shots_run_and_time_out() {
    let mut shim = Shim::start();
    let params = |command: &str, timeout: u32| {
        json!({"session": "e", "shell": "/bin/sh", "wrapper": "/no/wrapper", "command": command, "workdir": "/tmp",
               "env": {"PATH": "/usr/bin:/bin"}, "login": false, "timeout_ms": timeout})
    };
    let result = shim
        .call("exec", &params("pwd; echo e >&2; exit 3", 60_000))
        .unwrap();
    assert_eq!(
        result,
        json!({"exit_code": 3, "stdout": "/tmp\n", "stderr": "e\n", "timed_out": false})
    );
    // Within its time it has to say who it is.
    let result = shim.call("exec", &params("echo $$; sleep 600", 2_000)).unwrap();
    assert_eq!(result["timed_out"], true);
    let pid = result["stdout"].as_str().unwrap().trim().parse().unwrap();
    assert!(gone_within(pid, Duration::ZERO));
}

#[test]
fn a_one_shot_can_be_cancelled() {
    let mut shim = Shim::start();
    let params = json!({"session": "e", "shell": "/bin/sh", "wrapper": "/w", "command": "sleep 600", "workdir": "/",
                        "env": {"PATH": "/bin"}, "login": false});
    let running = shim.ask("exec", &params);
    shim.call("initialize", &json!({})).unwrap();
    super::support::processes::eventually("the session is known", || {
        shim.call("session/cancel", &json!({"session": "e"})).is_ok()
    });
    assert_eq!(shim.answer(running).unwrap()["exit_code"], 137);
}

#[test]
fn the_end_of_input_is_the_end_of_everything() {
    let mut shim = Shim::start();
    let (shell, client) = shim.session("s");
    let null = null();
    let mut stream = client.request(&["/bin/sh", "-c", "sleep 600 & wait"]);
    shim.escalate();
    assert_eq!(stream.receive(), json!({"action": "Escalate"}));
    stream.send_descriptors(&[(&null, 0), (&null, 1)]);
    assert_eq!(shim.end(), 0);
    assert_eq!(stream.try_receive(), None);
    assert!(gone_within(shell, Duration::ZERO));
}

#[test]
fn shutdown_is_answered_and_ends_with_status_0() {
    let mut shim = Shim::start();
    let _session = shim.session("s");
    assert_eq!(shim.call("shutdown", &json!({})), Ok(json!({})));
    assert_eq!(shim.child.wait().unwrap().code(), Some(0));
}
