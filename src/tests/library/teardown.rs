//! Nothing outlives its owner.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::json;
use shell_escalation::Decision;

use super::support::chain;
use super::support::processes::{children, eventually, gone_within, with_marker};
use super::support::wrapper::{Stream, null, pipe};
use super::{Always, Asking, Fixture, blocking, start};

const SOON: Duration = Duration::from_secs(10);

/// A tree whose members print their pids: the child, a grandchild, and one in a session of its own with a child.
const TREE: &str = "echo $$; sleep 600 & echo $!; \
                    setsid sh -c 'echo $$; sleep 600 & echo $!; trap : TERM HUP; echo done; wait' & wait";

fn tree(fixture: &Fixture) -> (Stream, Vec<i32>) {
    let (reader, writer) = pipe();
    let null = null();
    let stream = fixture
        .client
        .escalate(&["/bin/sh", "-c", TREE], &[(&null, 0), (&writer, 1), (&null, 2)]);
    drop(writer);
    let lines = BufReader::new(reader).lines().map(Result::unwrap);
    let pids: Vec<i32> = lines
        .take_while(|line| line != "done")
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 4);
    (stream, pids)
}

fn all_gone(pids: &[i32]) {
    for &pid in pids {
        assert!(gone_within(pid, SOON), "{pid} lives on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_session_ends_whole_trees() {
    let fixture = start(Always::new(Decision::escalate()));
    let (mut stream, pids, fixture) = blocking(move || {
        let (stream, pids) = tree(&fixture);
        (stream, pids, fixture)
    })
    .await;
    fixture.session.close().await;
    blocking(move || {
        // When close() returns, all are dead and reaped.
        for &pid in &pids {
            assert!(gone_within(pid, Duration::ZERO), "{pid} lives on");
        }
        assert_eq!(stream.try_receive(), None);
        assert!(fixture.client.try_connect().is_err(), "a handshake was taken");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_session_or_cancelling_its_parent_ends_whole_trees() {
    for cancel in [true, false] {
        let fixture = start(Always::new(Decision::escalate()));
        blocking(move || {
            let (mut stream, pids) = tree(&fixture);
            let Fixture {
                parent,
                session,
                client,
            } = fixture;
            if cancel {
                parent.cancel();
            } else {
                drop(session);
            }
            all_gone(&pids);
            assert_eq!(stream.try_receive(), None);
            drop(client);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_s_end_ends_its_tree_and_no_other() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        let (stream, pids) = tree(&fixture);
        let (_other, others) = tree(&fixture);
        drop(stream);
        all_gone(&pids);
        for &pid in &others {
            assert!(!gone_within(pid, Duration::ZERO), "{pid} was killed, too");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_ended_leaves_its_processes_to_the_session() {
    let fixture = start(Always::new(Decision::escalate()));
    let (pid, fixture) = blocking(move || {
        let (reader, writer) = pipe();
        let argv = ["/bin/sh", "-c", "setsid sleep 600 & echo $!"];
        let mut stream = fixture.client.escalate(&argv, &[(&writer, 1)]);
        drop(writer);
        assert_eq!(stream.receive(), json!({"exit_code": 0}));
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        assert!(!gone_within(pid, Duration::ZERO));
        (pid, fixture)
    })
    .await;
    fixture.session.close().await;
    assert!(gone_within(pid, Duration::ZERO));
}

/// Two chains of processes, each of which starts its successor in a session of its own and exits.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_run_away_by_forking_are_caught() {
    let fixture = start(Always::new(Decision::escalate()));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("run-away");
    chain::script(&script, "#!/bin/sh\nsetsid \"$0\" &\n[ $1 ] && \"$0\" &\n");
    let marker = script.to_str().unwrap().to_owned();
    let running = marker.clone();
    let session = blocking(move || {
        let null = null();
        let mut stream = fixture
            .client
            .escalate(&[&running, "two"], &[(&null, 0), (&null, 1), (&null, 2)]);
        assert_eq!(stream.receive(), json!({"exit_code": 0}));
        eventually("it runs away", || !with_marker(&running).is_empty());
        fixture.session
    })
    .await;
    tokio::time::timeout(SOON, session.close())
        .await
        .expect("still running away");
    assert_eq!(with_marker(&marker), [0_i32; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_end_starts_nothing() {
    let (policy, mut questions) = Asking::new();
    let fixture = start(policy);
    let mut stream = fixture.client.request(&["/bin/true"]);
    let mut question = questions.recv().await.unwrap();
    drop(fixture.session);
    question.answer.closed().await;
    assert!(question.answer.send(Ok(Decision::run())).is_err());
    assert_eq!(blocking(move || stream.try_receive()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_frame_does_not_delay_the_end() {
    let fixture = start(Always::new(Decision::escalate()));
    let mut half = fixture.client.connect();
    std::io::Write::write_all(&mut half.0, &[100, 0, 0, 0, b'{']).unwrap();
    let idle = fixture.client.connect();
    let waiting = fixture.client.request(&["/bin/true"]);
    tokio::time::timeout(SOON, fixture.session.close()).await.unwrap();
    blocking(move || {
        for mut stream in [half, idle, waiting] {
            while stream.try_receive().is_some() {}
        }
    })
    .await;
}

#[test]
fn the_end_of_the_runtime_is_the_end_of_its_trees() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(async { start(Always::new(Decision::escalate())) });
    let (_stream, pids) = tree(&fixture);
    drop(runtime);
    all_gone(&pids);
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_are_reaped() {
    let fixture = start(Always::new(Decision::escalate()));
    let (client, session) = (fixture.client, fixture.session);
    blocking(move || {
        for _ in 0..50 {
            let mut stream = client.escalate(&["/bin/true"], &[]);
            assert_eq!(stream.receive(), json!({"exit_code": 0}));
        }
    })
    .await;
    session.close().await;
    // Other tests in this process have children of their own, but they leave no zombies.
    let zombie = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    eventually("no zombies", || !children(std::process::id()).iter().any(zombie));
}
