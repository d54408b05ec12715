//! The whole suite as one test of this package, for `make mutants`: a change to the server that breaks neither a case nor a
//! unit test would go unnoticed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
#[ignore = "needs the built suite, as CONFORMANCE: make mutants"]
fn the_suite_finds_nothing() {
    let suite = std::env::var_os("CONFORMANCE").expect("CONFORMANCE is the path of the built suite");
    let mut run = Command::new(suite)
        .args([
            "run",
            "--jobs",
            "4",
            "--cases",
            "2",
            "--timeout-scale",
            "2",
            "--seed",
            "1",
        ])
        .args([
            "--server",
            concat!("'", env!("CARGO_BIN_EXE_shell-escalation"), "' shim"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the suite starts");
    let mut passed = 0;
    for line in BufReader::new(run.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("UTF-8");
        match line.split_whitespace().next() {
            Some("pass") => passed += 1,
            Some("fail" | "harness-error") => {
                // The run ends what it has started.
                let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
                run.wait().expect("it ends");
                panic!("{line}");
            }
            _ => {}
        }
    }
    assert!(run.wait().expect("it ends").success());
    assert!(passed > 200, "only {passed} cases passed");
}
