//! Proof of the server cases: each broken server fails a case of every requirement that its fault is about, and unusual
//! servers that conform pass.

mod proof;
#[allow(dead_code, reason = "only the names are compared")]
#[path = "../faulty/shim/faults.rs"]
mod switches;

use conformance::spec::faults;
use conformance::spec::requirements::Role;
use proof::{Proof, each_at_once, every_fault, failures, outcomes, run, same_faults, until_caught, words};

/// Concurrent runs: each spends most of its time waiting for deadlines.
const AT_A_TIME: usize = 8;

/// The command line of the breakable server.
fn shim(options: &str) -> std::ffi::OsString {
    format!("'{}' {options}", env!("CARGO_BIN_EXE_faulty-shim")).into()
}

#[test]
fn the_table_names_the_faults_that_the_server_has() {
    same_faults::<switches::Fault>(Role::Server);
}

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    let proof = Proof {
        faults: faults::all()
            .iter()
            .filter(|fault| fault.role == Role::Server && !fault.of_its_role().is_empty())
            .collect(),
        at_least: 370,
        at_a_time: AT_A_TIME,
    };
    every_fault(&proof, |fault| {
        let mut options = words("--jobs 1 --cases 8 --timeout-scale 0.4 --server");
        options.push(shim(&format!("--fault {}", fault.name)));
        until_caught(&options, &fault.of_its_role())
    });
}

#[test]
fn servers_that_are_right_but_unusual_pass() {
    // Several at once where they are compatible.
    let variants = [
        "--variant pretty --variant extra-members --variant older-name --variant slow-start --variant chatty \
         --variant gaps-between-reads --variant more-tools",
        "--variant escaped --variant bytewise --variant out-of-order --variant stopped-keepers-killed \
         --variant roomy-terminals --variant pipe-for-errors --variant numbered-approvals \
         --variant scripts-below-proc --variant counts-for-all --variant mismatch-is-a-result \
         --variant numbers-unbounded",
        "--variant non-blocking-streams --variant killed-told-first --variant long-pauses \
         --variant own-names-denied",
        "--variant plain",
    ];
    let wrong = each_at_once(AT_A_TIME, variants.to_vec(), |variant| {
        // The plain server has no extension, so it can conform at level core only.
        let level = if variant.contains("plain") {
            "core"
        } else {
            "hardened"
        };
        let mut options = words(&format!(
            "--jobs 4 --timeout-scale 3 --cases 4 --level {level} --server"
        ));
        options.push(shim(variant));
        let report = run(&options);
        let bad = failures(&report);
        assert!(outcomes(&report, "pass").len() > 100, "{variant}");
        (!bad.is_empty()).then(|| format!("{variant:?} fails\n{}", bad.join("\n")))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn reports_show_values_as_a_person_writes_them() {
    let mut options = words(
        "--jobs 4 --timeout-scale 0.4 --role server --only server.escalate/* --only server.escalate.killed/* --server",
    );
    options.push(shim("--fault exit-code-one-for-all"));
    // `run` refuses a report that does not.
    let report = run(&options);
    assert!(outcomes(&report, "fail").len() > 10, "too few values were shown");
}
