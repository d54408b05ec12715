//! The cases that judge shells are proved: a bash that is broken on purpose fails a case of the requirement that
//! its fault is about, and a shell that is not patched at all is told so at once.
//!
//! One build has all faults (`patches/faulty/`); the fault is chosen by the name that it is called by. What is about
//! invalid memory shows in a build with sanitizers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use conformance::faults;
use conformance::requirements::Role;
use serde_json::Value;

/// The fault that leaves nothing to judge.
const NEVER: &str = "never-wrapped";

/// Runs at a time.
const AT_A_TIME: usize = 4;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_owned()
}

/// Where a build of bash is, made if it is not there yet.
fn build(options: &[&str]) -> PathBuf {
    let output = Command::new(top().join("patches/build-shell"))
        .args(options)
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

/// A build of the broken bash, and a folder beside it for links to it.
struct Broken {
    executable: PathBuf,
    folder: tempfile::TempDir,
}

impl Broken {
    fn at(executable: &Path) -> Broken {
        // As `bin` is, so that the shell's own tests are beside it.
        let built = executable.parent().and_then(Path::parent).expect("a folder");
        let folder = tempfile::tempdir_in(built).expect("a folder");
        Broken {
            executable: executable.to_owned(),
            folder,
        }
    }

    /// The path under which it has the fault.
    fn called(&self, fault: &str) -> PathBuf {
        let path = self.folder.path().join(format!("bash--{fault}"));
        fs::hard_link(&self.executable, &path).expect("a link");
        path
    }
}

/// The report of the requirements' cases, or what the suite says to a shell that it does not judge at all.
fn run(shell: &Path, stock: &Path, requirements: &[String]) -> Result<Value, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args([
        "run",
        "--json",
        "-",
        "--seed",
        "1",
        "--jobs",
        "1",
        "--cases",
        "8",
        "--timeout-scale",
        "0.5",
    ]);
    command.arg("--shell").arg(shell).arg("--stock-shell").arg(stock);
    for requirement in requirements {
        command.args(["--only", &format!("{requirement}/*")]);
    }
    let output = command.output().expect("a run");
    serde_json::from_slice(&output.stdout).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    // Beside the builds: links reach no further than their file system.
    let broken = Broken::at(&build(&["--faulty", "never-wrapped"]));
    let sanitized = Broken::at(&build(&["--sanitize", "--faulty", "never-wrapped"]));
    // Some faults show with interception off too, where the broken bash is no measure of itself.
    let stock = build(&["--stock"]);
    let table: Vec<_> = faults::all()
        .iter()
        .filter(|fault| fault.role == Role::Shell)
        .collect();
    assert!(table.len() >= 25, "{} faults", table.len());
    let queue = Mutex::new(table.clone());
    let slipped = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(fault) = queue.lock().expect("no panic").pop() else {
                        return;
                    };
                    let memory = fault.requirements.iter().any(|id| id == "shell.memory");
                    let shell = if memory { &sanitized } else { &broken }.called(&fault.name);
                    let what = match run(&shell, &stock, &fault.requirements) {
                        Ok(report) => {
                            let cases = report["cases"].as_array().expect("cases");
                            if cases.iter().any(|case| case["outcome"] == "fail") {
                                continue;
                            }
                            report["summary"].to_string()
                        }
                        Err(said) if fault.name == NEVER && said.contains("is not patched") => continue,
                        Err(said) => said,
                    };
                    let line = format!("{}: {what}", fault.name);
                    slipped.lock().expect("no panic").push(line);
                }
            });
        }
    });
    let slipped = slipped.into_inner().expect("no panic");
    assert!(
        slipped.is_empty(),
        "{} of {} faults:\n{}",
        slipped.len(),
        table.len(),
        slipped.join("\n")
    );
}
