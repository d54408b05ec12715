//! Compiles the baseline programs of `conformance bench` (folder `bench/`), which are part of the executable, and says what
//! the sources come to, by which a probe and a suite know that they are of one build.
//!
//! The programs must start without the C library, so cargo's own profile does not fit; rustc alone does. Where that is
//! not possible the suite is built without them, and `conformance bench` says so.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 3] = ["nothing", "two_exec", "floor"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bench");
    let mut sources = DefaultHasher::new();
    for folder in ["src", "probe"] {
        println!("cargo::rerun-if-changed={folder}");
        hash(Path::new(folder), &mut sources);
    }
    println!("cargo::rustc-env=CONFORMANCE_SOURCES={:016x}", sources.finish());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let folder = PathBuf::from(variable("OUT_DIR"));
    let supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && ["x86_64", "aarch64"].contains(&variable("CARGO_CFG_TARGET_ARCH").as_str());
    for program in PROGRAMS {
        let output = folder.join(program);
        if supported {
            compile(&variable("RUSTC"), &variable("TARGET"), program, &output);
        } else {
            std::fs::write(&output, []).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
        }
    }
}

/// Hashes the names and contents below a folder, in the order of their names.
fn hash(folder: &Path, hasher: &mut DefaultHasher) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        path.hash(hasher);
        if path.is_dir() {
            hash(&path, hasher);
        } else {
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            bytes.hash(hasher);
        }
    }
}

fn compile(rustc: &str, target: &str, program: &str, output: &Path) {
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "bin", "--target", target])
        .args([
            "-Copt-level=2",
            "-Cpanic=abort",
            "-Crelocation-model=static",
            "-Cstrip=symbols",
        ])
        .args([
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-static",
            "-Clink-arg=-no-pie",
        ])
        .args([
            "-Clink-arg=-Wl,--build-id=none",
            "-Clink-arg=-Wl,-z,norelro",
            "-Clink-arg=-Wl,-z,noseparate-code",
        ])
        .arg(format!("bench/{program}.rs"))
        .arg("-o")
        .arg(output)
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => panic!("bench/{program}.rs cannot be compiled: {other:?}"),
    }
}
