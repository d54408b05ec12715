//! The cases that judge servers are proved: each broken server fails a case of each requirement that its fault is
//! about, and servers that are right but unusual pass.

use std::process::Command;
use std::sync::Mutex;

use conformance::faults;
use conformance::requirements::Role;
use serde_json::Value;

/// Runs at a time: each waits most of its time for deadlines.
const AT_A_TIME: usize = 8;

/// A run of the cases that judge the server of this command line, and its report.
fn run(options_of_the_server: &str, more: &[String]) -> Value {
    let server = format!("'{}' {options_of_the_server}", env!("CARGO_BIN_EXE_faulty-shim"));
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--json", "-", "--seed", "1", "--server", &server])
        .args(more)
        .output()
        .expect("a run");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{server}: no report: {error}: {}",
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

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    let table: Vec<_> = faults::all()
        .iter()
        .filter(|fault| fault.role == Role::Server && !fault.of_its_role().is_empty())
        .collect();
    assert!(table.len() >= 100, "{} faults", table.len());
    let names = table.iter().map(|fault| fault.name.clone()).collect();
    let slipped = each_at_once(names, |name| {
        let fault = table.iter().find(|fault| fault.name == name)?;
        let mut options = words("--jobs 1 --cases 8 --timeout-scale 0.4");
        for requirement in &fault.of_its_role() {
            options.extend(["--only".to_owned(), format!("{requirement}/*")]);
        }
        let report = run(&format!("--fault {name}"), &options);
        let failed = outcomes(&report, "fail");
        let missed: Vec<_> = fault
            .of_its_role()
            .into_iter()
            .filter(|id| !failed.iter().any(|case| case.split('/').next() == Some(id)))
            .collect();
        let harness = outcomes(&report, "harness-error");
        (!missed.is_empty() || !harness.is_empty())
            .then(|| format!("{name}: not caught by {missed:?}, harness errors {harness:?}"))
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
    let variants = [
        "",
        "pretty",
        "escaped",
        "bytewise",
        "extra-members",
        "older-name",
        "slow-start",
        "chatty",
        "out-of-order",
        "plain",
    ];
    let wrong = each_at_once(variants.map(str::to_owned).to_vec(), |name| {
        let variant = match name {
            "" => String::new(),
            name => format!("--variant {name}"),
        };
        // The plain server knows no extension, so more than core can't be asked of it.
        let level = if name == "plain" { "core" } else { "hardened" };
        let options = format!("--jobs 1 --timeout-scale 4 --cases 4 --level {level}");
        let report = run(&variant, &words(&options));
        let bad = [outcomes(&report, "fail"), outcomes(&report, "harness-error")].concat();
        assert!(outcomes(&report, "pass").len() > 100, "{name}");
        (!bad.is_empty()).then(|| format!("{name:?} fails {bad:?}"))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
