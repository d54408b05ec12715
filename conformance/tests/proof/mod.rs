//! Shared by the tests that prove cases: concurrent runs of the suite on broken implementations.

#![allow(dead_code, reason = "not every test file needs all of it")]

pub mod shells;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use clap::ValueEnum;
use conformance::spec::faults::{self, Fault, Need};
use conformance::spec::requirements::Role;
use serde_json::Value;

/// Which faults must be caught.
pub struct Proof {
    /// The faults.
    pub faults: Vec<&'static Fault>,
    /// The least number of them: an empty table would prove nothing.
    pub at_least: usize,
    /// Concurrent runs.
    pub at_a_time: usize,
}

/// Checks that each fault is caught; the error of `caught` says why one was not.
pub fn every_fault(proof: &Proof, caught: impl Fn(&Fault) -> Result<(), String> + Sync) {
    let mut faults = proof.faults.clone();
    faults.retain(|fault| fault.needs.is_none_or(is_met));
    assert!(faults.len() >= proof.at_least, "{} faults", faults.len());
    let slipped = each_at_once(proof.at_a_time, faults.clone(), |fault| {
        let finding = format!("{} {}: {}", fault.role, fault.name, caught(fault).err()?);
        // At once, too: a table takes minutes, and may be ended before its end.
        eprintln!("{finding}");
        Some(finding)
    });
    assert!(
        slipped.is_empty(),
        "{} of {} faults:\n{}",
        slipped.len(),
        faults.len(),
        slipped.join("\n")
    );
}

/// Whether this machine lets the suite's processes do what proving a fault needs.
fn is_met(need: Need) -> bool {
    match need {
        // SAFETY: getpriority and setpriority take integers; this thread can always go back up.
        Need::NicenessBelow0 => unsafe {
            let own = libc::getpriority(libc::PRIO_PROCESS, 0);
            let lowered = libc::setpriority(libc::PRIO_PROCESS, 0, -20) == 0;
            lowered && libc::setpriority(libc::PRIO_PROCESS, 0, own) == 0
        },
    }
}

/// Checks that the faults built into an implementation are those in the table of its role.
pub fn same_faults<F: ValueEnum>(role: Role) {
    let built_in: BTreeSet<String> = F::value_variants()
        .iter()
        .filter_map(|fault| Some(fault.to_possible_value()?.get_name().to_owned()))
        .collect();
    let named: BTreeSet<String> = faults::all()
        .iter()
        .filter(|fault| fault.role == role)
        .map(|fault| fault.name.clone())
        .collect();
    let only_named: Vec<_> = named.difference(&built_in).collect();
    let only_built_in: Vec<_> = built_in.difference(&named).collect();
    assert!(
        only_named.is_empty() && only_built_in.is_empty(),
        "only in the table: {only_named:?}; only in the program: {only_built_in:?}"
    );
}

/// The words of a command line that has no quotes.
pub fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

/// A breakable wrapper with this fault, which the name of the file chooses.
pub fn faulty_wrapper(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("faulty-wrapper--{name}"));
    if std::fs::hard_link(env!("CARGO_BIN_EXE_faulty-wrapper"), &path).is_err() {
        std::fs::copy(env!("CARGO_BIN_EXE_faulty-wrapper"), &path).expect("a copy of the faulty wrapper");
    }
    path
}

/// The ids of the cases with this outcome in a report.
pub fn outcomes<'a>(report: &'a Value, outcome: &str) -> Vec<&'a str> {
    let cases = report["cases"].as_array().expect("cases");
    cases
        .iter()
        .filter(|case| case["outcome"] == outcome)
        .filter_map(|case| case["id"].as_str())
        .collect()
}

/// The cases of a report that did not judge as they should on what is right, a line each with what was expected and observed.
pub fn failures(report: &Value) -> Vec<String> {
    let cases = report["cases"].as_array().expect("cases");
    cases
        .iter()
        .filter(|case| case["outcome"] == "fail" || case["outcome"] == "harness-error")
        .map(|case| {
            let [id, expected, observed] = ["id", "expected", "observed"].map(|member| case[member].as_str());
            let id = id.unwrap_or_default();
            format!("{id}: expected {expected:?}, observed {observed:?}")
        })
        .collect()
}

/// A whole run of the suite with these options, and its report.
pub fn run(options: &[OsString]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--json", "-", "--seed", "1"])
        .args(options)
        .output()
        .expect("a run");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{options:?}: no report: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let odd = values_as_only_the_suite_writes_them(&report);
    assert!(odd.is_empty(), "{options:?}:\n{}", odd.join("\n"));
    report
}

/// What verdicts of a report say with the names that values have in the suite's own language. No implementation that the
/// tests judge writes these words.
fn values_as_only_the_suite_writes_them(report: &Value) -> Vec<String> {
    const NAMES: [&str; 18] = [
        "Some(",
        "Ok(",
        "Err(",
        "Exited(",
        "Killed(",
        "Ended",
        "String(",
        "Number(",
        "Bool(",
        "Array [",
        "Object {",
        "Frame {",
        "End {",
        "Silence {",
        "RpcError",
        "OwnedFd",
        "Index(",
        "None",
    ];
    let cases = report["cases"].as_array().expect("cases");
    let texts = cases.iter().flat_map(|case| {
        ["expected", "observed", "error", "reason"]
            .into_iter()
            .filter_map(|member| Some((case["id"].as_str()?, case[member].as_str()?)))
    });
    texts
        .filter(|(_, text)| NAMES.iter().any(|name| text.contains(name)))
        .map(|(id, text)| format!("{id}: {text}"))
        .collect()
}

/// Runs these cases and the cases of these requirements until each of them, or one case of it, has failed, then ends the run.
///
/// The error names those that have not.
pub fn until_caught(options: &[OsString], wanted: &[&str]) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(["run", "--seed", "1"]).args(options);
    for id in wanted {
        let pattern = if id.contains('/') {
            (*id).to_owned()
        } else {
            format!("{id}/*")
        };
        command.args(["--only".to_owned(), pattern]);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut missed = wanted.to_vec();
    let mut harness_errors = Vec::new();
    // One line per case, `   fail  wrapper.usage/dash-file (12 ms)`, as soon as it is over.
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| error.to_string())?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("fail"), Some(id)) => {
                missed.retain(|wanted| *wanted != id && id.split('/').next() != Some(wanted))
            }
            (Some("harness-error"), Some(id)) => harness_errors.push(id.to_owned()),
            _ => {}
        }
        if missed.is_empty() {
            break;
        }
    }
    // On SIGTERM the run ends everything that it has started. It may be over already.
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    if child.try_wait().map_err(|error| error.to_string())?.is_none() {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).map_err(|error| error.to_string())?;
    }
    let said = child.wait_with_output().map_err(|error| error.to_string())?;
    if missed.is_empty() && harness_errors.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not caught by {missed:?}, harness errors {harness_errors:?} {}",
        String::from_utf8_lossy(&said.stderr).trim()
    ))
}

/// The findings of `check` about `subjects`, of which `at_a_time` are checked concurrently.
pub fn each_at_once<T: Send>(
    at_a_time: usize,
    subjects: Vec<T>,
    check: impl Fn(T) -> Option<String> + Sync,
) -> Vec<String> {
    let queue = Mutex::new(subjects);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let Some(subject) = queue.lock().expect("no panic").pop() else {
                        return;
                    };
                    if let Some(finding) = check(subject) {
                        wrong.lock().expect("no panic").push(finding);
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("no panic")
}
