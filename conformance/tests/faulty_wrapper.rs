//! Proof of the wrapper cases: each broken wrapper fails a case of every requirement that its fault is about, unusual
//! wrappers that conform pass, and wrappers that do nothing pass next to nothing.

mod proof;
#[allow(dead_code, reason = "only the names are compared")]
#[path = "../faulty/wrapper/faults.rs"]
mod switches;

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::spec::faults;
use conformance::spec::requirements::Role;
use proof::{
    Proof, each_at_once, every_fault, failures, faulty_wrapper, outcomes, same_faults, until_caught, words,
};
use serde_json::Value;

/// Concurrent runs: each spends most of its time waiting for deadlines.
const AT_A_TIME: usize = 6;

/// The cases that a wrapper passes which executes everything without asking: it does print its usage.
const PASSED_BY_ALWAYS_RUNNING: &[&str] = &["wrapper.usage/no-arguments"];

/// The report of a run of the wrapper cases.
fn run(wrapper: &Path, options: &str) -> Value {
    let mut options = words(options);
    options.extend(["--wrapper".into(), wrapper.into()]);
    proof::run(&options)
}

#[test]
fn the_table_names_the_faults_that_the_wrapper_has() {
    same_faults::<switches::Fault>(Role::Wrapper);
}

#[test]
fn an_unknown_fault_is_an_error_and_not_a_right_wrapper() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, unknown) in [
        ("denied-runs-anyways", "denied-runs-anyways"),
        ("variant-pretty-json+variant-ugly-json", "variant-ugly-json"),
        ("null-sometimes-runs", "null-sometimes-runs"),
    ] {
        let output = Command::new(faulty_wrapper(folder.path(), name))
            .args(["/bin/true", "true"])
            .output()
            .expect("the wrapper starts");
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("faulty-wrapper: no fault is called {unknown}; wrapper-faults.toml lists them\n")
        );
    }
}

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    let folder = tempfile::tempdir().expect("a folder");
    let proof = Proof {
        faults: faults::all()
            .iter()
            .filter(|fault| fault.role == Role::Wrapper && !fault.of_its_role().is_empty())
            .collect(),
        at_least: 200,
        at_a_time: AT_A_TIME,
    };
    every_fault(&proof, |fault| {
        let mut options = words("--jobs 1 --cases 16 --timeout-scale 0.4 --wrapper");
        options.push(faulty_wrapper(folder.path(), &fault.name).into());
        until_caught(&options, &fault.of_its_role())
    });
}

#[test]
fn wrappers_that_are_right_but_unusual_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    // Several at once where they are compatible.
    let variants = [
        "variant-pretty-json+variant-length-first+variant-descending-numbers+variant-null-in-place\
         +variant-sorted-environment+variant-limit-of-one-gibibyte+variant-control-as-pictures\
         +variant-first-sixteen+variant-slow-start",
        "variant-other-order+variant-escaped-non-ascii+variant-extra-member+variant-byte-by-byte\
         +variant-no-bytes+variant-stops-by-the-same-signal+variant-unexpected-descriptors-refused\
         +variant-interpreter-missing-126+variant-waits-for-pollout",
        "variant-nonblocking-streams+variant-everything-escaped+variant-below-a-file-126\
         +variant-counts-with-every-signal+variant-says-what-is-not-of-a-terminal+variant-ignored-left-out\
         +variant-library-signals-exit",
    ];
    let wrong = each_at_once(AT_A_TIME, variants.to_vec(), |name| {
        let report = run(
            &faulty_wrapper(folder.path(), name),
            "--jobs 8 --timeout-scale 4 --cases 8",
        );
        let passed = outcomes(&report, "pass").len();
        let bad = failures(&report);
        assert!(passed > 200, "{name:?} passed only {passed}");
        (!bad.is_empty()).then(|| format!("{name:?} fails\n{}", bad.join("\n")))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrapper_that_knows_no_extension_passes_all_that_needs_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrapper = faulty_wrapper(folder.path(), "variant-core-only");
    let report = run(&wrapper, "--jobs 8 --timeout-scale 4 --cases 8");
    assert_eq!(failures(&report), Vec::<String>::new());
    let left_out = outcomes(&report, "not-applicable");
    for requirement in ["signal", "stopped", "killed", "umask"] {
        let room = format!("wrapper.escalate.{requirement}/");
        assert!(
            left_out.iter().any(|case| case.starts_with(&room)),
            "{left_out:?}"
        );
    }
    assert_eq!(
        report["implementations"]["wrapper"]["extensions"],
        serde_json::json!([])
    );
}

#[test]
fn wrappers_that_do_nothing_pass_nothing_but_a_written_list() {
    let folder = tempfile::tempdir().expect("a folder");
    // That nothing is sent and the status isn't 0 is all that is asked of a call without arguments.
    let without_arguments = vec!["wrapper.usage/no-arguments"];
    for (path, passed) in [("/bin/true", Vec::new()), ("/bin/false", without_arguments)] {
        let path = PathBuf::from(path);
        let report = run(&path, "--level core");
        assert_eq!(outcomes(&report, "pass"), passed, "{}", path.display());
    }
    let report = run(
        &faulty_wrapper(folder.path(), "null-always-runs"),
        "--level core --timeout-scale 0.3",
    );
    assert_eq!(outcomes(&report, "pass"), PASSED_BY_ALWAYS_RUNNING);
    let report = run(
        &faulty_wrapper(folder.path(), "null-never-answers"),
        "--level core --timeout-scale 0.05 --only wrapper.deny.* --only wrapper.run/* --only wrapper.escalate.*",
    );
    assert_eq!(outcomes(&report, "pass"), Vec::<&str>::new());
}
