//! Proof of the end-to-end cases: with one of shell, wrapper and server broken and the other two right, a case of every
//! end-to-end requirement that the fault is about fails.

mod proof;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::spec::faults::{self, Fault};
use conformance::spec::requirements::Role;
use proof::{Proof, every_fault, faulty_wrapper, outcomes, run, until_caught, words};

/// Concurrent runs: each spends most of its time waiting for deadlines.
const AT_A_TIME: usize = 4;

/// The path of the patched bash, which is built if it is missing.
fn patched_bash() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/build-shell");
    let output = Command::new(build)
        .arg("bash-5.3")
        .output()
        .expect("build-shell runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim())
}

/// The options that name the three implementations, one of them with the fault.
fn implementations(bash: &Path, folder: &Path, fault: Option<&Fault>) -> Vec<OsString> {
    let fault_of = |role| fault.filter(|fault| fault.role == role).map(|fault| &fault.name);
    let wrapper = fault_of(Role::Wrapper).map_or("", String::as_str);
    let server = fault_of(Role::Server).map_or(String::new(), |name| format!(" --fault {name}"));
    vec![
        "--shell".into(),
        bash.into(),
        "--wrapper".into(),
        faulty_wrapper(folder, wrapper).into(),
        "--server".into(),
        format!("'{}'{server}", env!("CARGO_BIN_EXE_faulty-shim")).into(),
    ]
}

#[test]
fn every_fault_is_caught_by_an_end_to_end_case() {
    let bash = patched_bash();
    let folder = tempfile::tempdir().expect("a folder");
    let proof = Proof {
        faults: faults::all()
            .iter()
            .filter(|fault| fault.role != Role::Shell && !fault.end_to_end().is_empty())
            .collect(),
        at_least: 25,
        at_a_time: AT_A_TIME,
    };
    every_fault(&proof, |fault| {
        let own = tempfile::tempdir_in(folder.path()).expect("a folder");
        let mut options = words("--jobs 1 --cases 8 --timeout-scale 0.6");
        options.extend(implementations(&bash, own.path(), Some(fault)));
        until_caught(&options, &fault.end_to_end())
    });
}

#[test]
fn level_core_asks_nothing_about_sigpipe_of_a_wrapper_whose_denials_are_right() {
    let ignored = faults::all()
        .iter()
        .find(|fault| fault.name == "sigpipe-left-ignored")
        .expect("the fault");
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = words("--level core --only e2e.deny/*");
    options.extend(implementations(&patched_bash(), folder.path(), Some(ignored)));
    let report = run(&options);
    let bad = [outcomes(&report, "fail"), outcomes(&report, "harness-error")].concat();
    assert_eq!(bad, Vec::<&str>::new());
    assert!(outcomes(&report, "pass").len() > 5);
}

#[test]
fn without_a_fault_the_breakable_implementations_pass_end_to_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = words("--only e2e.*");
    options.extend(implementations(&patched_bash(), folder.path(), None));
    let report = run(&options);
    assert_eq!(outcomes(&report, "fail"), Vec::<&str>::new());
    assert_eq!(outcomes(&report, "harness-error"), Vec::<&str>::new());
    assert!(outcomes(&report, "pass").len() > 50);
}
