//! What one session holds, and what is left for others: a shim with the usual 1,024 open files.

use std::io::Write;

use serde_json::json;

use super::harness::Shim;
use super::support::processes::{descriptors, eventually};
use super::support::wrapper::{Client, Stream, frame};

const LIMIT: u64 = 1024;

/// Lets the request of that client run. A question about another one stays open.
fn served(shim: &mut Shim, client: &Client, session: &str) {
    let mut stream = client.request(&["/bin/true"]);
    let question = shim
        .wait_for(|message| message["method"] == "policy/decide" && message["params"]["session"] == session);
    shim.decide(question["id"].as_u64().unwrap(), &json!({"action": "run"}));
    assert_eq!(stream.receive(), json!({"action": "Run"}));
}

fn others_are_served(shim: &mut Shim, before: &Client) {
    served(shim, before, "before");
    let (_, newcomer) = shim.session("newcomer");
    served(shim, &newcomer, "newcomer");
    let open = descriptors(shim.child.id()).len();
    assert!(open < 600, "{open} descriptors");
}

#[test]
fn pending_decisions_of_one_session_leave_room_for_others() {
    let mut shim = Shim::start_with_at_most_open_files(LIMIT);
    let (_, greedy) = shim.session("greedy");
    let (_, before) = shim.session("before");
    // What doesn't fit is closed at once.
    let _pending: Vec<_> = (0..1100)
        .filter_map(|_| {
            let mut stream = greedy.try_connect().ok()?;
            let request = super::support::wrapper::request(&["/bin/true"]).to_string();
            stream.0.write_all(&frame(request.as_bytes())).ok()?;
            Some(stream)
        })
        .collect();
    others_are_served(&mut shim, &before);
}

#[test]
fn silent_streams_of_several_sessions_leave_room_for_others() {
    let mut shim = Shim::start_with_at_most_open_files(LIMIT);
    let (_, before) = shim.session("before");
    let greedy: Vec<_> = (0..5)
        .map(|number| shim.session(&format!("greedy-{number}")).1)
        .collect();
    let _silent: Vec<Stream> = greedy
        .iter()
        .flat_map(|client| (0..256).filter_map(|_| client.try_connect().ok()))
        .collect();
    others_are_served(&mut shim, &before);
}

/// Anonymous memory of the shim in MiB.
fn memory(shim: &Shim) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn large_requests_take_little_memory() {
    let mut shim = Shim::start();
    let (_, client) = shim.session("s");
    let before = memory(&shim);
    let arguments = |count: usize| {
        let argv = "\"a\",".repeat(count);
        format!(r#"{{"file":"/bin/true","argv":[{argv}"a"],"workdir":"/","env":{{}}}}"#)
    };
    // No program can be given so many: 16 MiB.
    for _ in 0..2 {
        let mut stream = client.connect();
        // It may be refused before all is sent.
        let _ = stream.0.write_all(&frame(arguments(4_000_000).as_bytes()));
        assert_eq!(stream.try_receive(), None);
    }
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = client.connect();
        stream.send_payload(arguments(500_000).as_bytes());
        shim.escalate();
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        waiting.push(stream);
    }
    let meanwhile = memory(&shim);
    assert!(meanwhile < before + 250, "{meanwhile} MiB after {before}");
    drop(waiting);
}

/// What the C library may keep of large requests, in MiB.
const MOST_KEPT: u64 = 8;

#[test]
fn what_large_requests_have_used_is_given_back() {
    const ROUNDS: usize = 4;
    let mut shim = Shim::start();
    let clients: Vec<Client> = (0..4)
        .map(|number| shim.session(&format!("s{number}")).1)
        .collect();
    let arguments = "\"a\",".repeat(100_000);
    let request = format!(r#"{{"file":"/bin/true","argv":[{arguments}"a"],"workdir":"/","env":{{}}}}"#);
    let unknown = format!(r#"{{"unknown":[1{}],{}"#, ",1".repeat(3_000_000), &request[1..]);
    let before = memory(&shim);
    for _ in 0..ROUNDS {
        // All at once, so that several threads decode.
        let mut waiting: Vec<Stream> = clients.iter().map(Client::connect).collect();
        for (index, stream) in waiting.iter_mut().enumerate() {
            let payload = if index % 2 == 0 { &request } else { &unknown };
            stream.send_payload(payload.as_bytes());
        }
        for _ in &waiting {
            shim.escalate();
        }
        for stream in &mut waiting {
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        }
        // Half a request, too.
        let mut half = clients[0].connect();
        half.0.write_all(&frame(unknown.as_bytes())[..5_000_000]).unwrap();
        drop((half, waiting));
        eventually("what large requests have used is given back", || {
            memory(&shim) <= before + MOST_KEPT
        });
    }
}
