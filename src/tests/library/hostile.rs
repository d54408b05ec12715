//! Every process with the socket may send anything. It harms only that process's requests.

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use shell_escalation::{Decision, EscalateServer, Limits, encode_json_text};

use super::support::chain::script;
use super::support::wrapper::{frame, null, pipe, read_all};
use super::{Always, Fixture, blocking, start, start_with};

fn served(fixture: &Fixture) {
    let mut stream = fixture.client.request(&["/bin/true"]);
    assert_eq!(stream.receive(), json!({"action": "Run"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_and_half_frames_make_room_for_requests() {
    let mut limits = Limits::default();
    limits.idle_streams = 20;
    let server = EscalateServer::new("/bin/sh", "/w", Always::new(Decision::run())).with_limits(limits);
    let fixture = start_with(server);
    blocking(move || {
        let mut streams: Vec<_> = (0..40).map(|_| fixture.client.connect()).collect();
        for stream in &mut streams {
            // Half of them have been closed by now.
            let _ = stream.0.write_all(&[100, 0, 0, 0, b'{']);
        }
        served(&fixture);
        let first = streams.first_mut().unwrap();
        assert_eq!(first.try_receive(), None);
    })
    .await;
}

#[tokio::test]
async fn a_burst_of_requests_is_not_taken_for_a_flood_of_idle_streams() {
    let mut limits = Limits::default();
    limits.idle_streams = 2;
    let server = EscalateServer::new("/bin/sh", "/w", Always::new(Decision::run())).with_limits(limits);
    let fixture = start_with(server);
    // On the server's only thread, so that all have arrived before it looks.
    let _idle = [fixture.client.connect(), fixture.client.connect()];
    let streams: Vec<_> = (0..9).map(|_| fixture.client.request(&["/bin/true"])).collect();
    blocking(move || {
        for mut stream in streams {
            assert_eq!(stream.receive(), json!({"action": "Run"}));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_bad_datagrams_are_dropped() {
    let fixture = start(Always::new(Decision::run()));
    blocking(move || {
        let null = null();
        let many: Vec<RawFd> = vec![null.as_raw_fd(); 253];
        for _ in 0..200 {
            fixture.client.send(b"", &[]).unwrap();
            fixture.client.send(&[7; 20_000], &[]).unwrap();
            fixture.client.send(&[0], &many).unwrap();
        }
        served(&fixture);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpected_descriptors_do_not_stay_open() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        // Each pipe is at its end as soon as no process holds its writer.
        let hold = |writer: &std::os::fd::OwnedFd| vec![writer.as_raw_fd(); 16];
        let (with_request, writer) = pipe();
        let mut stream = fixture.client.connect();
        let request = super::support::wrapper::request(&["/bin/sleep", "600"]).to_string();
        sendfd::SendWithFd::send_with_fd(&stream.0, &frame(request.as_bytes()), &hold(&writer)).unwrap();
        drop(writer);
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        assert_eq!(read_all(with_request), "");
        stream.send_descriptors(&[(&null(), 0)]);

        let (with_signal, writer) = pipe();
        let signal = frame(br#"{"signal":18}"#);
        sendfd::SendWithFd::send_with_fd(&stream.0, &signal, &hold(&writer)).unwrap();
        drop(writer);
        assert_eq!(read_all(with_signal), "");

        let (half, writer) = pipe();
        let mut stream = fixture.client.request(&["/bin/true"]);
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        sendfd::SendWithFd::send_with_fd(&stream.0, &[9], &hold(&writer)).unwrap();
        drop((writer, stream));
        assert_eq!(read_all(half), "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn big_and_deep_requests_are_read_or_refused() {
    let fixture = start(Always::new(Decision::run()));
    blocking(move || {
        let request = |more: &str| {
            format!(r#"{{"x":{more},"file":"/bin/true","argv":["true"],"workdir":"/","env":{{}}}}"#)
        };
        let sixteen_mib = {
            let rest = request("\"\"").len();
            request(&format!("\"{}\"", " ".repeat(16 * 1024 * 1024 - rest)))
        };
        assert_eq!(sixteen_mib.len(), 16 * 1024 * 1024);
        let deep = request(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
        let digits = request(&"1".repeat(1_000_000));
        for text in [sixteen_mib, deep, digits] {
            let mut stream = fixture.client.connect();
            stream.send_payload(text.as_bytes());
            assert_eq!(stream.receive(), json!({"action": "Run"}));
        }
        let mut stream = fixture.client.connect();
        stream.send_payload("[".repeat(100_000).as_bytes());
        assert_eq!(stream.try_receive(), None);
        served(&fixture);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_reason_delays_no_other_request() {
    let fixture = start(Always::new(Decision::deny(Some("x".repeat(4_000_000)))));
    blocking(move || {
        let _stalled = fixture.client.request(&["/bin/true"]);
        let mut other = fixture.client.request(&["/bin/true"]);
        let reply = other.receive();
        assert_eq!(
            reply["action"]["Deny"]["reason"].as_str().map(str::len),
            Some(4_000_000)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_outside_utf8_reach_policy_and_child() {
    let policy = Always::new(Decision::escalate());
    let asked = policy.asked.clone();
    let fixture = start(policy);
    let bytes: Vec<u8> = (1..=255).collect();
    let argument = std::ffi::OsString::from_vec(bytes.clone());
    let sent = argument.clone();
    let output = blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let workdir = folder.path().join(std::ffi::OsStr::from_bytes(b"w\xff"));
        std::fs::create_dir(&workdir).unwrap();
        symlink("/bin/sh", workdir.join(std::ffi::OsStr::from_bytes(b"\x80sh"))).unwrap();
        let (reader, writer) = pipe();
        let mut stream = fixture.client.connect();
        let request = format!(
            r#"{{"file":"./\udc80sh","argv":["sh","-c","printf %s \"$1$V\"","",{}],"workdir":{},"env":{{"V":"\udcfe"}}}}"#,
            encode_json_text(&sent),
            encode_json_text(workdir.as_os_str()),
        );
        stream.send_payload(request.as_bytes());
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        stream.send_descriptors(&[(&writer, 1)]);
        drop(writer);
        let mut output = Vec::new();
        std::io::Read::read_to_end(&mut { reader }, &mut output).unwrap();
        assert_eq!(stream.receive(), json!({"exit_code": 0}));
        output
    })
    .await;
    assert_eq!(output, [&bytes[..], b"\xfe"].concat());
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].argv[4], argument);
    assert!(
        asked[0]
            .program
            .as_os_str()
            .as_bytes()
            .ends_with(b"/w\xff/\x80sh")
    );
}

/// A script that prints `says`.
fn tool(path: &std::path::Path, says: &str) {
    script(path, &format!("#!/bin/sh\necho {says}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_asked_about_the_file_that_the_kernel_would_execute() {
    let policy = Always::new(Decision::escalate());
    let asked = policy.asked.clone();
    let fixture = start(policy);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("work/~")).unwrap();
    std::fs::create_dir_all(root.join("other/deep")).unwrap();
    symlink(root.join("other/deep"), root.join("work/link")).unwrap();
    tool(&root.join("work/tool"), "lexical");
    tool(&root.join("other/tool"), "physical");
    tool(&root.join("work/~/tool"), "tilde");
    let cases = [
        ("link/../tool", "work", "other/tool", "physical\n"),
        ("../tool", "work/link", "other/tool", "physical\n"),
        ("~/tool", "work", "work/~/tool", "tilde\n"),
        ("./tool", "work", "work/tool", "lexical\n"),
    ];
    let place = root.clone();
    blocking(move || {
        for (file, workdir, _, says) in cases {
            let (reader, writer) = pipe();
            let mut stream = fixture.client.connect();
            let workdir: Value = place.join(workdir).to_str().unwrap().into();
            stream.send(&json!({"file": file, "argv": ["tool"], "workdir": workdir, "env": {}}));
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
            stream.send_descriptors(&[(&writer, 1)]);
            drop(writer);
            assert_eq!(read_all(reader), says);
        }
    })
    .await;
    let programs: Vec<_> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|request| request.program.clone())
        .collect();
    assert_eq!(programs, cases.map(|(_, _, program, _)| root.join(program)));
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_depend_on_the_process_are_refused() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        for (file, workdir) in [
            ("/proc/self/exe", "/"),
            ("/bin/true", "/proc/self"),
            ("./exe", "/proc/self"),
            ("/bin/true", "/proc/self/cwd"),
        ] {
            let mut stream = fixture.client.connect();
            stream.send(&json!({"file": file, "argv": ["x"], "workdir": workdir, "env": {}}));
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
            stream.send_descriptors(&[]);
            assert_eq!(stream.receive(), json!({"exit_code": 126}), "{file} in {workdir}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_signals_end_the_request_and_are_not_delivered() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        for signal in [
            json!(0),
            json!(-1),
            json!(65),
            json!(-15),
            json!(1_u64 << 31),
            json!("15"),
        ] {
            let (reader, writer) = pipe();
            let mut stream = fixture.client.escalate(&["/bin/sleep", "600"], &[(&writer, 1)]);
            drop(writer);
            stream.send(&json!({"signal": signal}));
            assert_eq!(stream.try_receive(), None, "{signal}");
            assert_eq!(read_all(reader), "");
        }
    })
    .await;
}
