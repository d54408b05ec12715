//! The runner from outside, where a case does not end as it should: each time the report says whose fault it was, the
//! exit status tells the same, and nothing is left running.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

/// A case that a wrapper of two lines passes.
const EASY: &str = "wrapper.usage/no-arguments";

/// What such a wrapper ends with.
const PASSES: &str = "echo 'usage: wrapper FILE ARGV0...' >&2\nexit 2\n";

/// That case calls the wrapper without arguments; with some, the suite looks at its extensions before the run.
const IN_A_CASE: &str = "[ $# -eq 0 ] || exit 1\n";

/// A run of the suite on a wrapper that is a shell script.
struct Run {
    folder: tempfile::TempDir,
    command: Command,
}

/// What such a run came to.
struct Outcome {
    said: String,
    complained: String,
    report: Value,
}

impl Run {
    fn of(script: &str) -> Run {
        let folder = tempfile::tempdir().expect("a folder");
        let wrapper = folder.path().join("wrapper");
        fs::write(&wrapper, format!("#!/bin/sh\n{script}")).expect("a script");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("its mode");
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        command
            .timeout(Duration::from_secs(120))
            // Where the folders of the cases are, by which their processes are found.
            .env("TMPDIR", folder.path())
            .args(["run", "--only", EASY, "--wrapper"])
            .arg(wrapper)
            .arg("--json")
            .arg(folder.path().join("report.json"));
        Run { folder, command }
    }

    fn with(mut self, options: &[&str]) -> Run {
        self.command.args(options);
        self
    }

    /// Any command line of the suite.
    fn of_command(arguments: &[&str]) -> Run {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        command
            .timeout(Duration::from_secs(120))
            .env("TMPDIR", folder.path())
            .args(arguments);
        Run { folder, command }
    }

    fn baseline(self, content: &str) -> Run {
        let path = self.folder.path().join("known.toml");
        fs::write(&path, content).expect("a baseline");
        self.with(&["--baseline", path.to_str().expect("UTF-8")])
    }

    /// Runs, and demands the exit status and that nothing is left.
    fn ends_with(&mut self, status: i32) -> Outcome {
        let output = self.command.assert().code(status).get_output().clone();
        assert_eq!(running_in(self.folder.path()), Vec::<PathBuf>::new());
        let report = fs::read(self.folder.path().join("report.json")).unwrap_or_default();
        Outcome {
            said: String::from_utf8_lossy(&output.stdout).into_owned(),
            complained: String::from_utf8_lossy(&output.stderr).into_owned(),
            report: serde_json::from_slice(&report).unwrap_or_default(),
        }
    }
}

impl Outcome {
    /// Demands that the report has this one case, with this outcome and these words.
    fn is(&self, outcome: &str, words: &str) {
        let case = &self.report["cases"][0];
        assert_eq!(case["id"], EASY, "{}", self.complained);
        assert_eq!(case["outcome"], outcome, "{case:#}");
        let observed = case["observed"].as_str().unwrap_or_default();
        assert!(observed.contains(words), "{observed:?}");
        assert!(self.said.contains(words), "{}", self.said);
    }
}

/// The working directories, inside of `folder`, of processes that live.
fn running_in(folder: &Path) -> Vec<PathBuf> {
    conformance::inside::process::all()
        .into_iter()
        .filter(|process| process.state != 'Z')
        .filter_map(|process| fs::read_link(format!("/proc/{}/cwd", process.pid)).ok())
        .filter(|directory| directory.starts_with(folder))
        .collect()
}

#[test]
fn a_case_that_passes_is_green() {
    let outcome = Run::of(PASSES).ends_with(0);
    assert_eq!(outcome.report["cases"][0]["outcome"], "pass");
    assert_eq!(outcome.complained, "");
    assert!(!outcome.said.contains("rounds"), "{}", outcome.said);
}

#[test]
fn what_a_failed_wrapper_said_on_standard_error_is_in_the_report() {
    let outcome = Run::of("echo 'my own words' >&2; exit 0\n").ends_with(1);
    assert_eq!(outcome.report["cases"][0]["outcome"], "fail");
    let said = outcome.report["cases"][0]["stderr_tail"]
        .as_str()
        .unwrap_or_default();
    assert!(
        said.ends_with("] my own words"),
        "{:#}",
        outcome.report["cases"][0]
    );
}

#[test]
fn a_crash_of_the_cases_process_is_an_error_of_the_harness() {
    Run::of(&format!("{IN_A_CASE}kill -KILL $PPID\n"))
        .ends_with(3)
        .is("harness-error", "the case's process ended without a verdict");
}

#[test]
fn a_crash_of_the_cases_supervisor_is_an_error_of_the_harness() {
    Run::of(PASSES)
        .with(&["--under", "sh -c 'read -r assignment; kill -KILL $$'"])
        .ends_with(3)
        .is("harness-error", "the case's supervisor ended without a result");
}

/// A wrapper that passes, but for those of its calls, counted from 1, for which test(1) finds this to hold.
fn fails_when(condition: &str) -> String {
    let count = "calls=$(dirname \"$0\")/calls\necho >>\"$calls\"\ncall=$(wc -l <\"$calls\")\n";
    format!("{IN_A_CASE}{count}[ \"$call\" {condition} ] && exit 0\n{PASSES}")
}

#[test]
fn a_repeated_run_tries_another_seed_each_time_and_counts_a_failure_once() {
    let outcome = Run::of("exit 0\n")
        .with(&["--seed", "5", "--repeat", "3"])
        .ends_with(1);
    let said = &outcome.said;
    assert_eq!(said.matches(&format!("fail  {EASY} (")).count(), 3, "{said}");
    assert!(said.contains("-- round 3, seed 7"), "{said}");
    let rounds = format!("3 rounds\n{EASY} was not as expected in 3 of them, first with seed 5: 1, 2, 3\n");
    assert!(said.ends_with(&rounds), "{said}");
    assert_eq!(outcome.report["summary"]["fail"], 1);
}

#[test]
fn a_case_that_failed_in_one_round_has_failed() {
    let outcome = Run::of(&fails_when("-eq 2"))
        .with(&["--repeat", "3"])
        .ends_with(1);
    assert!(outcome.said.ends_with(": 2\n"), "{}", outcome.said);
    assert_eq!(outcome.report["summary"]["fail"], 1);
}

#[test]
fn until_failure_goes_on_until_a_case_fails() {
    let outcome = Run::of(&fails_when("-ge 3"))
        .with(&["--until-failure", "--seed", "5"])
        .ends_with(1);
    let said = &outcome.said;
    assert_eq!(said.matches(&format!("pass  {EASY}")).count(), 2, "{said}");
    assert_eq!(said.matches(&format!("fail  {EASY} (")).count(), 1, "{said}");
    let rounds = format!("3 rounds\n{EASY} was not as expected in 1 of them, first with seed 7: 3\n");
    assert!(said.ends_with(&rounds), "{said}");
}

#[test]
fn results_are_in_the_order_of_the_suite() {
    let outcome = Run::of("exit 0\n")
        .with(&["--only", "wrapper.usage/*"])
        .ends_with(1);
    let cases = outcome.report["cases"].as_array().expect("cases");
    let reported: Vec<_> = cases.iter().filter_map(|case| case["id"].as_str()).collect();
    let all = conformance::suite::all();
    let wanted = all
        .iter()
        .map(|case| case.id)
        .filter(|id| id.starts_with("wrapper.usage/"));
    assert_eq!(reported, wanted.collect::<Vec<_>>());
}

#[test]
fn an_empty_file_is_as_good_as_none_for_a_new_baseline() {
    let run = Run::of("exit 0\n");
    let path = run.folder.path().join("known.toml");
    fs::write(&path, "").expect("a file");
    let mut run = run.with(&["--write-baseline", path.to_str().expect("UTF-8")]);
    run.ends_with(1);
    let written = fs::read_to_string(&path).expect("a baseline");
    assert!(written.contains(&format!("case = \"{EASY}\"")), "{written}");
}

#[test]
fn what_ends_shortly_after_the_case_is_not_left_behind() {
    Run::of(&format!("sleep 0.3 </dev/null >/dev/null 2>&1 &\n{PASSES}")).ends_with(0);
}

#[test]
fn a_case_ends_with_its_supervisor() {
    let supervisor_of_parent = "read -r _ _ _ supervisor _ </proc/$PPID/stat";
    Run::of(&format!(
        "{IN_A_CASE}{supervisor_of_parent}\nkill -KILL \"$supervisor\"\nsleep 600\n"
    ))
    .ends_with(3)
    .is("harness-error", "the case's supervisor ended without a result");
}

#[test]
fn a_case_that_goes_on_beyond_its_deadline_fails_and_shows_how_far_it_came() {
    // The process that would meet its own, earlier deadlines is stopped.
    let outcome = Run::of(&format!("{IN_A_CASE}kill -STOP $PPID\n"))
        .with(&["--timeout-scale", "0.1"])
        .ends_with(1);
    outcome.is("fail", "it did not; the wire shows how far it came");
    let wire = &outcome.report["cases"][0]["transcript"];
    assert!(wire.to_string().contains("the shell calls"), "{wire}");
}

#[test]
fn a_process_that_is_left_behind_fails_a_case_that_would_have_passed() {
    Run::of(&format!(
        "setsid sleep 1000 </dev/null >/dev/null 2>&1 &\n{PASSES}"
    ))
    .with(&["--timeout-scale", "0.2"])
    .ends_with(1)
    .is("fail", "still running after the case: process");
}

#[test]
fn a_file_that_is_left_behind_fails_a_case_that_would_have_passed() {
    Run::of(&format!(": >\"$TMPDIR/forgotten\"\n{PASSES}"))
        .ends_with(1)
        .is("fail", "left in TMPDIR: forgotten");
}

#[test]
fn a_listed_case_that_passes_is_unexpected() {
    let outcome = Run::of(PASSES)
        .baseline(&format!(
            "[[known]]\ncase = \"{EASY}\"\nreason = \"no usage yet\"\nissue = \"#1\"\n"
        ))
        .ends_with(1);
    outcome.is("unexpected-pass", "take the entry out of the baseline");
    assert_eq!(outcome.report["summary"]["unexpected_pass"], 1);
}

#[test]
fn a_harness_error_is_nothing_that_a_baseline_could_expect() {
    Run::of(&format!("{IN_A_CASE}kill -KILL $PPID\n"))
        .baseline(&format!(
            "[[known]]\ncase = \"{EASY}\"\nreason = \"crashes\"\nissue = \"#1\"\n"
        ))
        .ends_with(3)
        .is("harness-error", "the case's process ended without a verdict");
}

#[test]
fn a_listed_case_that_was_not_run_is_ignored() {
    Run::of(PASSES)
        .baseline(
            "[[known]]\ncase = \"wrapper.deny.status/is-one\"\nreason = \"exits with 2\"\nissue = \"#2\"\n",
        )
        .ends_with(0);
}

#[test]
fn a_baseline_that_cannot_be_read_or_understood_is_named() {
    for (content, words) in [
        ("[[known]\n", "known.toml: TOML parse error"),
        ("[[known]]\ncase = \"a\"\n", "missing field `reason`"),
        ("[[known]]\ncolour = \"red\"\n", "unknown field `colour`"),
        (
            "[[known]]\ncase = \"wrapper.deny.status/is-one\"\nreason = \"x\"\nissue = \" \"\n",
            "has an empty issue",
        ),
    ] {
        let complained = Run::of(PASSES).baseline(content).ends_with(2).complained;
        assert!(complained.contains(words), "{words:?}: {complained}");
    }
    for path in ["/nonexistent/known.toml", "/"] {
        let complained = Run::of(PASSES)
            .with(&["--baseline", path])
            .ends_with(2)
            .complained;
        let words = format!("--baseline {path}: cannot be read");
        assert!(complained.contains(&words), "{complained}");
    }
}

#[test]
fn a_listed_case_twice_is_refused() {
    let entry = format!("[[known]]\ncase = \"{EASY}\"\nreason = \"r\"\nissue = \"i\"\n");
    let outcome = Run::of(PASSES).baseline(&entry.repeat(2)).ends_with(2);
    assert!(
        outcome.complained.contains("is listed twice; keep one entry"),
        "{}",
        outcome.complained
    );
}

#[test]
fn a_baseline_that_cannot_be_written_is_said_before_the_run() {
    let outcome = Run::of("exit 0\n")
        .with(&["--write-baseline", "/nonexistent/known.toml"])
        .ends_with(2);
    let words = "--write-baseline /nonexistent/known.toml: cannot be written";
    assert!(outcome.complained.contains(words), "{}", outcome.complained);
    assert_eq!(outcome.said, "");
}

#[test]
fn a_renewed_baseline_loses_nothing_that_was_not_run() {
    let entry = |case: &str| format!("[[known]]\ncase = \"{case}\"\nreason = \"r\"\nissue = \"i\"\n");
    let other = "wrapper.deny.status/is-one";
    let run = Run::of(PASSES).baseline(&format!("{}{}", entry(other), entry(EASY)));
    let path = run.folder.path().join("known.toml");
    let mut run = run.with(&["--write-baseline", path.to_str().expect("UTF-8")]);
    run.ends_with(1);
    let renewed = fs::read_to_string(&path).expect("a list");
    assert!(renewed.contains(&entry(other)), "{renewed}");
    assert!(!renewed.contains(EASY), "{renewed}");
}

#[test]
fn reports_that_cannot_be_compared_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let no_report = folder.path().join("no-report.json");
    fs::write(&no_report, "{}").expect("a file");
    for (path, words) in [
        ("/nonexistent/report.json", "cannot be read"),
        ("/", "cannot be read"),
        (no_report.to_str().expect("UTF-8"), "not a report of this suite"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args(["compare", path])
            .assert()
            .code(2)
            .get_output()
            .clone();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            complained.contains(path) && complained.contains(words),
            "{complained}"
        );
    }
}

#[test]
fn a_list_that_is_there_is_not_replaced_unless_it_is_in_force() {
    let entry = "[[known]]\ncase = \"wrapper.deny.status/is-one\"\nreason = \"r\"\nissue = \"i\"\n";
    let run = Run::of(PASSES);
    let path = run.folder.path().join("known.toml");
    fs::write(&path, entry).expect("a list");
    let mut run = run.with(&["--write-baseline", path.to_str().expect("UTF-8")]);
    let complained = run.ends_with(2).complained;
    assert!(
        complained.contains("it is there already; name it with --baseline too"),
        "{complained}"
    );
    assert_eq!(fs::read_to_string(&path).expect("a list"), entry);
}

#[test]
fn reports_say_why_a_failure_is_expected() {
    let run = Run::of("exit 0\n").baseline(&format!(
        "[[known]]\ncase = \"{EASY}\"\nreason = \"no usage\\nyet\"\nissue = \"#1\"\n"
    ));
    let (tap, junit) = (run.folder.path().join("tap"), run.folder.path().join("junit"));
    let names = [&tap, &junit].map(|path| path.to_str().expect("UTF-8").to_owned());
    let mut run = run.with(&["--tap", &names[0], "--junit", &names[1]]);
    let outcome = run.ends_with(0);
    let case = &outcome.report["cases"][0];
    assert_eq!(
        (&case["reason"], &case["issue"]),
        (&"no usage\nyet".into(), &"#1".into())
    );
    let tap = fs::read_to_string(tap).expect("a report");
    assert!(
        tap.contains(&format!("not ok 1 - {EASY} # TODO no usage yet (#1)\n")),
        "{tap}"
    );
    let junit = fs::read_to_string(junit).expect("a report");
    assert!(junit.contains("yet (#1): "), "{junit}");
}

#[test]
fn a_shell_or_a_shim_that_hangs_at_its_first_breath_leaves_nothing() {
    let hang = Run::of("sleep 1000\nexit 1\n");
    let script = hang.folder.path().join("wrapper");
    let script = script.to_str().expect("UTF-8");
    for role in ["--shell", "--server"] {
        let complained = Run::of_command(&["run", role, script, "--timeout-scale", "0.02"])
            .ends_with(3)
            .complained;
        assert!(complained.contains(&format!("{role} ")), "{complained}");
    }
}

#[test]
fn an_interruption_before_the_first_case_leaves_nothing() {
    use std::io::Read;
    let hang = Run::of("echo started >\"${0%/*}/fifo\"\nsleep 1000\nexit 1\n");
    let folder = hang.folder.path();
    let fifo = folder.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--server"])
        .arg(folder.join("wrapper"))
        .env("TMPDIR", folder)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("a run");
    let mut started = String::new();
    fs::File::open(fifo)
        .and_then(|mut fifo| fifo.read_to_string(&mut started))
        .expect("the shim starts");
    assert_eq!(started, "started\n");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    let output = child.wait_with_output().expect("its end");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{complained}");
    assert!(
        complained.contains("interrupted by signal 2 before the first case"),
        "{complained}"
    );
    assert_eq!(running_in(folder), Vec::<PathBuf>::new());
    let left: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with("conformance-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn cases_of_what_a_shim_cannot_do_do_not_apply() {
    for (can, case) in [
        ("", "session.overlay/names-and-values"),
        ("\"session\"", "exec.shell/command-verbatim"),
    ] {
        let shim = Run::of(&format!(
            "while read -r line; do echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"protocol\":1,\
             \"implementation\":{{\"name\":\"hollow\",\"version\":\"0\"}},\"capabilities\":[{can}]}}}}'; done\n",
        ));
        let script = shim.folder.path().join("wrapper");
        let script = script.to_str().expect("UTF-8");
        let outcome = Run::of_command(&["run", "--server", script, "--only", case]).ends_with(4);
        let (said, complained) = (outcome.said, outcome.complained);
        assert!(said.contains(&format!("not-applicable  {case}")), "{said}");
        assert!(complained.contains("nothing was judged"), "{complained}");
    }
}

#[test]
fn fail_fast_starts_no_case_after_the_first_failure() {
    let all = Run::of("exit 0\n")
        .with(&["--only", "wrapper.usage/*"])
        .ends_with(1);
    let number = all.report["cases"].as_array().expect("cases").len();
    assert!(number > 2, "{number}");
    for (options, failures) in [(&["--fail-fast"][..], 1), (&["--max-failures", "2"], 2)] {
        let mut run = Run::of("exit 0\n")
            .with(&["--only", "wrapper.usage/*", "--jobs", "1"])
            .with(options);
        let outcome = run.ends_with(1);
        assert_eq!(outcome.report["summary"]["fail"], failures);
        assert_eq!(outcome.report["stopped"]["failures"], failures);
        assert_eq!(outcome.report["stopped"]["not_run"], number - failures);
        let words = format!("stopped after {failures} failure");
        assert!(outcome.said.contains(&words), "{}", outcome.said);
    }
}

#[test]
fn the_last_failure_that_is_allowed_stops_nothing_where_nothing_is_left() {
    let outcome = Run::of("exit 0\n").with(&["--fail-fast"]).ends_with(1);
    assert!(
        outcome.report["stopped"].is_null(),
        "{}",
        outcome.report["stopped"]
    );
}

#[test]
fn failures_are_counted_over_all_rounds() {
    let outcome = Run::of("exit 0\n")
        .with(&["--repeat", "5", "--max-failures", "2"])
        .ends_with(1);
    assert!(outcome.said.contains("\n2 rounds\n"), "{}", outcome.said);
}

#[test]
fn the_ids_of_what_failed_stand_at_the_end_a_line_each() {
    let outcome = Run::of("exit 0\n")
        .with(&["--only", "wrapper.usage/*"])
        .ends_with(1);
    let (_, end) = outcome.said.rsplit_once("  again ").expect("a last failure");
    let (list, _) = end.split_once("\n\npassed ").expect("the table of results");
    let ids: Vec<&str> = list
        .lines()
        .skip(2)
        .map(|line| line.trim_start().strip_prefix("fail  ").expect("a failure"))
        .collect();
    let cases = outcome.report["cases"].as_array().expect("cases");
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| case["outcome"] == "fail")
        .filter_map(|case| case["id"].as_str())
        .collect();
    assert_eq!(ids, failed);
}

#[test]
fn many_failures_are_first_told_by_requirement() {
    let few = Run::of("exit 0\n").ends_with(1);
    assert!(!few.said.contains("cases failed:"), "{}", few.said);
    let many = Run::of("exit 0\n")
        .with(&["--only", "wrapper.deny.*", "--only", "wrapper.request/*"])
        .ends_with(1);
    let failed = many.report["summary"]["fail"].as_u64().expect("a number");
    assert!(failed > 10, "{failed}");
    let (_, summary) = many
        .said
        .split_once(&format!("\n{failed} cases failed:\n"))
        .expect("a summary");
    let (summary, details) = summary.split_once("\n\n").expect("details");
    assert!(details.starts_with("FAIL: "), "{details}");
    let first = summary.lines().next().unwrap_or_default();
    assert!(first.contains("  wrapper.request (likely root of "), "{summary}");
    assert!(summary.contains("  1/1  wrapper.usage\n"), "{summary}");
}

#[test]
fn control_characters_of_a_foreign_program_reach_no_report() {
    let hostile = "printf 'a\\033[2Jb\\rc\\302\\233d\\342\\200\\256e\\n::error::f\\n  ::error::g\\n##[error]h\\n' >&2\nexit 0\n";
    let run = Run::of(hostile);
    let names = ["tap", "junit", "html"].map(|name| {
        let path = run.folder.path().join(name);
        path.to_str().expect("UTF-8").to_owned()
    });
    let mut run = run.with(&["--tap", &names[0], "--junit", &names[1], "--html", &names[2]]);
    let outcome = run.ends_with(1);
    let json = outcome.report["cases"][0]["stderr_tail"]
        .as_str()
        .expect("its standard error")
        .to_owned();
    let reports = names.map(|name| fs::read_to_string(name).expect("a report"));
    for text in [&reports[1], &reports[2], &outcome.said, &json] {
        assert!(text.contains("[2Jb"), "{text}");
    }
    for text in reports.iter().chain([&outcome.said, &json]) {
        for foreign in ["\u{1b}", "\r", "\u{9b}", "\u{202e}", "##["] {
            assert!(!text.contains(foreign), "{foreign:?} is in {text}");
        }
        let order = text.lines().find(|line| line.trim_start().starts_with("::"));
        assert_eq!(order, None, "{text}");
    }
}

#[test]
fn a_run_that_is_held_to_an_older_version_reports_newer_cases_and_does_not_fail_by_them() {
    let run = Run::of("exit 0\n").with(&["--as-of", "0.0.9"]);
    let path = run.folder.path().join("tap");
    let mut run = run.with(&["--tap", path.to_str().expect("UTF-8")]);
    // All cases are newer: nothing is left that could decide.
    let outcome = run.ends_with(4);
    assert!(
        outcome.said.contains(&format!("fail  {EASY} (")),
        "{}",
        outcome.said
    );
    assert!(
        outcome.said.contains("1 of these newer than 0.0.9"),
        "{}",
        outcome.said
    );
    assert_eq!(outcome.report["cases"][0]["newer_than"], "0.0.9");
    assert_eq!(outcome.report["cases"][0]["since"], "0.1.0");
    let tap = fs::read_to_string(path).expect("a report");
    assert!(tap.contains("# TODO newer than 0.0.9\n"), "{tap}");
    Run::of("exit 0\n").with(&["--as-of", "0.1.0"]).ends_with(1);
    let refused = Run::of(PASSES).with(&["--as-of", "new"]).ends_with(2);
    assert!(
        refused.complained.contains("'new' is not a version"),
        "{}",
        refused.complained
    );
}

#[test]
fn one_case_can_be_reported_as_a_run_is() {
    let run = Run::of(PASSES);
    let wrapper = run.folder.path().join("wrapper");
    let wrapper = wrapper.to_str().expect("UTF-8");
    let mut case = Run::of_command(&["case", EASY, "--wrapper", wrapper, "--json", "-", "--repeat", "2"]);
    let output = case.command.assert().code(0).get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).expect("nothing but a report");
    assert_eq!(report["summary"]["pass"], 1);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the shell calls") && said.contains("2 rounds"),
        "{said}"
    );
}
