//! The cases that judge servers are proved: each broken server fails a case of each requirement that its fault is
//! about, and servers that are right but unusual pass.

mod proof;

use conformance::spec::faults;
use conformance::spec::requirements::Role;
use proof::{each_at_once, outcomes, run, until_caught, words};

/// Runs at a time: each waits most of its time for deadlines.
const AT_A_TIME: usize = 8;

/// The command line of the breakable server.
fn shim(options: &str) -> std::ffi::OsString {
    format!("'{}' {options}", env!("CARGO_BIN_EXE_faulty-shim")).into()
}

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    let table: Vec<_> = faults::all()
        .iter()
        .filter(|fault| fault.role == Role::Server && !fault.of_its_role().is_empty())
        .collect();
    assert!(table.len() >= 270, "{} faults", table.len());
    let names = table.iter().map(|fault| fault.name.clone()).collect();
    let slipped = each_at_once(AT_A_TIME, names, |name| {
        let fault = table.iter().find(|fault| fault.name == name)?;
        let mut options = words("--jobs 1 --cases 8 --timeout-scale 0.4 --server");
        options.push(shim(&format!("--fault {name}")));
        let finding = until_caught(&options, &fault.of_its_role()).err()?;
        Some(format!("{name}: {finding}"))
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
fn servers_that_are_right_but_unusual_pass() {
    // Several at once, where they do not exclude one another; each is what the faults are made in, too.
    let variants = [
        "--variant pretty --variant extra-members --variant older-name --variant slow-start --variant chatty",
        "--variant escaped --variant bytewise --variant out-of-order",
        "--variant plain",
    ];
    let wrong = each_at_once(AT_A_TIME, variants.map(str::to_owned).to_vec(), |variant| {
        // The plain server knows no extension, so more than core can't be asked of it.
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
        let bad = [outcomes(&report, "fail"), outcomes(&report, "harness-error")].concat();
        assert!(outcomes(&report, "pass").len() > 100, "{variant}");
        (!bad.is_empty()).then(|| format!("{variant:?} fails {bad:?}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
