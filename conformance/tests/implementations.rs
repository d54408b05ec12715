//! The real implementations of conformance/implementations: their expectations fit the suite, and the script that
//! judges them notices a difference in either direction. A suite of three lines takes the place of the real one.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn implementations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("implementations")
}

/// The interpreter itself, so that the script finds it whatever PATH is.
fn python() -> String {
    let output = Command::new("python3")
        .args(["-c", "import sys, tomllib; print(sys.executable)"])
        .output()
        .expect("PYTHON IS MISSING: the script needs python3 (apt-get install python3)");
    assert!(
        output.status.success(),
        "PYTHON IS TOO OLD: the script needs 3.11 or later: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_baseline_to_copy_for_go_knows_what_is_known_of_the_wrapper_in_go() {
    let known = |path: &Path| -> Vec<toml::Value> {
        let text = fs::read_to_string(path).expect("a baseline");
        let table: toml::Table = text.parse().expect("TOML");
        table["known"].as_array().expect("known failures").clone()
    };
    let copied = known(&implementations().with_file_name("examples/known-go-wrapper.toml"));
    let judged = known(&implementations().join("go-wrapper/expectations.toml"));
    assert!(judged.len() > 5, "{} known failures", judged.len());
    assert_eq!(copied, judged);
}

struct Judged {
    output: Output,
    said: String,
    matrix: String,
}

/// Runs the script with a suite that finds these cases and ends with this status.
fn judge(cases: &Value, status: i32, arguments: &[&str], path: Option<&str>) -> Judged {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let suite = folder.path().join("suite");
    let report = folder.path().join("report.json");
    fs::write(&report, json!({ "cases": cases }).to_string()).expect("a report");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nwhile [ \"$1\" != --json ]; do shift; done\n\
         while IFS= read -r line || [ -n \"$line\" ]; do printf '%s\\n' \"$line\"; done <'{}' >\"$2\"\nexit {status}\n",
        report.display()
    );
    fs::write(&suite, text).expect("a suite");
    fs::set_permissions(&suite, fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut command = Command::new(python());
    command
        .arg(implementations().join("judge"))
        .args(arguments)
        .arg("--suite")
        .arg(&suite)
        .env("CARGO_TARGET_DIR", folder.path());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().expect("the script");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let matrix = fs::read_to_string(folder.path().join("implementations/matrix.md")).unwrap_or_default();
    Judged { output, said, matrix }
}

/// One case of the core level of the wrapper, as a report has it.
fn case(outcome: &str) -> Value {
    json!([{
        "id": "wrapper.deny.status/is-one", "requirement": "wrapper.deny.status", "level": "core",
        "role": "wrapper", "outcome": outcome, "observed": "exit status 0",
    }])
}

fn judged_in_c(outcome: &str, status: i32) -> Judged {
    judge(&case(outcome), status, &["c-wrapper"], None)
}

#[test]
fn what_is_as_expected_passes() {
    for (outcome, passed) in [("pass", "1/1"), ("expected-fail", "0/1"), ("not-applicable", "-")] {
        let judged = judged_in_c(outcome, 0);
        assert_eq!(judged.output.status.code(), Some(0), "{outcome}: {}", judged.said);
        assert!(
            judged
                .matrix
                .contains(&format!("| wrapper | {passed} | - | - | 0 |")),
            "{outcome}: {}",
            judged.matrix
        );
    }
}

#[test]
fn a_difference_in_either_direction_fails() {
    for (outcome, status, line) in [
        (
            "fail",
            1,
            "fails, which expectations.toml doesn't have: wrapper.deny.status/is-one: observed exit status 0",
        ),
        (
            "unexpected-pass",
            1,
            "passes, although expectations.toml has it: wrapper.deny.status/is-one",
        ),
        (
            "harness-error",
            3,
            "harness error, which implementation.toml doesn't have: wrapper.deny.status/is-one",
        ),
        ("odd", 0, "an outcome that this script doesn't know: odd"),
    ] {
        let judged = judged_in_c(outcome, status);
        assert_eq!(judged.output.status.code(), Some(1), "{outcome}: {}", judged.said);
        assert!(judged.said.contains(line), "{outcome}: {}", judged.said);
    }
}

#[test]
fn a_suite_that_does_not_judge_fails() {
    let judged = judged_in_c("pass", 2);
    assert_eq!(judged.output.status.code(), Some(1), "{}", judged.said);
    assert!(judged.said.contains("exit status 2"), "{}", judged.said);
}

/// What the Python examples are known for, as a report has it.
fn known_of_python() -> Value {
    let text =
        fs::read_to_string(implementations().join("python-example/expectations.toml")).expect("a file");
    let table: toml::Table = text.parse().expect("TOML");
    let known = table["known"].as_array().expect("known failures");
    let cases = known.iter().map(|known| {
        let id = known["case"].as_str().expect("an id");
        json!({"id": id, "level": "faithful", "role": "wrapper", "outcome": "expected-fail", "observed": null})
    });
    cases.collect()
}

#[test]
fn a_known_failure_must_be_there() {
    let mut cases = known_of_python();
    cases[0]["outcome"] = json!("not-applicable");
    cases.as_array_mut().expect("cases").pop();
    let judged = judge(&cases, 0, &["python-example"], None);
    assert_eq!(judged.output.status.code(), Some(1), "{}", judged.said);
    for line in [
        "not applicable, although expectations.toml has it: wrapper.",
        "was not run, although expectations.toml has it: wrapper.",
    ] {
        assert!(judged.said.contains(line), "{}", judged.said);
    }
}

#[test]
fn a_status_that_no_case_explains_fails() {
    let judged = judged_in_c("pass", 1);
    assert_eq!(judged.output.status.code(), Some(1), "{}", judged.said);
    assert!(
        judged.said.contains("BROKEN: the suite's exit status was 1"),
        "{}",
        judged.said
    );
}

#[test]
fn what_cannot_be_obtained_is_not_judged_and_never_passed() {
    let nowhere = Some("/nonexistent");
    let alone = judge(&case("pass"), 0, &["go-wrapper"], nowhere);
    assert_eq!(alone.output.status.code(), Some(1), "{}", alone.said);
    for (options, status) in [(&["--strict"][..], 3), (&[], 0)] {
        let arguments = [&["go-wrapper", "python-example"][..], options].concat();
        let judged = judge(&known_of_python(), 0, &arguments, nowhere);
        assert_eq!(judged.output.status.code(), Some(status), "{}", judged.said);
        assert!(
            judged
                .said
                .contains("NOT JUDGED: go-wrapper: go is missing (Debian: apt-get install golang-go)"),
            "{}",
            judged.said
        );
        assert!(judged.said.contains("1 of 2 judged"), "{}", judged.said);
        assert!(
            judged
                .matrix
                .contains("| wrapper | **not judged** | **not judged** | **not judged** | |"),
            "{}",
            judged.matrix
        );
    }
}

/// Downloads aren't needed to notice that a case was renamed.
#[test]
fn expectations_name_cases_of_the_suite_once_and_say_why() {
    let listed = assert_cmd::Command::new(env!("CARGO_BIN_EXE_conformance"))
        .arg("list")
        .output();
    let listed = String::from_utf8(listed.expect("the list of cases").stdout).expect("UTF-8");
    let ids: HashSet<&str> = listed
        .split_whitespace()
        .filter(|word| word.contains('/'))
        .collect();
    let mut files = 0;
    for entry in fs::read_dir(implementations()).expect("the implementations") {
        let folder = entry.expect("an implementation").path();
        let path = folder.join("expectations.toml");
        if !folder.is_dir() {
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let found: toml::Table = text.parse().expect("TOML");
        let mut seen = HashSet::new();
        for known in found
            .get("known")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
        {
            let id = known["case"].as_str().expect("an id");
            assert!(ids.contains(id), "{}: the suite has no case {id}", path.display());
            assert!(seen.insert(id), "{}: {id} is there twice", path.display());
            for member in ["reason", "issue"] {
                let text = known[member].as_str().expect("a text");
                assert!(!text.is_empty(), "{}: {id} has no {member}", path.display());
            }
        }
    }
    assert!(files >= 5, "only {files} implementations");
}
