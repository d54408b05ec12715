//! From the handshake to the decision.

use std::time::Duration;

use serde_json::json;
use shell_escalation::{Decision, EscalateServer, Limits};

use super::support::wrapper::{frame, null, request};
use super::{Always, Asking, blocking, start, start_with};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

#[tokio::test(flavor = "multi_thread")]
async fn the_three_answers_are_on_the_wire() {
    for (decision, expected) in [
        (Decision::run(), json!({"action": "Run"})),
        (Decision::escalate(), json!({"action": "Escalate"})),
        (
            Decision::deny(None),
            json!({"action": {"Deny": {"reason": null}}}),
        ),
        (
            Decision::deny(Some("no".into())),
            json!({"action": {"Deny": {"reason": "no"}}}),
        ),
    ] {
        let fixture = start(Always::new(decision));
        let (reply, end) = blocking(move || {
            let mut stream = fixture.client.request(&["/bin/true"]);
            let reply = stream.receive();
            stream.0.shutdown(std::net::Shutdown::Write).unwrap();
            (reply, stream.try_receive())
        })
        .await;
        assert_eq!((reply, end), (expected, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_sees_where_the_command_will_be_executed() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap().join("real");
    let link = folder.path().join("link");
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let policy = Always::new(Decision::run());
    let asked = policy.asked.clone();
    let fixture = start(policy);
    let workdirs = [link.clone(), real.clone(), folder.path().join("nothing")];
    blocking(move || {
        for workdir in workdirs {
            let mut stream = fixture.client.connect();
            stream.send(
                &json!({"file": "/bin/true", "argv": ["true"], "workdir": workdir, "env": {}, "umask": 0o27}),
            );
            stream.receive();
        }
    })
    .await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].workdir, link);
    assert_eq!(asked[0].canonical_workdir.as_ref(), Some(&real));
    assert_eq!(asked[1].canonical_workdir.as_ref(), Some(&real));
    assert_eq!(asked[2].canonical_workdir, None);
    assert_eq!(asked[0].umask, Some(0o27));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_sees_the_whole_request() {
    let policy = Always::new(Decision::run());
    let asked = policy.asked.clone();
    let fixture = start(policy);
    blocking(move || {
        let mut stream = fixture.client.connect();
        stream.send(
            &json!({"file": "./bin/../bin/env", "argv": ["e", ""], "workdir": "/usr", "env": {"A": "é"}}),
        );
        stream.receive();
    })
    .await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].program.to_str(), Some("/usr/bin/env"));
    assert_eq!(
        asked[0].canonical.as_deref(),
        std::fs::canonicalize("/usr/bin/env").ok().as_deref()
    );
    assert_eq!(asked[0].argv, ["e", ""]);
    assert_eq!(asked[0].workdir.to_str(), Some("/usr"));
    assert_eq!(asked[0].env, [("A".into(), "é".into())]);
    assert_eq!(asked[0].peer, Some(i32::try_from(std::process::id()).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_handshakes_affect_no_other_request() {
    let fixture = start(Always::new(Decision::run()));
    blocking(move || {
        let file = File::open("/etc/passwd").unwrap();
        let null = null();
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty()).unwrap();
        let two = [null.as_raw_fd(), null.as_raw_fd()];
        let bad: [&[i32]; 6] = [
            &[],
            &two,
            &[file.as_raw_fd()],
            &[null.as_raw_fd()],
            &[epoll.0.as_raw_fd()],
            &[fixture.client.0.as_raw_fd()],
        ];
        for descriptors in bad {
            fixture.client.send(&[0], descriptors).unwrap();
            let mut stream = fixture.client.request(&["/bin/true"]);
            assert_eq!(stream.receive(), json!({"action": "Run"}));
        }
        // A connected stream, but not a local one.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        fixture.client.send(&[0], &[ours.as_raw_fd()]).unwrap();
        drop(ours);
        let asking = frame(request(&["/bin/true"]).to_string().as_bytes());
        std::io::Write::write_all(&mut theirs, &asking).unwrap();
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut theirs, &mut answer);
        assert_eq!(answer, b"");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_close_their_stream() {
    let policy = Always::new(Decision::run());
    let asked = policy.asked.clone();
    let fixture = start(policy);
    blocking(move || {
        let long = vec![b' '; 100];
        for payload in [&b""[..], b"{}", b"nonsense", b"[]", &long] {
            let mut stream = fixture.client.connect();
            stream.send_payload(payload);
            assert_eq!(stream.try_receive(), None);
        }
    })
    .await;
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_over_the_limit_closes_the_stream_at_once() {
    let mut limits = Limits::default();
    limits.frame = 1000;
    let server =
        EscalateServer::new("/bin/sh", "/no/wrapper", Always::new(Decision::run())).with_limits(limits);
    let fixture = start_with(server);
    blocking(move || {
        let mut stream = fixture.client.connect();
        std::io::Write::write_all(&mut stream.0, &1001_u32.to_le_bytes()).unwrap();
        assert_eq!(stream.try_receive(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_decision_delays_no_other_one() {
    let (policy, mut questions) = Asking::new();
    let fixture = start(policy);
    let mut streams = blocking(move || {
        let streams: Vec<_> = (0..64).map(|_| fixture.client.request(&["/bin/true"])).collect();
        (streams, fixture)
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(questions.recv().await.unwrap());
    }
    // The last to ask is the first to be answered.
    for question in open.into_iter().rev() {
        let reason = question.request.peer.map(|_| "x".to_owned());
        question.answer.send(Ok(Decision::deny(reason))).unwrap();
    }
    blocking(move || {
        for stream in &mut streams.0 {
            assert_eq!(stream.receive(), json!({"action": {"Deny": {"reason": "x"}}}));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_or_panics_closes_the_stream() {
    let (policy, mut questions) = Asking::new();
    let fixture = start(policy);
    let mut stream = fixture.client.request(&["/bin/true"]);
    questions
        .recv()
        .await
        .unwrap()
        .answer
        .send(Err("broken".into()))
        .unwrap();
    assert_eq!(blocking(move || stream.try_receive()).await, None);

    struct Panics;
    impl shell_escalation::EscalationPolicy for Panics {
        async fn decide(
            &self,
            _: &shell_escalation::PolicyRequest,
        ) -> Result<Decision, shell_escalation::PolicyError> {
            panic!("on purpose")
        }
    }
    let fixture = start(Panics);
    let mut stream = fixture.client.request(&["/bin/true"]);
    assert_eq!(blocking(move || stream.try_receive()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_that_disconnects_withdraws_its_question() {
    let (policy, mut questions) = Asking::new();
    let fixture = start(policy);
    let stream = fixture.client.request(&["/bin/true"]);
    let mut question = questions.recv().await.unwrap();
    drop(stream);
    tokio::time::timeout(Duration::from_secs(20), question.answer.closed())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_request_is_closed_in_time() {
    let mut limits = Limits::default();
    limits.message_time = Duration::from_millis(50);
    let server =
        EscalateServer::new("/bin/sh", "/no/wrapper", Always::new(Decision::run())).with_limits(limits);
    let fixture = start_with(server);
    blocking(move || {
        let mut idle = fixture.client.connect();
        let mut half = fixture.client.connect();
        std::io::Write::write_all(&mut half.0, &[9, 0, 0, 0, b'{']).unwrap();
        assert_eq!((idle.try_receive(), half.try_receive()), (None, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_open_requests_only_the_last_is_closed() {
    let (policy, mut questions) = Asking::new();
    let mut limits = Limits::default();
    limits.open_requests = 2;
    let fixture = start_with(EscalateServer::new("/bin/sh", "/no/wrapper", policy).with_limits(limits));
    let mut first = fixture.client.request(&["/bin/true"]);
    let question = questions.recv().await.unwrap();
    let _second = fixture.client.request(&["/bin/true"]);
    let _open = questions.recv().await.unwrap();
    let mut third = fixture.client.request(&["/bin/true"]);
    assert_eq!(blocking(move || third.try_receive()).await, None);
    question.answer.send(Ok(Decision::run())).unwrap();
    assert_eq!(blocking(move || first.receive()).await, json!({"action": "Run"}));
    let mut fourth = fixture.client.connect();
    fourth.send(&request(&["/bin/true"]));
    questions
        .recv()
        .await
        .unwrap()
        .answer
        .send(Ok(Decision::run()))
        .unwrap();
    assert_eq!(blocking(move || fourth.receive()).await, json!({"action": "Run"}));
}
