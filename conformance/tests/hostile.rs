//! Hostile programs as implementations under test: none forges a pass, hangs the run or fills the suite's memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A case that a wrapper of two lines passes.
const EASY: &str = "wrapper.usage/no-arguments";

/// What such a wrapper ends with.
const PASSES: &str = "echo 'usage: wrapper FILE ARGV0...' >&2\nexit 2\n";

/// The processes of the suite above a wrapper: the case's own is its parent, and the supervisor is the parent of that.
const SUPERVISOR: &str = "supervisor=$(sed 's/.*) . //; s/ .*//' /proc/$PPID/stat)\n";

/// That case calls the wrapper without arguments; with some, the suite looks at its extensions before the run.
const IN_A_CASE: &str = "[ $# -eq 0 ] || exit 1\n";

/// The opposite: what follows happens before the case only.
const BEFORE_THE_CASES: &str = "[ $# -gt 0 ] || {\n echo 'usage: wrapper FILE ARGV0...' >&2\n exit 2\n}\n";

/// Memory that no process of the suite may need, in KiB.
const MEMORY: i64 = 300 << 10;

struct Hostile {
    folder: tempfile::TempDir,
}

impl Hostile {
    /// A wrapper that is this shell script.
    fn wrapper(script: &str) -> Hostile {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wrapper");
        fs::write(&path, format!("#!/bin/sh\n{script}")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        Hostile { folder }
    }

    fn report(&self) -> PathBuf {
        self.folder.path().join("report.json")
    }

    fn start(&self, options: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args(["run", "--only", EASY, "--wrapper"])
            .arg(self.folder.path().join("wrapper"))
            .arg("--json")
            .arg(self.report())
            .args(options)
            .env("TMPDIR", self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the suite")
    }

    /// Runs it, and demands the exit status and what the report says of the one case.
    fn ends_with(&self, options: &[&str], status: i32, outcome: &str, words: &str) {
        let output = self.start(options).wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(status), "{}", said(&output));
        let report: Value =
            serde_json::from_slice(&fs::read(self.report()).expect("a report")).expect("JSON");
        let cases = report["cases"].as_array().expect("cases");
        assert_eq!(cases.len(), 1, "{report:#}");
        assert_eq!(cases[0]["id"], EASY);
        assert_eq!(cases[0]["outcome"], outcome, "{report:#}");
        let observed = cases[0]["observed"].as_str().unwrap_or_default();
        assert!(observed.contains(words), "{observed}");
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Demands that no process of the suite that has ended was larger than it may be.
fn expect_modest_memory() {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    assert!(usage.max_rss() < MEMORY, "{} KiB", usage.max_rss());
}

#[test]
fn a_pass_cannot_be_written_into_the_supervisors_output() {
    let forged = format!(
        r#"{{"id":"{EASY}","requirement":"wrapper.usage","level":"core","role":"wrapper","outcome":"pass","duration_ms":1,"expected":null,"observed":null,"transcript":[],"stderr_tail":null}}"#
    );
    let script = format!("{IN_A_CASE}{SUPERVISOR}echo '{forged}' >/proc/$supervisor/fd/1\nexit 0\n");
    Hostile::wrapper(&script).ends_with(&[], 1, "fail", "the suite has not written");
}

#[test]
fn a_verdict_cannot_be_written_into_the_pipe_of_the_cases_process() {
    // Some of these pipes are read by nothing any more.
    let pipes = r#"trap '' PIPE
        for pipe in /proc/$PPID/fd/*; do
            case $(readlink $pipe) in pipe:*) echo '{"verdict":{"Ok":null}}' >$pipe;; esac
        done 2>/dev/null
        exit 0
    "#;
    Hostile::wrapper(&format!("{IN_A_CASE}{SUPERVISOR}{pipes}")).ends_with(
        &[],
        1,
        "fail",
        "the suite has not written",
    );
}

#[test]
fn an_attempt_is_told_though_the_case_would_have_passed() {
    let script = format!("{IN_A_CASE}{SUPERVISOR}echo anything >/proc/$supervisor/fd/1\n{PASSES}");
    Hostile::wrapper(&script).ends_with(&[], 1, "fail", "the suite has not written");
}

#[test]
fn a_stopped_supervisor_ends_with_the_deadline() {
    let script = format!("{IN_A_CASE}{SUPERVISOR}kill -STOP $supervisor\nsleep 600\n");
    let began = Instant::now();
    Hostile::wrapper(&script).ends_with(
        &["--timeout-scale", "0.05"],
        3,
        "harness-error",
        "although the deadline is over",
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_run_can_be_interrupted_while_a_supervisor_is_stopped() {
    let hostile = Hostile::wrapper(&format!(
        "{IN_A_CASE}{SUPERVISOR}kill -STOP $supervisor\n: >${{0%/*}}/stopped\nsleep 600\n"
    ));
    let suite = hostile.start(&[]);
    let stopped = hostile.folder.path().join("stopped");
    assert!(
        conformance::inside::process::eventually(Duration::from_secs(60), || stopped.exists()),
        "the supervisor was not stopped"
    );
    let began = Instant::now();
    kill(
        Pid::from_raw(suite.id().try_into().expect("a number")),
        Signal::SIGINT,
    )
    .expect("a signal");
    let output = suite.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_flood_on_standard_error_ends_the_case_and_fills_no_memory() {
    let script = format!("dd if=/dev/zero bs=16M count=64 >&2 2>/dev/null\n{PASSES}");
    // The case must be more patient than the disk is slow.
    let patient = ["--timeout-scale", "20"];
    Hostile::wrapper(&script).ends_with(&patient, 1, "fail", "standard error included");
    expect_modest_memory();
}

#[test]
fn much_on_standard_error_is_shown_by_its_tail() {
    Hostile::wrapper("dd if=/dev/zero bs=16M count=8 >&2 2>/dev/null\nexit 0\n").ends_with(
        &[],
        1,
        "fail",
        "",
    );
    expect_modest_memory();
}

/// Demands of a wrapper that attacks what looks at its extensions that this is told, that the case is judged all the
/// same, and that the run is not as expected.
fn expect_nothing_observed(attack: &str, options: &[&str], words: &str) {
    let hostile = Hostile::wrapper(&format!("{BEFORE_THE_CASES}{attack}"));
    let began = Instant::now();
    let output = hostile.start(options).wait_with_output().expect("an end");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("none of its extensions could be seen: "), "{said}");
    assert!(said.contains(words), "{said}");
    let report = fs::read(hostile.report()).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["cases"][0]["outcome"], "pass", "{report:#}");
    expect_modest_memory();
}

#[test]
fn a_wrapper_that_kills_what_observes_it_is_not_observed() {
    expect_nothing_observed("kill -KILL $PPID\n", &[], "tried it was ended: ");
}

#[test]
fn a_wrapper_that_kills_the_supervisor_of_what_observes_it_is_not_observed() {
    let attack = format!("{SUPERVISOR}kill -KILL $supervisor\nsleep 600\n");
    expect_nothing_observed(&attack, &[], "the trial's supervisor ended without a result");
}

#[test]
fn a_wrapper_that_stops_what_observes_it_is_not_observed() {
    let options = ["--timeout-scale", "0.1"];
    expect_nothing_observed(
        "kill -STOP $PPID\nsleep 600\n",
        &options,
        "was held up for longer",
    );
}

#[test]
fn a_wrapper_that_stops_the_supervisor_of_what_observes_it_is_not_observed() {
    let attack = format!("{SUPERVISOR}kill -STOP $supervisor\nsleep 600\n");
    let options = ["--timeout-scale", "0.1"];
    expect_nothing_observed(&attack, &options, "although the deadline is over");
}

#[test]
fn a_wrapper_that_floods_what_observes_it_is_not_observed() {
    let attack = "exec dd if=/dev/zero bs=16M count=64 >&2 2>/dev/null\n";
    expect_nothing_observed(attack, &["--timeout-scale", "20"], "standard error included");
}

#[test]
fn extensions_cannot_be_written_into_the_pipes_of_what_observes_a_wrapper() {
    let attack = r#"{SUPERVISOR}echo '{"Ok":{"extensions":["signals"]}}' >/proc/$supervisor/fd/1
        exit 1
    "#;
    let attack = attack.replace("{SUPERVISOR}", SUPERVISOR);
    expect_nothing_observed(&attack, &[], "the suite has not written");
}

#[test]
fn a_wrapper_that_hangs_before_the_cases_has_no_extension() {
    let hostile = Hostile::wrapper(&format!("{BEFORE_THE_CASES}exec sleep 600\n"));
    let began = Instant::now();
    hostile.ends_with(&["--timeout-scale", "0.1"], 0, "pass", "");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// Runs the suite on a shell or shim that is this script, and demands status 3 and these words.
fn expect_refused(option: &str, script: &str, scale: &str, words: &str) {
    let hostile = Hostile::wrapper(script);
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--timeout-scale", scale, option])
        .arg(hostile.folder.path().join("wrapper"))
        .env("TMPDIR", hostile.folder.path())
        .output()
        .expect("the suite");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains(words), "{}", said(&output));
    expect_modest_memory();
}

#[test]
fn a_shim_or_shell_that_attacks_what_tries_it_is_refused() {
    for (attack, words) in [
        ("kill -KILL $PPID\n", "tried it was ended: "),
        ("kill -STOP $PPID\nsleep 600\n", "was held up for longer"),
    ] {
        expect_refused("--server", attack, "0.1", words);
        expect_refused("--shell", attack, "0.1", words);
    }
}

#[test]
fn a_shim_that_writes_a_line_without_end_is_refused() {
    let attack = "exec dd if=/dev/zero bs=16M count=64 2>/dev/null\n";
    expect_refused("--server", attack, "2", "has no end");
}

#[test]
fn a_shim_that_answers_what_nothing_has_asked_for_is_refused() {
    let attack = "exec yes '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"policy/decide\",\"params\":{}}'\n";
    expect_refused("--server", attack, "2", "messages that nothing has asked for");
}

#[test]
fn the_doctor_survives_what_it_looks_at() {
    for option in ["--wrapper", "--shell", "--server"] {
        let hostile = Hostile::wrapper("kill -KILL $PPID\n");
        let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args(["doctor", option])
            .arg(hostile.folder.path().join("wrapper"))
            .output()
            .expect("the suite");
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let finding = format!("BAD   {option}: ");
        assert!(said(&output).contains(&finding), "{}", said(&output));
        assert!(
            said(&output).contains("tried it was ended: "),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn what_is_measured_ends_the_measuring_and_not_the_suite() {
    for (attack, words) in [
        (
            "kill -KILL $PPID\nsleep 600\n",
            "the process that measured was ended",
        ),
        (
            "kill -STOP $PPID\nsleep 600\n",
            "the process that measured was stopped",
        ),
    ] {
        let hostile = Hostile::wrapper(attack);
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args(["bench", "--runs", "1", "--wrapper"])
            .arg(hostile.folder.path().join("wrapper"))
            .output()
            .expect("the suite");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}
