//! The shells that the proofs need: each is built if it is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of a build of a shell, by the arguments of `patches/build-shell`.
pub fn build(arguments: &[&str]) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace");
    let output = Command::new(top.join("patches/build-shell"))
        .args(arguments)
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
pub struct Broken {
    executable: PathBuf,
    folder: tempfile::TempDir,
}

impl Broken {
    /// That build.
    pub fn at(executable: &Path) -> Broken {
        // Beside `bin`, so that the shell's own tests are found, and because hard links cannot cross file systems.
        let built = executable.parent().and_then(Path::parent).expect("a folder");
        let folder = tempfile::tempdir_in(built).expect("a folder");
        Broken {
            executable: executable.to_owned(),
            folder,
        }
    }

    /// The path under which it has the fault.
    pub fn called(&self, fault: &str) -> PathBuf {
        let path = self.folder.path().join(format!("bash--{fault}"));
        fs::hard_link(&self.executable, &path).expect("a link");
        path
    }
}
