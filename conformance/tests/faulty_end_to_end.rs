//! Proof of the end-to-end cases: with one of shell, wrapper and server broken and the other two right, each case fails that the
//! fault names, and a case of every other end-to-end requirement that the fault is about. Every end-to-end case is named by a
//! fault (`tests/specification.rs`).

mod proof;

use std::ffi::OsString;
use std::path::Path;

use conformance::spec::faults::{self, Fault};
use conformance::spec::requirements::Role;
use proof::shells::{Broken, build};
use proof::{Proof, each_at_once, every_fault, failures, faulty_wrapper, outcomes, run, until_caught, words};

/// Concurrent runs: each spends most of its time waiting for deadlines.
const AT_A_TIME: usize = 4;

/// Cases that do something else in zsh than in bash, and what breaks them there.
const IN_ZSH: [(&str, &str); 5] = [
    ("e2e.scripts/first-to-end", "status-0-or-1"),
    ("e2e.scripts/coprocesses", "terminals-replaced"),
    ("e2e.scripts/files-of-the-shell", "only-standard-streams"),
    ("e2e.scripts/signals-to-the-shell", "status-0-or-1"),
    ("e2e.tty.job/pipeline-killed", "own-process-group"),
];

/// The options that name the three implementations: this shell, and wrapper or server with the fault.
fn implementations(shell: &Path, folder: &Path, fault: Option<&Fault>) -> Vec<OsString> {
    let fault_of = |role| fault.filter(|fault| fault.role == role).map(|fault| &fault.name);
    let wrapper = fault_of(Role::Wrapper).map_or("", String::as_str);
    let server = fault_of(Role::Server).map_or(String::new(), |name| format!(" --fault {name}"));
    vec![
        "--shell".into(),
        shell.into(),
        "--wrapper".into(),
        faulty_wrapper(folder, wrapper).into(),
        "--server".into(),
        format!("'{}'{server}", env!("CARGO_BIN_EXE_faulty-shim")).into(),
    ]
}

/// The stock shell, with which one that is broken is compared, as it cannot be compared with itself.
fn compared_with(stock: &Path) -> [OsString; 2] {
    ["--stock-shell".into(), stock.into()]
}

fn broken_bash() -> Broken {
    Broken::at(&build(&["--faulty", "never-wrapped", "bash-5.3"]))
}

fn fault(role: Role, name: &str) -> &'static Fault {
    faults::all()
        .iter()
        .find(|fault| fault.role == role && fault.name == name)
        .expect("the fault")
}

/// Demands that the run has no failure, and at least so many cases that pass.
fn assert_passes(options: &[OsString], at_least: usize) {
    let report = run(options);
    let bad = failures(&report);
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    let passed = outcomes(&report, "pass").len();
    assert!(passed >= at_least, "{passed} cases pass");
}

#[test]
fn every_fault_is_caught_by_the_end_to_end_cases_that_it_names() {
    let bash = build(&["bash-5.3"]);
    let stock = build(&["--stock", "bash-5.3"]);
    let broken = broken_bash();
    let folder = tempfile::tempdir().expect("a folder");
    let proof = Proof {
        faults: faults::all()
            .iter()
            .filter(|fault| !fault.end_to_end().is_empty())
            .collect(),
        at_least: 90,
        at_a_time: AT_A_TIME,
    };
    every_fault(&proof, |fault| {
        let own = tempfile::tempdir_in(folder.path()).expect("a folder");
        let mut options = words("--jobs 1 --cases 8 --timeout-scale 0.6");
        let shell = if fault.role == Role::Shell {
            options.extend(compared_with(&stock));
            broken.called(&fault.name)
        } else {
            bash.clone()
        };
        options.extend(implementations(&shell, own.path(), Some(fault)));
        until_caught(&options, &fault.end_to_end())
    });
}

#[test]
fn cases_that_do_something_else_in_zsh_are_proved_in_zsh() {
    let zsh = build(&["zsh-5.9"]);
    let folder = tempfile::tempdir().expect("a folder");
    let options = |own: &Path, fault, case| {
        let mut options = words("--jobs 1 --timeout-scale 0.6");
        options.extend(implementations(&zsh, own, fault));
        options.extend(["--only".into(), OsString::from(case)]);
        options
    };
    let slipped = each_at_once(AT_A_TIME, IN_ZSH.to_vec(), |(case, name)| {
        let own = tempfile::tempdir_in(folder.path()).expect("a folder");
        let right = run(&options(own.path(), None, case));
        if outcomes(&right, "pass") != [case] {
            return Some(format!("{case} does not pass in zsh"));
        }
        let wrong = run(&options(own.path(), Some(fault(Role::Wrapper, name)), case));
        (outcomes(&wrong, "fail") != [case]).then(|| format!("{case} does not catch {name} in zsh"))
    });
    assert!(slipped.is_empty(), "{}", slipped.join("\n"));
}

#[test]
fn level_core_asks_nothing_about_sigpipe_of_a_wrapper_whose_denials_are_right() {
    let ignored = fault(Role::Wrapper, "sigpipe-left-ignored");
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = words("--level core --only e2e.deny/*");
    options.extend(implementations(
        &build(&["bash-5.3"]),
        folder.path(),
        Some(ignored),
    ));
    assert_passes(&options, 6);
}

#[test]
fn without_a_fault_the_breakable_implementations_pass_end_to_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = words("--only e2e.*");
    options.extend(implementations(&build(&["bash-5.3"]), folder.path(), None));
    assert_passes(&options, 100);
}

#[test]
fn without_a_fault_the_breakable_bash_passes_the_cases_that_its_faults_name() {
    let broken = broken_bash();
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = words("--cases 8");
    options.extend(compared_with(&build(&["--stock", "bash-5.3"])));
    options.extend(implementations(&broken.called(""), folder.path(), None));
    let cases: Vec<&str> = faults::all()
        .iter()
        .filter(|fault| fault.role == Role::Shell)
        .flat_map(Fault::end_to_end)
        .collect();
    options.extend(
        cases
            .iter()
            .flat_map(|case| ["--only".into(), OsString::from(*case)]),
    );
    assert_passes(&options, cases.len());
}
