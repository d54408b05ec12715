//! Sockets, descriptors and processes, seen from outside.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::json;

use super::harness::{Shim, descriptor_of};
use super::support::processes::{children, descriptors, eventually, gone_within};
use super::support::wrapper::{null, pipe};

fn sockets_of_shim(shim: &Shim) -> Vec<String> {
    let found = descriptors(shim.child.id());
    found
        .into_iter()
        .map(|(_, target)| target)
        .filter(|target| target.starts_with("socket:"))
        .collect()
}

#[test]
fn only_the_shell_holds_the_client_of_its_session() {
    let mut shim = Shim::start();
    let (first, _) = shim.session("a");
    let (second, _) = shim.session("b");
    let unrelated = shim
        .call(
            "process/spawn",
            &json!({"argv": ["/bin/sleep", "600"], "cwd": "/", "env": {}}),
        )
        .unwrap();
    let of = |pid: i32| -> Vec<String> {
        let found = descriptors(u32::try_from(pid).unwrap());
        found
            .into_iter()
            .map(|(_, target)| target)
            .filter(|target| target.starts_with("socket:"))
            .collect()
    };
    let (first, second) = (of(first), of(second));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    assert!(of(i32::try_from(unrelated["pid"].as_i64().unwrap()).unwrap()).is_empty());
    let shim_holds = sockets_of_shim(&shim);
    assert!(!shim_holds.contains(&first[0]) && !shim_holds.contains(&second[0]));
}

#[test]
fn nothing_is_left_of_many_requests() {
    let mut shim = Shim::start();
    let (_, client) = shim.session("s");
    let mut before = None;
    for round in 0..100 {
        // What the first commands have made is kept for the next ones.
        if round == 10 {
            before = Some(held_at_rest(&shim));
        }
        let mut stream = client.request(&["/bin/true"]);
        let (id, _) = shim.question();
        let action = ["run", "escalate", "deny"][round % 3];
        shim.decide(id, &json!({"action": action}));
        stream.receive();
        if action == "escalate" && round % 2 == 0 {
            stream.send_descriptors(&[(&null(), 0)]);
            assert_eq!(stream.receive(), json!({"exit_code": 0}));
        }
    }
    // It may have been busy for longer than that, the first time.
    let (descriptors, children) = before.unwrap();
    eventually("it holds no more than before", || {
        let now = held(&shim);
        now.0 <= descriptors && now.1 <= children
    });
}

/// How many descriptors and children the shim has.
fn held(shim: &Shim) -> (usize, usize) {
    let pid = shim.child.id();
    (descriptors(pid).len(), children(pid).len())
}

/// The same when it has not changed for a while.
fn held_at_rest(shim: &Shim) -> (usize, usize) {
    const UNCHANGED_LOOKS: u32 = 30;
    let mut last = held(shim);
    let mut unchanged = 0;
    eventually("descriptors and children change no more", || {
        let now = held(shim);
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        unchanged >= UNCHANGED_LOOKS
    });
    last
}

/// For example by a host that forks without exec: its child holds everything that the host holds.
#[test]
fn a_killed_server_is_noticed_even_if_another_process_holds_its_sockets() {
    let mut shim = Shim::start();
    let (shell, client) = shim.session("s");
    let mut stream = client.request(&["/bin/sh", "-c", "echo $$; sleep 600"]);
    shim.escalate();
    assert_eq!(stream.receive(), json!({"action": "Escalate"}));
    let (reader, writer) = pipe();
    stream.send_descriptors(&[(&null(), 0), (&writer, 1)]);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    let pid = shim.child.id();
    let held: Vec<_> = descriptors(pid)
        .into_iter()
        .filter(|(_, target)| target.starts_with("socket:"))
        .map(|(number, _)| descriptor_of(i32::try_from(pid).unwrap(), number))
        .collect();
    assert!(held.len() >= 3, "session, request and supervisor");
    shim.child.kill().unwrap();
    assert!(gone_within(line.trim().parse().unwrap(), Duration::from_secs(1)));
    drop(held);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shell),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[test]
fn a_killed_server_s_fifty_trees_end_within_a_second() {
    let mut shim = Shim::start();
    let (shell, client) = shim.session("s");
    let null = null();
    let script =
        "echo $$; setsid sh -c 'echo $$; sleep 600 & echo $!; trap : HUP TERM; echo done; wait' & wait";
    let mut trees = Vec::new();
    for _ in 0..50 {
        let mut stream = client.request(&["/bin/sh", "-c", script]);
        shim.escalate();
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        let (reader, writer) = pipe();
        stream.send_descriptors(&[(&null, 0), (&writer, 1)]);
        trees.push((stream, reader));
    }
    let mut pids: Vec<i32> = Vec::new();
    let mut streams = Vec::new();
    for (stream, reader) in trees {
        streams.push(stream);
        let lines = BufReader::new(reader)
            .lines()
            .map(Result::unwrap)
            .take_while(|line| line != "done");
        pids.extend(lines.map(|line| line.parse::<i32>().unwrap()));
    }
    assert_eq!(pids.len(), 150);
    // The shell belongs to the test, which had it started.
    let guardian: Vec<i32> = children(shim.child.id())
        .into_iter()
        .filter(|&pid| pid != shell)
        .collect();
    let &[guardian] = &guardian[..] else {
        panic!("{guardian:?}");
    };
    let supervisors = children(u32::try_from(guardian).unwrap());
    // One waits for the next command.
    assert_eq!(supervisors.len(), 51);
    shim.child.kill().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(1);
    for pid in pids.into_iter().chain(supervisors).chain([guardian]) {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        assert!(gone_within(pid, left), "{pid} lives on");
    }
    for mut stream in streams {
        assert_eq!(stream.try_receive(), None);
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shell),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[test]
fn closed_sessions_are_forgotten_once_nothing_of_them_runs() {
    let mut shim = Shim::start();
    let run = |shim: &mut Shim, id: &str, argv: &[&str]| {
        let session = json!({"session": id, "shell": "/bin/sh", "wrapper": "/bin/true"});
        shim.call("session/start", &session).unwrap();
        let spawn = json!({"session": id, "argv": argv, "cwd": "/", "env": {}});
        let pid = shim.call("session/spawn", &spawn).unwrap()["pid"].clone();
        shim.call("session/close", &json!({"session": id})).unwrap();
        pid
    };
    run(&mut shim, "long", &["/bin/sleep", "600"]);
    for index in 0..200 {
        let id = format!("short-{index}");
        let pid = run(&mut shim, &id, &["/bin/true"]);
        let wait = json!({"session": id, "pid": pid});
        shim.call("session/wait", &wait)
            .expect("what is closed can be waited for");
    }
    let mut known = |id: &str| shim.call("session/cancel", &json!({"session": id}));
    assert_eq!(known("short-0"), Err(-32602));
    assert!(known("short-199").is_ok() && known("long").is_ok());
}
