//! The cases that judge wrappers are proved: each broken wrapper fails a case of each requirement that its fault
//! is about, wrappers that are right but unusual pass, and wrappers that do nothing pass next to nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use conformance::faults;
use conformance::requirements::Role;
use serde_json::Value;

/// Runs at a time: each waits most of its time for deadlines.
const AT_A_TIME: usize = 6;

/// Cases that a wrapper passes which runs everything without asking: it does print its usage.
const PASSED_BY_ALWAYS_RUNNING: &[&str] = &["wrapper.usage/no-arguments"];

fn faulty_wrapper(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("faulty-wrapper--{name}"));
    if fs::hard_link(env!("CARGO_BIN_EXE_faulty-wrapper"), &path).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_faulty-wrapper"), &path).expect("a copy of the faulty wrapper");
    }
    path
}

/// A run of the wrapper's cases and its report.
fn run(wrapper: &Path, more: &[String]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--json", "-", "--seed", "1", "--wrapper"])
        .arg(wrapper)
        .args(more)
        .output()
        .expect("a run");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{}: no report: {error}: {}",
            wrapper.display(),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn outcomes<'a>(report: &'a Value, outcome: &str) -> Vec<&'a str> {
    let cases = report["cases"].as_array().expect("cases");
    cases
        .iter()
        .filter(|case| case["outcome"] == outcome)
        .filter_map(|case| case["id"].as_str())
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What `judge` finds wrong with each of `names`, several at a time.
fn each_at_once(names: Vec<String>, judge: impl Fn(&str) -> Option<String> + Sync) -> Vec<String> {
    let queue = Mutex::new(names);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(name) = queue.lock().expect("no panic").pop() else {
                        return;
                    };
                    if let Some(finding) = judge(&name) {
                        wrong.lock().expect("no panic").push(finding);
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("no panic")
}

/// Runs the cases of these requirements until one of each has failed, and ends the run then.
fn until_caught(wrapper: &Path, requirements: &[String]) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command
        .args(words(
            "run --jobs 1 --cases 16 --timeout-scale 0.4 --seed 1 --wrapper",
        ))
        .arg(wrapper);
    for requirement in requirements {
        command.args(["--only".to_owned(), format!("{requirement}/*")]);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut missed: Vec<&str> = requirements.iter().map(String::as_str).collect();
    let mut harness_errors = Vec::new();
    // A line a case, `   fail  wrapper.usage/dash-file (12 ms)`, as soon as it is over.
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| error.to_string())?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("fail"), Some(id)) => {
                missed.retain(|requirement| id.split('/').next() != Some(requirement))
            }
            (Some("harness-error"), Some(id)) => harness_errors.push(id.to_owned()),
            _ => {}
        }
        if missed.is_empty() {
            break;
        }
    }
    // The run takes everything down that it has started.
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    child.wait().map_err(|error| error.to_string())?;
    if missed.is_empty() && harness_errors.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not caught by {missed:?}, harness errors {harness_errors:?}"
    ))
}

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    let folder = tempfile::tempdir().expect("a folder");
    let table: Vec<_> = faults::all()
        .iter()
        .filter(|fault| fault.role == Role::Wrapper)
        .collect();
    assert!(table.len() >= 200, "{} faults", table.len());
    let names = table.iter().map(|fault| fault.name.clone()).collect();
    let slipped = each_at_once(names, |name| {
        let fault = table.iter().find(|fault| fault.name == name)?;
        let seen = until_caught(&faulty_wrapper(folder.path(), name), &fault.requirements);
        match seen {
            Ok(()) => None,
            Err(finding) => Some(format!("{name}: {finding}")),
        }
    });
    assert!(
        slipped.is_empty(),
        "{} of {} faults:\n{}",
        slipped.len(),
        table.len(),
        slipped.join("\n")
    );
}

#[test]
fn wrappers_that_are_right_but_unusual_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    // Several at once, where they do not exclude one another.
    let variants = [
        "",
        "variant-pretty-json+variant-length-first+variant-descending-numbers+variant-null-in-place\
         +variant-sorted-environment+variant-limit-of-one-gibibyte+variant-control-as-pictures\
         +variant-first-sixteen+variant-slow-start",
        "variant-other-order+variant-escaped-non-ascii+variant-extra-member+variant-byte-by-byte\
         +variant-no-bytes+variant-stops-by-the-same-signal+variant-unexpected-descriptors-refused\
         +variant-interpreter-missing-126",
    ];
    let wrong = each_at_once(variants.map(str::to_owned).to_vec(), |name| {
        let report = run(
            &faulty_wrapper(folder.path(), name),
            &words("--jobs 8 --timeout-scale 2 --cases 8"),
        );
        let passed = outcomes(&report, "pass").len();
        let bad = [outcomes(&report, "fail"), outcomes(&report, "harness-error")].concat();
        assert!(passed > 200, "{name:?} passed only {passed}");
        (!bad.is_empty()).then(|| format!("{name:?} fails {bad:?}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrapper_that_knows_no_extension_passes_core_and_fails_only_what_needs_one() {
    /// Requirements and cases that cannot be met without an extension.
    const NEED_MORE: [&str; 6] = [
        "wrapper.escalate.signal",
        "wrapper.escalate.stopped",
        "wrapper.escalate.umask",
        "wrapper.escalate.killed",
        "wire.frame.joined/stopped-and-result",
        "wrapper.sandbox/child-killed",
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let wrapper = faulty_wrapper(folder.path(), "variant-core-only");
    let core = run(&wrapper, &words("--level core"));
    assert_eq!(outcomes(&core, "fail"), Vec::<&str>::new());
    let all = run(&wrapper, &words("--timeout-scale 0.6 --cases 8"));
    let unjustified: Vec<_> = outcomes(&all, "fail")
        .into_iter()
        .filter(|case| {
            !NEED_MORE.contains(case) && !NEED_MORE.contains(&case.split('/').next().unwrap_or_default())
        })
        .collect();
    assert!(unjustified.is_empty(), "{unjustified:?}");
}

#[test]
fn wrappers_that_do_nothing_pass_nothing_but_a_written_list() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in [PathBuf::from("/bin/true"), PathBuf::from("/bin/false")] {
        let report = run(&path, &words("--level core"));
        assert_eq!(
            outcomes(&report, "pass"),
            Vec::<&str>::new(),
            "{}",
            path.display()
        );
    }
    let report = run(
        &faulty_wrapper(folder.path(), "null-always-runs"),
        &words("--level core --timeout-scale 0.3"),
    );
    assert_eq!(outcomes(&report, "pass"), PASSED_BY_ALWAYS_RUNNING);
    let report = run(
        &faulty_wrapper(folder.path(), "null-never-answers"),
        &words(
            "--level core --timeout-scale 0.05 --only wrapper.deny.* --only wrapper.run/* --only wrapper.escalate.*",
        ),
    );
    assert_eq!(outcomes(&report, "pass"), Vec::<&str>::new());
}
