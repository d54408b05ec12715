//! The main job: the reference implementation passes the whole suite, with the patched shell.
//!
//! The suite shares no code with what it judges, so this builds the reference by its make targets, as a user
//! would; what is already built is not built again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Cases that judge what lacks an extension or speaks another syntax: none of the reference's business.
const FOR_OTHERS: &[&str] = &["server.signal-frame/without-the-extension"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_owned()
}

/// Prints by make, so that the Makefile stays the only place that knows where things are built.
fn made(variable: &str) -> String {
    let output = Command::new("make")
        .args(["--silent", "--no-print-directory", "-C"])
        .arg(top())
        .arg(format!("print-{variable}"))
        .output()
        .expect("make runs");
    assert!(
        output.status.success(),
        "make print-{variable}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn make(target: &str) {
    let output = Command::new("make")
        .args(["--silent", "--no-print-directory", "-C"])
        .arg(top())
        .arg(target)
        .output()
        .expect("make runs");
    assert!(
        output.status.success(),
        "make {target}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn absolute(path: &str) -> String {
    top().join(path).to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_reference_passes_the_whole_suite() {
    make("judged-shells");
    make("reference");
    let server = format!("'{}' shim", absolute(&made("SERVER")));
    let wrapper = absolute(&made("WRAPPER"));
    let mut failures = String::new();
    for (index, name) in made("JUDGED").split_whitespace().enumerate() {
        let shell = format!(
            "target/shells/{name}/bin/{}",
            name.split('-').next().expect("a name")
        );
        let mut run = Command::new(env!("CARGO_BIN_EXE_conformance"));
        run.args(["run", "--json", "-", "--jobs", &made("JOBS"), "--shell"])
            .arg(top().join(shell));
        run.args(["--wrapper", &wrapper, "--server", &server]);
        if index > 0 {
            // Wrapper and server are the same again.
            run.args(["--only", "shell.*", "--only", "e2e.*"]);
        }
        let output = run.output().expect("a run");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{name}: no report: {error}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        });
        let summary = &report["summary"];
        println!("{name}: {summary}");
        let not_applicable: Vec<_> = report["cases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|case| case["outcome"] == "not-applicable")
            .filter_map(|case| case["id"].as_str())
            .filter(|id| !FOR_OTHERS.contains(id))
            .collect();
        assert!(
            not_applicable.is_empty(),
            "the reference has every capability: {not_applicable:?}"
        );
        if output.status.code() != Some(0) {
            failures.push_str(&format!(
                "{name}: {}\n{}\n",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn three_hundred_random_scripts_make_no_difference() {
    make("judged-shells");
    for name in made("JUDGED").split_whitespace() {
        let program = name.split('-').next().expect("a name");
        let stock = Command::new(top().join("patches/build-shell"))
            .args(["--stock", name])
            .output()
            .expect("build-shell runs");
        let said = String::from_utf8_lossy(&stock.stderr);
        assert!(stock.status.success(), "{said}");
        let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args(["run", "--json", "-", "--only", "shell.transparent/random-scripts"])
            .args(["--cases", "300", "--timeout-scale", "4"])
            .args([
                "--shell",
                &absolute(&format!("target/shells/{name}/bin/{program}")),
            ])
            .args(["--stock-shell", String::from_utf8_lossy(&stock.stdout).trim()])
            .output()
            .expect("a run");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(report["summary"]["pass"], 1, "{name}: {:#}", report["cases"]);
    }
}

#[test]
fn denials_of_the_reference_read_like_this() {
    make("judged-shells");
    make("reference");
    let (server, wrapper) = (absolute(&made("SERVER")), absolute(&made("WRAPPER")));
    let shell = absolute("target/shells/bash-5.3/bin/bash");
    let folder = tempfile::tempdir().expect("a folder");
    let transcripts = [
        ("deny", "/bin/true; echo $?"),
        ("deny", "if /bin/true; then echo yes; else echo no; fi"),
        (
            "deny",
            "/bin/cat </dev/null | while read -r line; do echo $line; done; echo ${PIPESTATUS[*]}",
        ),
        ("deny", "set -e; /bin/true; echo not here"),
        ("deny", "x=$(/bin/date); echo \"$? '$x'\""),
        ("deny", "exec /bin/true"),
        ("mixed", "rm -rf precious || echo kept"),
        ("mixed", "rm one & wait $!; echo $?; rm two 2>/dev/null; echo $?"),
        ("mixed", "/bin/sh -c 'rm precious; echo $?'"),
        ("mixed", "bash -c 'rm precious; echo $?'"),
    ]
    .map(|(policy, script)| {
        let output = Command::new(&server)
            .args(["run", "--no-login", "--policy"])
            .arg(top().join(format!("fixtures/policies/{policy}.toml")))
            .args(["--shell", &shell, "--wrapper", &wrapper, "--", script])
            .current_dir(folder.path())
            // The shell that is found by its name is the patched one.
            .env(
                "PATH",
                format!(
                    "{}:/usr/bin:/bin",
                    Path::new(&shell).parent().expect("a folder").display()
                ),
            )
            .stdin(Stdio::null())
            .output()
            .expect("the server runs");
        format!(
            "{policy}$ {script}\n{}--\n{}[{}]\n\n",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().expect("an exit")
        )
    });
    insta::assert_snapshot!(transcripts.concat());
}
