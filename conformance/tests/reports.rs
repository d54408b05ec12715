//! The reports of one run agree with each other, and several runs stand side by side.

use std::fs;
use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

fn conformance() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.timeout(Duration::from_secs(120));
    command
}

/// A run of /bin/true as wrapper, with every report in `folder`.
fn run_with_reports(folder: &Path) {
    conformance()
        .current_dir(folder)
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
        ])
        .args([
            "--json",
            "report.json",
            "--junit",
            "report.xml",
            "--tap",
            "report.tap",
            "--html",
            "report.html",
        ])
        .assert()
        .code(1);
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("a report")
}

#[test]
fn all_reports_of_a_run_count_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run_with_reports(folder.path());
    let json: Value = serde_json::from_str(&read(folder.path(), "report.json")).expect("JSON");
    let cases = json["cases"].as_array().expect("cases");
    let failed = json["summary"]["fail"].as_u64().expect("a number");
    assert_eq!(failed as usize, cases.len());

    let junit = read(folder.path(), "report.xml");
    assert!(
        junit.contains(&format!(
            "tests=\"{failed}\" skipped=\"0\" failures=\"{failed}\" errors=\"0\""
        )),
        "{junit}"
    );
    assert_eq!(junit.matches("<testcase ").count(), cases.len());

    let tap = read(folder.path(), "report.tap");
    assert!(
        tap.starts_with(&format!("TAP version 14\n1..{failed}\n")),
        "{tap}"
    );
    assert_eq!(
        tap.lines().filter(|line| line.starts_with("not ok ")).count(),
        cases.len()
    );

    let html = read(folder.path(), "report.html");
    assert_eq!(html.matches("data-outcome=\"fail\"").count(), cases.len());
    for case in cases {
        let id = case["id"].as_str().expect("an id").replace('/', "&#x2f;");
        assert!(html.contains(&id), "{id} is not in the page");
    }
}

#[test]
fn the_html_report_needs_no_network_and_escapes_what_it_shows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run_with_reports(folder.path());
    let html = read(folder.path(), "report.html");
    // Links lead within the page only.
    assert!(html.contains("href=\"#"), "{html}");
    let html = html.replace("href=\"#", "");
    for part in ["src=", "href=", "url(", "@import", "http:", "https:"] {
        assert!(
            !html.contains(part),
            "the page refers to something outside: {part}"
        );
    }
    let hostile = serde_json::json!({
        "format": 1, "implementations": {"wrapper": {"path": "<script>alert(1)</script>"}},
        "level": "core", "seed": 1, "shard": "1/1", "duration_ms": 5, "suite": {"name": "s", "version": "1"},
        "summary": {
            "pass": 0, "fail": 1, "expected_fail": 0, "unexpected_pass": 0, "not_applicable": 0, "harness_error": 0,
        },
        "levels": {},
        "cases": [{
            "id": "wrapper.deny.status/is-one", "requirement": "wrapper.deny.status", "level": "core",
            "role": "wrapper", "outcome": "fail", "duration_ms": 1, "expected": "<b>", "observed": "</dl><script>",
            "transcript": ["1.0 ms <-- stream: <img onerror=x>"], "stderr_tail": null, "reproduce": "conformance case",
        }],
    });
    let page = conformance::inside::html::report(&serde_json::from_value(hostile).expect("a report"))
        .expect("a page");
    for part in ["<script>alert", "<b>", "</dl><script>", "<img"] {
        assert!(!page.contains(part), "{part} is not escaped");
    }
}

#[test]
fn the_html_report_begins_with_what_failed_and_with_its_likely_root() {
    let case = |id: &str, outcome: &str| {
        let requirement = id.split('/').next();
        serde_json::json!({
            "id": id, "requirement": requirement, "level": "core", "role": "e2e", "outcome": outcome,
            "duration_ms": 1, "reproduce": "conformance case",
        })
    };
    let report = serde_json::json!({
        "format": 1, "suite": {"name": "s", "version": "1"}, "implementations": {}, "level": "core", "seed": 1,
        "shard": "1/1", "duration_ms": 5, "levels": {},
        "summary": {
            "pass": 2, "fail": 2, "expected_fail": 0, "unexpected_pass": 0, "not_applicable": 0, "harness_error": 0,
        },
        "cases": [
            case("wrapper.usage/passes", "pass"), case("e2e.deny/fails", "fail"), case("e2e.deny/passes", "pass"),
            case("shell.not-found/fails", "fail"),
        ],
    });
    let report = serde_json::from_value(report).expect("a report");
    let page = conformance::inside::html::report(&report).expect("a page");
    let place = |part: &str| {
        page.find(part)
            .unwrap_or_else(|| panic!("{part} is missing: {page}"))
    };
    let sections = ["shell.not-found", "e2e.deny", "wrapper.usage"];
    let places = sections.map(|id| place(&format!("<section class=\"requirement\" id=\"{id}\"")));
    assert!(places.is_sorted(), "{places:?}");
    assert!(place("href=\"#shell.not-found\"") < place("href=\"#e2e.deny\""));
    assert!(
        page.contains("Likely root: cases of <a href=\"#e2e.deny\">e2e.deny</a> need this"),
        "{page}"
    );
    let fold = place("<details class=\"fold\"><summary>1 passed</summary>");
    assert!(places[1] < fold && fold < place("e2e.deny&#x2f;passes"));
}

#[test]
fn runs_stand_side_by_side() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run_with_reports(folder.path());
    fs::copy(
        folder.path().join("report.json"),
        folder.path().join("other.json"),
    )
    .expect("a copy");
    let output = conformance()
        .current_dir(folder.path())
        .args(["compare", "report.json", "other.json", "--html", "matrix.html"])
        .assert()
        .code(0)
        .get_output()
        .clone();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("[1] report\n[2] other\n"), "{text}");
    assert!(
        text.lines().any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [requirement, _, one, other] = columns[..] else {
                return false;
            };
            requirement == "wrapper.deny.status" && one.starts_with("0/") && one == other
        }),
        "{text}"
    );
    assert!(read(folder.path(), "matrix.html").contains("wrapper.deny.status"));

    fs::write(folder.path().join("other.json"), "{}").expect("a file");
    let refused = conformance()
        .current_dir(folder.path())
        .args(["compare", "other.json"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a report of this suite"));
}

#[test]
fn only_one_report_can_go_to_standard_output() {
    let output = conformance()
        .args(["run", "--wrapper", "/bin/true", "--json", "-", "--tap", "-"])
        .assert()
        .code(2)
        .get_output()
        .clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("only one report can go to standard output"));
}

#[test]
fn two_reports_cannot_go_to_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (name, other_name) = (folder.path().join("report"), folder.path().join("./report"));
    let refused = conformance()
        .args(["run", "--wrapper", "/bin/true", "--json"])
        .arg(name)
        .arg("--tap")
        .arg(other_name)
        .assert()
        .code(2)
        .get_output()
        .clone();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("two reports would overwrite each other"), "{said}");
    // What keeps nothing may be named twice.
    let only = ["--only", "wrapper.usage/no-arguments"];
    conformance()
        .args([
            "run",
            "--wrapper",
            "/bin/true",
            "--json",
            "/dev/null",
            "--tap",
            "/dev/null",
        ])
        .args(only)
        .assert()
        .code(1);
}

/// A report of a run of `wrapper` on the cases of wrapper.usage, under `name`.
fn report_of(folder: &Path, name: &str, wrapper: &str, status: i32, options: &[&str]) {
    conformance()
        .current_dir(folder)
        .args([
            "run",
            "--wrapper",
            wrapper,
            "--only",
            "wrapper.usage/*",
            "--seed",
            "7",
            "--json",
            name,
        ])
        .args(options)
        .assert()
        .code(status);
}

#[test]
fn two_runs_are_compared_case_by_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrapper = folder.path().join("wrapper");
    fs::write(
        &wrapper,
        "#!/bin/sh\necho 'usage: wrapper FILE ARGV0...' >&2\nexit 2\n",
    )
    .expect("a script");
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    report_of(folder.path(), "good.json", "./wrapper", 1, &[]);
    report_of(folder.path(), "bad.json", "/bin/true", 1, &[]);
    report_of(
        folder.path(),
        "less.json",
        "./wrapper",
        1,
        &["--skip", "wrapper.usage/no-arguments"],
    );
    let compare = |names: &[&str], status: i32| {
        let mut command = conformance();
        let command = command
            .current_dir(folder.path())
            .args(["compare", "--by-case"])
            .args(names);
        let output = command.assert().code(status).get_output().clone();
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let worse = compare(&["good.json", "bad.json"], 1);
    assert!(
        worse.contains("worse   wrapper.usage/no-arguments: pass -> fail\n"),
        "{worse}"
    );
    let better = compare(&["bad.json", "good.json"], 0);
    assert!(
        better.contains("better  wrapper.usage/no-arguments: fail -> pass\n"),
        "{better}"
    );
    assert_eq!(
        compare(&["good.json", "good.json"], 0),
        "0 worse, 0 better, 0 new\n"
    );
    let less = compare(&["good.json", "less.json"], 1);
    assert!(
        less.contains("worse   wrapper.usage/no-arguments: pass -> not run\n"),
        "{less}"
    );
    let new = compare(&["less.json", "good.json"], 0);
    assert!(
        new.contains("new     wrapper.usage/no-arguments: pass\n"),
        "{new}"
    );
    compare(&["good.json"], 2);
}

#[test]
fn the_shards_of_a_run_are_joined_into_one_report() {
    let folder = tempfile::tempdir().expect("a folder");
    report_of(folder.path(), "whole.json", "/bin/true", 1, &[]);
    for shard in ["1/2", "2/2"] {
        let name = format!("part-{}.json", &shard[..1]);
        report_of(folder.path(), &name, "/bin/true", 1, &["--shard", shard]);
    }
    let join = |names: &[&str], status: i32| {
        let mut command = conformance();
        let command = command.current_dir(folder.path()).arg("join").args(names);
        let command = command.args(["--json", "joined.json", "--html", "joined.html"]);
        let command = command.args(["--junit", "joined.xml", "--tap", "joined.tap"]);
        command.assert().code(status).get_output().clone()
    };
    let joined = join(&["part-2.json", "part-1.json"], 1);
    let said = String::from_utf8(joined.stdout).expect("UTF-8");
    let whole: Value = serde_json::from_str(&read(folder.path(), "whole.json")).expect("JSON");
    let joined: Value = serde_json::from_str(&read(folder.path(), "joined.json")).expect("JSON");
    let ids = |report: &Value| -> Vec<String> {
        let cases = report["cases"].as_array().expect("cases").iter();
        cases.map(|case| case["id"].to_string()).collect()
    };
    assert_eq!(ids(&joined), ids(&whole));
    for member in ["shard", "summary", "levels", "level", "implementations"] {
        assert_eq!(joined[member], whole[member], "{member}");
    }
    assert!(
        said.contains("           fail  wrapper.usage/no-arguments\n"),
        "{said}"
    );
    assert!(read(folder.path(), "joined.html").contains("wrapper.usage"));
    let number = ids(&joined).len();
    let tap = read(folder.path(), "joined.tap");
    assert!(
        tap.starts_with(&format!("TAP version 14\n1..{number}\n")),
        "{tap}"
    );
    let junit = read(folder.path(), "joined.xml");
    assert_eq!(junit.matches("<testcase ").count(), number, "{junit}");

    report_of(folder.path(), "other.json", "/bin/false", 1, &["--shard", "2/2"]);
    for (names, complaint) in [
        (&["part-1.json"][..], "missing: shard 2/2"),
        (&["part-1.json", "part-1.json"], "are both shard 1/2"),
        (&["part-1.json", "whole.json"], "the number of shards differs"),
        (&["part-1.json", "other.json"], "what was judged differs"),
    ] {
        let refused = join(names, 2);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(complaint), "{said}");
    }
}
