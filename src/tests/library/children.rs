//! The escalated child: what it is given, what it is not given, and how its end is reported.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::{Value, json};
use shell_escalation::{Decision, KeepEnv};

use super::support::chain::script as script_file;
use super::support::processes::eventually;
use super::support::wrapper::{Stream, frame, null, pipe, read_all, request};
use super::{Always, Fixture, blocking, start};

fn escalating() -> Fixture {
    start(Always::new(Decision::escalate()))
}

/// Runs a script of /bin/sh with its output and errors in one pipe.
fn script(fixture: &Fixture, script: &str) -> (Value, String) {
    let (reader, writer) = pipe();
    let null = null();
    let argv = ["/bin/sh", "-c", script];
    let mut stream = fixture
        .client
        .escalate(&argv, &[(&null, 0), (&writer, 1), (&writer, 2)]);
    drop(writer);
    let output = read_all(reader);
    (stream.receive(), output)
}

/// Sends a request with the given members, and all three standard streams.
fn run(fixture: &Fixture, request: &Value) -> (Option<Value>, String) {
    let (reader, writer) = pipe();
    let null = null();
    let mut stream = fixture.client.connect();
    stream.send(request);
    assert_eq!(stream.receive(), json!({"action": "Escalate"}));
    stream.send_descriptors(&[(&null, 0), (&writer, 1), (&writer, 2)]);
    drop(writer);
    (stream.try_receive(), read_all(reader))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_arrives() {
    let fixture = escalating();
    blocking(move || {
        for status in [0, 1, 42, 126, 127, 128, 200, 255] {
            let (result, _) = script(&fixture, &format!("exit {status}"));
            assert_eq!(result, json!({"exit_code": status}));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_names_its_signal() {
    let fixture = escalating();
    blocking(move || {
        for signal in [1, 2, 9, 11, 13, 15] {
            let (result, _) = script(&fixture, &format!("kill -{signal} $$"));
            assert_eq!(result, json!({"exit_code": 128 + signal, "signal": signal}));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_has_the_request_and_nothing_of_the_server() {
    let fixture = escalating();
    blocking(move || {
        let request = json!({"file": "/usr/bin/env", "argv": ["env"], "workdir": "/tmp", "env": {"A": "1\n2", "B": ""}});
        assert_eq!(run(&fixture, &request), (Some(json!({"exit_code": 0})), "A=1\n2\nB=\n".into()));
        let request = json!({"file": "/bin/sh", "argv": ["name", "-c", "echo $0; pwd -P; umask; cat /proc/self/stat | cut -d' ' -f5; echo $$",],
            "workdir": "/usr/bin", "env": {"PATH": "/bin"}, "umask": 0o27});
        let (result, output) = run(&fixture, &request);
        assert_eq!(result, Some(json!({"exit_code": 0})));
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..3], ["name", "/usr/bin", "0027"]);
        assert_eq!(lines[3], lines[4], "the child leads its process group");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_the_child_are_as_for_a_new_process() {
    let fixture = escalating();
    let (_, output) = blocking(move || script(&fixture, "grep -E 'Sig(Blk|Ign)' /proc/self/status")).await;
    let values: Vec<&str> = output
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(values, ["0000000000000000"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_has_its_descriptors_and_no_others() {
    let fixture = escalating();
    blocking(move || {
        let (reader, writer) = pipe();
        let null = null();
        let argv = ["/bin/ls", "/proc/self/fd"];
        let descriptors: [(&dyn AsFd, i32); 4] = [(&null, 0), (&writer, 1), (&null, 2), (&null, 777)];
        let mut stream = fixture.client.escalate(&argv, &descriptors);
        drop(writer);
        // The directory that is being listed is open too, under the lowest free number.
        assert_eq!(read_all(reader), "0\n1\n2\n3\n777\n");
        assert_eq!(stream.receive(), json!({"exit_code": 0}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_streams_stay_closed() {
    let fixture = escalating();
    blocking(move || {
        let (reader, writer) = pipe();
        let mut stream = fixture
            .client
            .escalate(&["/bin/ls", "/proc/self/fd"], &[(&writer, 1)]);
        drop(writer);
        assert_eq!(read_all(reader), "0\n1\n");
        assert_eq!(stream.receive(), json!({"exit_code": 0}));
        let mut stream = fixture.client.escalate(&["/bin/true"], &[]);
        assert_eq!(stream.receive(), json!({"exit_code": 0}));
    })
    .await;
}

fn each_number_has_its_file(fixture: &Fixture, numbers: &[i32]) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(File, i32)> = numbers
        .iter()
        .map(|&number| {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, number.to_string()).unwrap();
            (File::open(path).unwrap(), number)
        })
        .collect();
    let (reader, writer) = pipe();
    let mut descriptors: Vec<(&dyn AsFd, i32)> = vec![(&writer, 1)];
    descriptors.extend(files.iter().map(|(file, number)| (file as &dyn AsFd, *number)));
    let script = numbers
        .iter()
        .map(|number| format!("cat /proc/self/fd/{number}; echo ' {number}'\n"));
    let mut stream = fixture
        .client
        .escalate(&["/bin/sh", "-c", &script.collect::<String>()], &descriptors);
    drop(writer);
    let expected: String = numbers
        .iter()
        .map(|number| format!("{number} {number}\n"))
        .collect();
    assert_eq!(read_all(reader), expected);
    assert_eq!(stream.receive(), json!({"exit_code": 0}));
}

#[test]
fn descriptors_arrive_under_any_numbers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(async { escalating() });
    // Low numbers, which the server uses itself, so that sources and destinations overlap.
    let numbers = proptest::sample::subsequence((2..40).collect::<Vec<i32>>(), 1..=14).prop_shuffle();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
    runner
        .run(&numbers, |numbers| {
            each_number_has_its_file(&fixture, &numbers);
            Ok(())
        })
        .unwrap();
    each_number_has_its_file(&fixture, &[900, 901, 255]);
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_descriptors_start_no_child() {
    let fixture = escalating();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("started");
        let null = null();
        let attempts: [(Value, usize); 7] = [
            (json!([0, 1]), 1),
            (json!([0]), 2),
            (json!([-1]), 1),
            (json!([3, 3]), 2),
            (json!([100_000_000]), 1),
            (json!([4_294_967_296_u64]), 1),
            (json!((0..17).collect::<Vec<i32>>()), 17),
        ];
        for (numbers, count) in attempts {
            let mut stream = fixture
                .client
                .request(&["/usr/bin/touch", marker.to_str().unwrap()]);
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
            let descriptors: Vec<(&dyn AsFd, i32)> = (0..count).map(|_| (&null as &dyn AsFd, 0)).collect();
            stream.send_with(&json!({"fds": numbers}), &descriptors);
            assert_eq!(stream.try_receive(), None, "{numbers}");
        }
        assert!(!marker.exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_starts_are_reported_as_shells_report_them() {
    let fixture = escalating();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let text = |path: &str| json!({"file": path, "argv": [path], "workdir": folder.path(), "env": {}});
        let plain = plain.to_str().unwrap();
        let cases = [
            (
                "/nonexistent/program",
                127,
                "/nonexistent/program: No such file or directory",
            ),
            ("relative", 127, "relative: No such file or directory"),
            (plain, 126, "plain: Permission denied"),
            ("/", 126, "/: Permission denied"),
            ("/etc/passwd/x", 127, "/etc/passwd/x: Not a directory"),
            (
                "/proc/self/exe",
                126,
                "/proc/self/exe: Too many levels of symbolic links",
            ),
        ];
        for (path, status, message) in cases {
            let (result, output) = run(&fixture, &text(path));
            assert_eq!(result, Some(json!({"exit_code": status})), "{path}");
            assert!(
                output.starts_with("shell-escalation: ") && output.ends_with(&format!("{message}\n")),
                "{output}"
            );
        }
        let request = json!({"file": "/bin/true", "argv": ["true"], "workdir": "/nowhere", "env": {}});
        let (result, output) = run(&fixture, &request);
        assert_eq!(result, Some(json!({"exit_code": 126})));
        assert_eq!(output, "shell-escalation: /nowhere: No such file or directory\n");
        // Without a standard error there is no message, but there is a result.
        let mut stream = fixture.client.escalate(&["/nonexistent"], &[]);
        assert_eq!(stream.receive(), json!({"exit_code": 127}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_with_and_without_an_interpreter_line() {
    let fixture = escalating();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("with", "#!/bin/sh -e\necho $0 $1\n"),
            ("without", "echo $0 $1\n"),
        ] {
            script_file(&folder.path().join(name), content);
            let file = format!("./{name}");
            let request = json!({"file": file, "argv": ["x", "y z"], "workdir": folder.path(), "env": {}});
            assert_eq!(
                run(&fixture, &request),
                (Some(json!({"exit_code": 0})), format!("{file} y z\n"))
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_does_not_wait_for_background_processes() {
    let fixture = escalating();
    blocking(move || {
        let null = null();
        let argv = ["/bin/sh", "-c", "sleep 600 & exit 3"];
        let mut stream = fixture
            .client
            .escalate(&argv, &[(&null, 0), (&null, 1), (&null, 2)]);
        assert_eq!(stream.receive(), json!({"exit_code": 3}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_child_holds_its_descriptors() {
    let fixture = escalating();
    blocking(move || {
        let (reader, writer) = pipe();
        let (unused, hold) = pipe();
        let argv = ["/bin/sh", "-c", "echo out; exec >&-; read line"];
        let mut stream = fixture.client.escalate(&argv, &[(&unused, 0), (&writer, 1)]);
        drop(writer);
        // The output ends while the child still runs.
        assert_eq!(read_all(reader), "out\n");
        drop(hold);
        assert_eq!(stream.receive(), json!({"exit_code": 1}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_frames_reach_the_group() {
    let fixture = escalating();
    blocking(move || {
        let (reader, writer) = pipe();
        let null = null();
        let script = "trap 'echo parent' TERM; sh -c 'trap \"echo child\" TERM; echo ready; while :; do sleep 0.01; done' & \
                      while :; do wait && exit; done";
        let mut stream = fixture.client.escalate(&["/bin/sh", "-c", script], &[(&null, 0), (&writer, 1), (&null, 2)]);
        drop(writer);
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        stream.send(&json!({"signal": 15}));
        let mut heard = [lines.next().unwrap(), lines.next().unwrap()];
        heard.sort();
        assert_eq!(heard, ["child", "parent"]);
        stream.send(&json!({"signal": 9}));
        assert_eq!(stream.receive(), json!({"exit_code": 137, "signal": 9}));
    })
    .await;
}

fn stopping(fixture: &Fixture) -> Stream {
    let null = null();
    let mut stream = fixture
        .client
        .request(&["/bin/sh", "-c", "kill -STOP $$; kill -TSTP $$; exit 5"]);
    assert_eq!(stream.receive(), json!({"action": "Escalate"}));
    stream.send_with(&json!({"fds": [0], "signals": true}), &[(&null, 0)]);
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_are_reported_to_wrappers_that_announce_signals() {
    let fixture = escalating();
    blocking(move || {
        let mut stream = stopping(&fixture);
        assert_eq!(stream.receive(), json!({"stopped": 19}));
        stream.send(&json!({"signal": 18}));
        assert_eq!(stream.receive(), json!({"stopped": 20}));
        stream.send(&json!({"signal": 18}));
        assert_eq!(stream.receive(), json!({"exit_code": 5}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_are_not_reported_to_others() {
    let fixture = escalating();
    blocking(move || {
        let (reader, writer) = pipe();
        let null = null();
        let script = "echo $$; kill -STOP $$; exit 5";
        let mut stream = fixture
            .client
            .escalate(&["/bin/sh", "-c", script], &[(&null, 0), (&writer, 1)]);
        drop(writer);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        let stat = format!("/proc/{}/stat", line.trim());
        eventually("it has stopped", || {
            std::fs::read_to_string(&stat).unwrap().contains(") T ")
        });
        stream.send(&json!({"signal": 18}));
        assert_eq!(stream.receive(), json!({"exit_code": 5}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_load_code_need_a_decision() {
    let hostile = json!({"LD_PRELOAD": "", "BASH_ENV": "x", "EXEC_WRAPPER": "/evil", "OK": "1"});
    let request = json!({"file": "/usr/bin/env", "argv": ["env"], "workdir": "/", "env": hostile});
    let fixture = escalating();
    let asked = request.clone();
    assert_eq!(blocking(move || run(&fixture, &asked)).await.1, "OK=1\n");
    let decision = Decision::escalate().keeping_env(KeepEnv::Names(["BASH_ENV".into()].into()));
    let fixture = start(Always::new(decision));
    let (_, output) = blocking(move || run(&fixture, &request)).await;
    let kept: BTreeMap<&str, &str> = output.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(kept, BTreeMap::from([("BASH_ENV", "x"), ("OK", "1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_swapped_after_the_decision_does_not_run() {
    let fixture = escalating();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let program = folder.path().join("program");
        let swaps: [&dyn Fn(); 3] = [
            &|| std::fs::rename(write("other", "#!/bin/sh\necho swapped\n"), &program).unwrap(),
            &|| std::fs::write(&program, "#!/bin/sh\necho changed\n").unwrap(),
            &|| {
                std::fs::remove_file(&program).unwrap();
                std::os::unix::fs::symlink("/bin/ls", &program).unwrap();
            },
        ];
        for swap in swaps {
            let _ = std::fs::remove_file(&program);
            std::fs::copy("/bin/true", &program).unwrap();
            let (reader, writer) = pipe();
            let mut stream = fixture.client.connect();
            stream.send(&request(&[program.to_str().unwrap()]));
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
            swap();
            stream.send_descriptors(&[(&writer, 1), (&writer, 2)]);
            drop(writer);
            assert_eq!(stream.receive(), json!({"exit_code": 126}));
            assert!(read_all(reader).ends_with("the program changed between decision and execution\n"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_directory_swapped_after_the_decision_is_not_entered() {
    let fixture = escalating();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let workdir = folder.path().join("work");
        for (name, says) in [("work", "decided"), ("other", "swapped")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            script_file(
                &folder.path().join(name).join("tool"),
                &format!("#!/bin/sh\necho {says}\n"),
            );
        }
        // The same program, so that only the directory differs.
        std::fs::remove_file(folder.path().join("other/tool")).unwrap();
        std::fs::hard_link(workdir.join("tool"), folder.path().join("other/tool")).unwrap();
        let (reader, writer) = pipe();
        let mut stream = fixture.client.connect();
        stream.send(&json!({"file": "./tool", "argv": ["tool"], "workdir": workdir, "env": {}}));
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        std::fs::rename(&workdir, folder.path().join("moved")).unwrap();
        std::fs::rename(folder.path().join("other"), &workdir).unwrap();
        stream.send_descriptors(&[(&writer, 1), (&writer, 2)]);
        drop(writer);
        assert_eq!(stream.receive(), json!({"exit_code": 126}));
        assert!(read_all(reader).ends_with("changed between decision and execution\n"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_more_or_fewer_links_is_the_same_file() {
    let fixture = escalating();
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        script_file(&program, "#!/bin/sh\nexit 4\n");
        let mut stream = fixture.client.request(&[program.to_str().unwrap()]);
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        std::fs::hard_link(&program, folder.path().join("link")).unwrap();
        stream.send_descriptors(&[]);
        assert_eq!(stream.receive(), json!({"exit_code": 4}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_after_the_end_does_not_lose_the_result() {
    let fixture = escalating();
    blocking(move || {
        let null = null();
        for round in 0..100 {
            let mut stream = fixture.client.request(&["/bin/sh", "-c", "exit 9"]);
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
            stream.send_with(&json!({"fds": [0], "signals": true}), &[(&null, 0)]);
            // Some of these arrive before the end, some after it, some when the server no longer reads.
            let harmless = frame(br#"{"signal":18}"#).repeat(1 + round % 30);
            let _ = stream.0.write_all(&harmless);
            assert_eq!(stream.receive(), json!({"exit_code": 9}), "round {round}");
            assert_eq!(stream.0.read(&mut [0; 1]).unwrap(), 0, "the stream was reset");
        }
    })
    .await;
}
