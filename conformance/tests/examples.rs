//! Runs the suite on the examples in Python. They were written from the specification alone, so they are a second
//! opinion on what the suite demands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use assert_cmd::Command;

/// The interpreter that the examples name in their first line, as Debian has it.
const NAMED_INTERPRETER: &str = "/usr/bin/python3";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// A Python to run the examples with: the one that they name or, if that is missing, the first in PATH.
fn interpreter() -> PathBuf {
    let named = PathBuf::from(NAMED_INTERPRETER);
    let candidate = if named.exists() {
        named
    } else {
        PathBuf::from("python3")
    };
    let script = "import os, sys; assert sys.version_info >= (3, 10), sys.version; print(os.path.realpath(sys.executable))";
    let output = Process::new(&candidate)
        .args(["-I", "-c", script])
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "PYTHON IS MISSING: the examples need python3, 3.10 or later, and {} can't be started: {error}. \
                 Install it (apt-get install python3).",
                candidate.display()
            )
        });
    assert!(
        output.status.success(),
        "PYTHON IS TOO OLD OR BROKEN: the examples need 3.10 or later, and {} says: {}",
        candidate.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    if candidate.is_absolute() {
        return candidate;
    }
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The example itself or, if Python is installed elsewhere, a copy in the folder with another first line, beside
/// copies of the modules that it imports.
fn runnable(example: &Example, folder: &Path) -> PathBuf {
    let name = example.program;
    let original = examples().join(name);
    let interpreter = interpreter();
    if interpreter == Path::new(NAMED_INTERPRETER) {
        return original;
    }
    let text = fs::read_to_string(&original).expect("the example");
    let interpreter = interpreter.to_str().expect("an interpreter's path in UTF-8");
    let copy = folder.join(name);
    fs::write(&copy, text.replacen(NAMED_INTERPRETER, interpreter, 1)).expect("a copy of the example");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its mode");
    for module in example.modules {
        fs::copy(examples().join(module), folder.join(module)).expect("a copy of the module");
    }
    copy
}

/// A program of examples/ and how the suite uses it.
struct Example {
    /// The option of the suite that names the program.
    option: &'static str,
    program: &'static str,
    /// Files that the program imports.
    modules: &'static [&'static str],
    baseline: Option<&'static str>,
    /// Capabilities and extensions that it must have.
    required: &'static [&'static str],
}

/// Checks that every case up to level faithful gives the expected result.
fn demand_faithful(example: &Example) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command
        .current_dir(&folder)
        .timeout(Duration::from_secs(1200))
        // Some cases start a wrapper or a child 256 times, and an interpreter takes its time on a busy machine. A
        // Python whose standard input is a directory doesn't start at all: this seed has no such example.
        .args([
            "run",
            "--level",
            "faithful",
            "--timeout-scale",
            "4",
            "--jobs",
            "4",
        ])
        .args(["--seed", "1", example.option])
        .arg(runnable(example, folder.path()));
    for name in example.required {
        command.args(["--require", name]);
    }
    if let Some(name) = example.baseline {
        command.arg("--baseline").arg(examples().join(name));
    }
    // Not by assert_cmd's `assert`, which leaves out the middle of a long report, where the failures are.
    let output = command.output().expect("the suite runs");
    assert!(
        output.status.success(),
        "{} is not as expected: {}\n{}{}",
        example.program,
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_python_wrapper_is_faithful_but_for_two_signals_that_python_ignores() {
    demand_faithful(&Example {
        option: "--wrapper",
        program: "wrapper.py",
        modules: &[],
        baseline: Some("known-wrapper.toml"),
        required: &["signals", "umask"],
    });
}

#[test]
fn the_python_server_is_faithful() {
    demand_faithful(&Example {
        option: "--server",
        program: "shim.py",
        modules: &["server.py", "terminals.py", "approvals.py"],
        baseline: None,
        required: &["terminals", "approvals", "tools"],
    });
}
