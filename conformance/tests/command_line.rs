//! The command line from outside: exit statuses, reports, and errors that tell what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

fn conformance() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.timeout(Duration::from_secs(120));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An executable text in a fresh folder.
fn script(content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("script");
    fs::write(&path, content).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    (folder, path)
}

#[test]
fn nothing_to_judge_is_a_usage_error() {
    let output = conformance().arg("run").assert().code(2).get_output().clone();
    insta::assert_snapshot!(text(&output.stderr), @"conformance: nothing to judge: name at least one of --shell PATH, --wrapper PATH, --server COMMAND
");
}

#[test]
fn a_wrapper_that_does_not_exist_is_a_usage_error() {
    let output = conformance()
        .args(["run", "--wrapper", "/nonexistent"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    insta::assert_snapshot!(text(&output.stderr), @"conformance: --wrapper /nonexistent: cannot be judged: No such file or directory (os error 2)
");
}

#[test]
fn a_folder_and_a_plain_file_cannot_be_judged() {
    let output = conformance()
        .args(["run", "--shell", "/"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(
        text(&output.stderr).contains("--shell /: not a file"),
        "{}",
        text(&output.stderr)
    );
    let output = conformance()
        .args(["run", "--shell", "/etc/passwd"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(
        text(&output.stderr).contains("not executable"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_shell_that_is_not_patched_is_told_so_in_one_line_and_at_once() {
    let output = conformance()
        .args(["run", "--shell", "/bin/sh"])
        .assert()
        .code(2)
        .stdout("")
        .get_output()
        .clone();
    insta::assert_snapshot!(text(&output.stderr), @"conformance: --shell /bin/sh: this shell is not patched: with EXEC_WRAPPER set, none of its commands went to the wrapper, neither /bin/true nor uname, which PATH leads to (if it reads another variable, name that by --wrapper-variable, such as BASH_EXEC_WRAPPER)
");
}

#[test]
fn a_role_that_nothing_is_named_for_is_a_usage_error() {
    let output = conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/true",
            "--role",
            "wrapper",
            "--role",
            "e2e",
        ])
        .assert()
        .code(2)
        .get_output()
        .clone();
    insta::assert_snapshot!(text(&output.stderr), @"conformance: --role e2e: the implementation to judge is not named; add --shell, --wrapper and --server
");
}

#[test]
fn only_cases_of_the_roles_that_were_asked_for_run() {
    let output = conformance()
        .args(["run", "--json", "-", "--server"])
        .arg(env!("CARGO_BIN_EXE_faulty-shim"))
        .args([
            "--wrapper",
            "/bin/true",
            "--role",
            "wrapper",
            "--only",
            "wire.frame/*",
        ])
        .assert()
        .code(1)
        .get_output()
        .clone();
    let report: serde_json::Value = serde_json::from_str(&text(&output.stdout)).expect("a report");
    let roles: std::collections::BTreeSet<_> = report["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|case| case["role"].as_str().expect("a role"))
        .collect();
    assert_eq!(roles, ["wrapper"].into());
}

#[test]
fn a_glob_that_matches_nothing_names_the_nearest_id() {
    let output = conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/true",
            "--only",
            "wrapper.deny.mesage/with-reason",
        ])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(text(&output.stderr).contains("the nearest id is wrapper.deny.message/with-reason"));
}

#[test]
fn unknown_options_and_levels_are_usage_errors() {
    conformance()
        .args(["run", "--wrapper", "/bin/true", "--level", "soft"])
        .assert()
        .code(2);
    conformance()
        .args(["run", "--wrapper", "/bin/true", "--shard", "5/4"])
        .assert()
        .code(2);
    conformance()
        .args(["run", "--wrapper", "/bin/true", "--timeout-scale", "0"])
        .assert()
        .code(2);
    conformance().args(["run", "--colour"]).assert().code(2);
    conformance().assert().code(2);
}

#[test]
fn a_shim_that_never_answers_is_a_harness_error_with_its_last_words() {
    let (_folder, path) = script("#!/bin/sh\necho 'cannot find my licence' >&2\ncat >/dev/null\n");
    let output = conformance()
        .args(["run", "--timeout-scale", "0.1", "--server"])
        .arg(&path)
        .assert()
        .code(3)
        .get_output()
        .clone();
    let error = text(&output.stderr);
    assert!(
        error.contains("does not answer `initialize`") && error.contains("cannot find my licence"),
        "{error}"
    );
}

#[test]
fn a_shim_that_dies_at_once_is_a_harness_error_at_once() {
    conformance()
        .args(["run", "--server", "/bin/false"])
        .timeout(Duration::from_secs(5))
        .assert()
        .code(3);
}

#[test]
fn a_wrapper_that_does_nothing_fails_and_the_report_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.json");
    let output = conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/true",
            "--only",
            "wrapper.deny.*",
            "--level",
            "core",
            "--seed",
            "7",
            "--json",
        ])
        .arg(&report)
        .assert()
        .code(1)
        .get_output()
        .clone();
    let shown = text(&output.stdout);
    for part in [
        "FAIL: wrapper.deny.message/with-reason",
        "requirement",
        "expected",
        "observed",
        "again",
        "seed 7",
    ] {
        assert!(shown.contains(part), "{part} is missing: {shown}");
    }
    let report: Value = serde_json::from_slice(&fs::read(report).expect("the report")).expect("JSON");
    assert_eq!(report["format"], 1);
    assert_eq!(report["level"], "core");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["shard"], "1/1");
    assert_eq!(report["summary"]["pass"], 0);
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(report["summary"]["fail"], cases.len());
    let first = &cases[0];
    assert_eq!(first["outcome"], "fail");
    assert_eq!(first["role"], "wrapper");
    assert_eq!(
        first["requirement"],
        first["id"]
            .as_str()
            .and_then(|id| id.split_once('/'))
            .expect("an id")
            .0
    );
    assert!(
        first["reproduce"]
            .as_str()
            .is_some_and(|command| command.starts_with("conformance case wrapper.deny"))
    );
}

#[test]
fn the_json_report_can_go_to_standard_output_alone() {
    let output = conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/true",
            "--only",
            "wrapper.deny.status/*",
            "--json",
            "-",
        ])
        .assert()
        .code(1)
        .get_output()
        .clone();
    let report: Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON on standard output");
    assert_eq!(report["suite"]["name"], "shell-escalation-conformance");
    assert!(text(&output.stderr).contains("failed"));
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_the_run() {
    let output = conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/true",
            "--json",
            "/nonexistent/report.json",
        ])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).contains("--json /nonexistent/report.json: cannot be written"));
}

#[test]
fn the_case_command_runs_one_case_with_its_wire() {
    let output = conformance()
        .args(["case", "wrapper.deny.status/is-one", "--wrapper", "/bin/true"])
        .assert()
        .code(1)
        .get_output()
        .clone();
    assert!(
        text(&output.stdout).contains("the shell calls /bin/true"),
        "{}",
        text(&output.stdout)
    );
    conformance()
        .args(["case", "wrapper.deny.status/is-one", "--shell", "/bin/true"])
        .assert()
        .code(2);
    conformance()
        .args(["case", "wrapper.deny.status/is-on", "--wrapper", "/bin/true"])
        .assert()
        .code(2);
}

#[test]
fn a_baseline_turns_known_failures_green_and_is_strict() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let baseline = folder.path().join("known.toml");
    let run = |more: &[&str]| {
        let mut command = conformance();
        command
            .args(["run", "--wrapper", "/bin/true", "--only", "wrapper.deny.status/*"])
            .args(more);
        command
    };
    let path = baseline.to_str().expect("a path in UTF-8");
    run(&["--write-baseline", path]).assert().code(1);
    let written = fs::read_to_string(&baseline).expect("a baseline");
    assert!(
        written.contains("case = \"wrapper.deny.status/is-one\""),
        "{written}"
    );

    let refused = run(&["--baseline", path]).assert().code(2).get_output().clone();
    assert!(
        text(&refused.stderr).contains("empty reason"),
        "{}",
        text(&refused.stderr)
    );

    let filled = written
        .replace("reason = \"\"", "reason = \"does nothing\"")
        .replace("issue = \"\"", "issue = \"1\"");
    fs::write(&baseline, &filled).expect("a baseline");
    let expected = run(&["--baseline", path]).assert().code(0).get_output().clone();
    assert!(text(&expected.stdout).contains("failed as expected"));

    fs::write(&baseline, filled.replace("status/is-one", "status/is-won")).expect("a baseline");
    let unknown = run(&["--baseline", path]).assert().code(2).get_output().clone();
    assert!(text(&unknown.stderr).contains("the nearest is 'wrapper.deny.status/is-one'"));
}

#[test]
fn list_and_explain_speak_from_the_requirements() {
    let list = conformance()
        .args(["list", "--json"])
        .assert()
        .code(0)
        .get_output()
        .clone();
    let list: Value = serde_json::from_slice(&list.stdout).expect("JSON");
    for (kind, member, named) in [
        ("requirements", "id", "wrapper.deny.status"),
        ("cases", "id", "wrapper.deny.status/is-one"),
        ("faults", "name", "denial-with-status-0"),
    ] {
        let entries = list[kind].as_array().expect(kind);
        assert!(
            entries.iter().any(|entry| entry[member] == named),
            "{kind}: {named}"
        );
    }
    let output = conformance()
        .args(["explain", "wrapper.deny.status"])
        .assert()
        .code(0)
        .get_output()
        .clone();
    insta::assert_snapshot!(text(&output.stdout).split("\ncases:").next().expect("a part"));
    assert!(text(&output.stdout).contains("\n  wrapper.deny.status/is-one (wrapper, core)\n"));
    conformance()
        .args(["explain", "wrapper.deny.statu"])
        .assert()
        .code(2);
    let output = conformance()
        .args(["case", "wrapper.deny.status", "--wrapper", "/bin/true"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    insta::assert_snapshot!(text(&output.stderr), @"conformance: 'wrapper.deny.status' is a requirement; its cases are wrapper.deny.status/is-one wrapper.deny.status/with-standard-error-closed
");
}

#[test]
fn a_selection_that_is_empty_for_another_reason_runs_nothing() {
    // The glob matches a case of the server, and only a wrapper is named.
    conformance()
        .args(["run", "--wrapper", "/bin/true", "--only", "session.*"])
        .assert()
        .code(4);
}

#[test]
fn a_closed_standard_output_ends_the_run_without_a_panic() {
    use std::process::Stdio;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--wrapper", "/bin/true", "--only", "wrapper.deny.*"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its end");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn an_interrupted_run_reports_what_it_has_and_leaves_nothing_running() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A wrapper that never ends and that moved its child into a session of its own.
    let (_script_folder, wrapper) = script("#!/bin/sh\nsetsid sleep 1000 &\nexec sleep 1000\n");
    let report = folder.path().join("report.json");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args([
            "run",
            "--jobs",
            "1",
            "--only",
            "wrapper.deny.*",
            "--timeout-scale",
            "0.2",
            "--wrapper",
        ])
        .arg(&wrapper)
        .arg("--json")
        .arg(&report)
        .arg("--tap")
        .arg(folder.path().join("report.tap"))
        .arg("--junit")
        .arg(folder.path().join("report.xml"))
        .arg("--write-baseline")
        .arg(folder.path().join("known.toml"))
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a run");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut first = String::new();
    output.read_line(&mut first).expect("the wrapper's extensions");
    output.read_line(&mut first).expect("the first finished case");
    assert!(first.contains("fail"), "{first}");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("a signal");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest");
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    assert!(rest.contains("interrupted by signal 2"), "{rest}");
    let report: Value = serde_json::from_slice(&fs::read(&report).expect("the report")).expect("JSON");
    let over = report["cases"].as_array().expect("cases").len();
    assert!(over > 0);
    assert_eq!(report["interrupted"]["signal"], 2);
    let not_run = report["interrupted"]["not_run"].as_u64().expect("a number");
    let all = conformance::suite::all();
    let wanted = all.iter().filter(|case| case.id.starts_with("wrapper.deny."));
    assert_eq!(over as u64 + not_run, wanted.count() as u64);
    let written = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file");
    let tap = written("report.tap");
    assert!(
        tap.contains(&format!("\n1..{}\n", over as u64 + not_run)),
        "{tap}"
    );
    assert!(tap.contains("\nBail out! interrupted by signal 2: "), "{tap}");
    let junit = written("report.xml");
    assert!(
        junit.contains("<error message=\"interrupted by signal 2: "),
        "{junit}"
    );
    assert_eq!(written("known.toml"), "", "half a run is no list of what fails");
    let sleepers: Vec<_> = conformance::inside::process::all()
        .into_iter()
        .filter(|process| process.state != 'Z')
        .filter_map(|process| fs::read_link(format!("/proc/{}/cwd", process.pid)).ok())
        .filter(|directory| directory.starts_with(folder.path()))
        .collect();
    assert!(sleepers.is_empty(), "still running in {sleepers:?}");
}

#[test]
fn a_benchmark_refuses_to_measure_what_does_not_do_its_work() {
    let output = conformance()
        .args(["bench", "--wrapper", "/bin/true", "--runs", "1"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    let error = text(&output.stderr);
    assert!(
        error.contains("instead of status 1: judge it with `conformance run` first"),
        "{error}"
    );
}

#[test]
fn the_doctor_finds_a_healthy_machine_and_an_implementation_that_cannot_breathe() {
    let output = conformance().arg("doctor").assert().code(0).get_output().clone();
    assert!(
        text(&output.stdout).contains("good  kernel: "),
        "{}",
        text(&output.stdout)
    );
    let output = conformance()
        .args(["doctor", "--server", "/bin/false", "--wrapper", "/etc/passwd"])
        .args(["--shell", "/bin/sh"])
        .assert()
        .code(3)
        .get_output()
        .clone();
    let shown = text(&output.stdout);
    assert!(
        shown.contains("BAD   --server: ") && shown.contains("does not answer `initialize`"),
        "{shown}"
    );
    assert!(
        shown.contains("BAD   --wrapper: --wrapper /etc/passwd: not executable"),
        "{shown}"
    );
    let output = conformance()
        .args(["doctor", "--wrapper", "/bin/true", "--server"])
        .arg(format!("{} --variant plain", env!("CARGO_BIN_EXE_faulty-shim")))
        .assert()
        .code(3)
        .get_output()
        .clone();
    let wrong = text(&output.stdout);
    let words =
        "BAD   --wrapper: --wrapper /bin/true: expected a handshake on the escalation socket, observed: none";
    assert!(wrong.contains(words), "{wrong}");
    assert!(wrong.contains("good  --server: faulty-shim "), "{wrong}");
    assert!(
        shown.contains("BAD   --shell: --shell /bin/sh: this shell is not patched"),
        "{shown}"
    );
}

#[test]
fn a_case_can_run_under_another_command() {
    let (folder, under) = script("#!/bin/sh\necho \"$1\" >\"$(dirname \"$0\")/seen\"\nshift\nexec \"$@\"\n");
    conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/false",
            "--only",
            "wrapper.deny.status/is-one",
            "--under",
        ])
        .arg(format!("{} {{case}}", under.display()))
        .assert()
        .code(1);
    let seen = fs::read_to_string(folder.path().join("seen")).expect("the command ran");
    assert_eq!(seen, "wrapper.deny.status-is-one\n");

    let output = conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/false",
            "--only",
            "wrapper.deny.status/is-one",
        ])
        .args(["--under", "/no/such/tool -v"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(text(&output.stderr).contains("--under \"/no/such/tool -v\": there is no /no/such/tool"));
}

#[test]
fn servers_are_measured_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bench.json");
    let shim = env!("CARGO_BIN_EXE_faulty-shim");
    let output = conformance()
        .args(["bench", "--runs", "2", "--server", shim, "--compare"])
        .arg(format!("{shim} --variant chatty"))
        .arg("--json")
        .arg(&file)
        .assert()
        .code(0)
        .get_output()
        .clone();
    let said = text(&output.stdout);
    for heading in ["p99 us", "Run per s", "KiB a session", "sessions/s"] {
        assert!(said.contains(heading), "{said}");
    }
    let report: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let rows = |member: &str| report[member].as_array().map(Vec::len);
    assert_eq!(rows("latency"), Some(6));
    assert_eq!(rows("throughput"), Some(8));
    assert_eq!(rows("footprint"), Some(2));
    assert!(report["latency"][0]["median_us"].as_f64() > Some(0.0));

    let broken = conformance()
        .args(["bench", "--runs", "2", "--server"])
        .arg(format!("{shim} --fault action-in-lower-case"))
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(text(&broken.stderr).contains("the server did not do what it should"));
}

#[test]
fn a_shell_that_reads_another_variable_is_judged_by_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let patched = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/shells/bash-5.3/bin/bash");
    // A shell that knows no other name than OTHER_WRAPPER.
    let other = folder.path().join("bash");
    let script = format!(
        "#!/bin/sh\nunset EXEC_WRAPPER\n[ -z \"$OTHER_WRAPPER\" ] || export EXEC_WRAPPER=\"$OTHER_WRAPPER\"\nexec {patched} \"$@\"\n"
    );
    fs::write(&other, script).expect("a script");
    fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let judge = |more: &[&str]| {
        let mut run = conformance();
        run.args(["run", "--only", "shell.wrap/once-for-each", "--shell"])
            .arg(&other)
            .args(more);
        run.output().expect("a run")
    };
    let without = judge(&[]);
    assert_eq!(without.status.code(), Some(2), "{}", text(&without.stderr));
    assert!(text(&without.stderr).contains("name that by --wrapper-variable"));
    let with = judge(&["--wrapper-variable", "OTHER_WRAPPER"]);
    assert_eq!(with.status.code(), Some(0), "{}", text(&with.stdout));
    let wrong = judge(&["--wrapper-variable", "1=2"]);
    assert!(text(&wrong.stderr).contains("not the name of a variable"));
}

#[test]
fn a_wrapper_that_ends_before_it_asks_is_told_how_it_ended() {
    for (wrapper, ended) in [
        ("#!/bin/sh\nkill -SEGV $$\n", "killed by signal 11"),
        ("#!/bin/sh\nexit 7\n", "exit status 7"),
    ] {
        let (_folder, wrapper) = script(wrapper);
        let output = conformance()
            .args(["run", "--only", "wrapper.deny.status/is-one", "--wrapper"])
            .arg(wrapper)
            .assert()
            .code(1)
            .get_output()
            .clone();
        let said = text(&output.stdout);
        let observed = format!("observed     the wrapper ended without sending one: {ended}\n");
        assert!(said.contains(&observed), "{said}");
        let on_the_wire = format!("suite: the wrapper ended: {ended}\n");
        assert!(said.contains(&on_the_wire), "{said}");
    }
}

#[test]
fn a_shell_that_wraps_only_what_path_leads_to_is_told_just_that_and_judged() {
    let (_folder, shell) = script("#!/bin/sh\n[ \"$1\" != -c ] || \"$EXEC_WRAPPER\" /usr/bin/uname uname\n");
    let output = conformance()
        .args(["run", "--only", "shell.wrap/once-for-each", "--shell"])
        .arg(&shell)
        .assert()
        .code(1)
        .get_output()
        .clone();
    assert_eq!(
        text(&output.stderr),
        format!(
            "conformance: --shell {}: uname, which PATH leads to, went to the wrapper, and /bin/true, named by its path, did not\n",
            shell.display()
        )
    );
}
