//! Terminals of a host in a process of its own.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::harness::Shim;
use super::support::chain;
use super::support::processes::{children, descriptors, eventually, gone_within};

/// How much more memory the host may have after a thousand terminals, in KiB. Allocators keep some.
const MEMORY: u64 = 4 * 1024;

/// What is left running: in the background, and in a session of its own. Each line is a pid.
const TREE: &str = "trap '' HUP TERM; sleep 600 & echo $!; (setsid sh -c 'echo $$; sleep 600 & echo $!; wait' &); echo $$; sleep 600";

fn tty() -> Value {
    json!({"rows": 24, "columns": 80})
}

fn open(shim: &mut Shim, argv: &[&str], more: &Value) -> u64 {
    let mut params = json!({"session": "t", "argv": argv, "cwd": "/", "env": {"PATH": "/usr/bin:/bin"}});
    let members = more.as_object().unwrap().clone();
    params.as_object_mut().unwrap().extend(members);
    let opened = shim.call("terminal/open", &params).unwrap();
    opened["terminal"].as_u64().unwrap()
}

/// Reads as many numbers as that.
fn numbers(shim: &mut Shim, terminal: u64, count: usize) -> Vec<i32> {
    let mut text = String::new();
    while text.matches('\n').count() < count {
        let read = shim
            .call("terminal/read", &json!({"terminal": terminal, "wait_ms": 10_000}))
            .unwrap();
        assert_eq!(read["ended"], Value::Null, "{text}");
        let data = BASE64_STANDARD.decode(read["data"].as_str().unwrap()).unwrap();
        assert!(!data.is_empty(), "no more than {text:?}");
        text += std::str::from_utf8(&data).unwrap();
    }
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

/// Resident memory of the host in KiB.
fn memory(shim: &Shim) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", shim.child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn a_killed_host_s_terminals_end_with_all_that_was_started_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let shell = chain::shell(folder.path());
    let escalated = format!("/bin/sh sh -c \"{}\"", TREE.replace('$', "\\$"));
    for streams in [json!({}), json!({"tty": tty()})] {
        let mut shim = Shim::start();
        let mut pids = Vec::new();
        let direct = open(&mut shim, &["/bin/sh", "-c", TREE], &streams);
        pids.extend(numbers(&mut shim, direct, 4));
        let mut wrapped = json!({"shell": shell, "wrapper": chain::wrapper()});
        wrapped
            .as_object_mut()
            .unwrap()
            .extend(streams.as_object().unwrap().clone());
        wrapped["session"] = json!("w");
        let wrapped = open(&mut shim, &[shell.to_str().unwrap(), "-c", &escalated], &wrapped);
        let (id, question) = shim.question();
        assert_eq!(question["session"], "w");
        shim.decide(id, &json!({"action": "escalate"}));
        pids.extend(numbers(&mut shim, wrapped, 4));
        assert_eq!(pids.len(), 8);
        // Leaders, guardian, keepers, supervisors.
        let of_host = children(shim.child.id());
        shim.child.kill().unwrap();
        for pid in pids.into_iter().chain(of_host) {
            assert!(gone_within(pid, Duration::from_secs(5)), "{pid} lives on");
        }
    }
}

#[test]
fn nothing_is_left_of_a_thousand_terminals() {
    let folder = tempfile::tempdir().unwrap();
    let shell = chain::shell(folder.path());
    let mut shim = Shim::start();
    let held = |shim: &Shim| {
        (
            descriptors(shim.child.id()).len(),
            children(shim.child.id()).len(),
        )
    };
    let round = |shim: &mut Shim, number: usize| {
        let mut more = match number % 2 {
            0 => json!({"tty": tty()}),
            _ => json!({}),
        };
        let shell = shell.to_str().unwrap();
        let argv = match number % 4 {
            // Ended before it is closed, and not.
            0 => vec!["/bin/true"],
            1 => vec!["/bin/sleep", "600"],
            _ => {
                more["shell"] = json!(shell);
                more["wrapper"] = json!(chain::wrapper());
                vec![shell, "-c", ":exec sleep 600"]
            }
        };
        let terminal = open(shim, &argv, &more);
        shim.call("terminal/close", &json!({"terminal": terminal}))
            .unwrap();
    };
    for number in 0..50 {
        round(&mut shim, number);
    }
    let (before, memory_before) = (held(&shim), memory(&shim));
    for number in 0..1000 {
        round(&mut shim, number);
    }
    // Less is no leak: what was closed just before may still have been held then.
    eventually("descriptors and children are no more than before", || {
        let now = held(&shim);
        now.0 <= before.0 && now.1 <= before.1
    });
    let memory_after = memory(&shim);
    assert!(
        memory_after < memory_before + MEMORY,
        "{memory_before} KiB, then {memory_after} KiB"
    );
}
