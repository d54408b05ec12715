//! The program that is copied for the programs of a case.

use std::fs;

use assert_cmd::Command;

#[test]
fn the_probe_of_the_same_build_is_copied_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let suite = folder.path().join("conformance");
    fs::copy(env!("CARGO_BIN_EXE_conformance"), &suite).expect("a copy");
    let size_of_a_passing_probe = || {
        let kept = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(&suite);
        command.args([
            "run",
            "--keep",
            "--only",
            "server.policy.input/argv-verbatim",
            "--server",
        ]);
        command.arg(format!("'{}'", env!("CARGO_BIN_EXE_faulty-shim")));
        command.env("TMPDIR", kept.path()).assert().success();
        let runs = fs::read_dir(kept.path()).expect("what was kept");
        let probes = runs.filter_map(|run| run.expect("an entry").path().join("probe").metadata().ok());
        probes.map(|probe| probe.len()).max().expect("a probe")
    };
    let alone = size_of_a_passing_probe();
    let beside = folder.path().join("conformance-probe");
    fs::copy("/bin/true", &beside).expect("a copy");
    assert_eq!(size_of_a_passing_probe(), alone, "of another build");
    // Nor is it started: anything may have that name in a folder of programs.
    let started = folder.path().join("started");
    fs::write(
        &beside,
        format!("#!/bin/sh\n: >'{}'\nexec sleep 600\n", started.display()),
    )
    .expect("a script");
    assert_eq!(size_of_a_passing_probe(), alone, "a script");
    assert!(!started.exists());
    fs::remove_file(&beside).expect("no script");
    fs::copy(env!("CARGO_BIN_EXE_conformance-probe"), &beside).expect("a copy");
    let small = size_of_a_passing_probe();
    assert!(small < alone / 4, "{small} of {alone} bytes");
}
