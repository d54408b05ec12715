//! The shells that are compared, and the session in which the patched one is started.

use std::path::{Path, PathBuf};
use std::process::Command;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_shell-escalation");

/// The shell `name`, such as `bash-5.3`; `kind` is empty, or `-stock`.
pub fn shell(name: &str, kind: &str) -> PathBuf {
    let (family, _) = name.split_once('-').unwrap();
    let shell = Path::new(PROJECT).join(format!("target/shells/{name}{kind}/bin/{family}"));
    assert!(shell.is_file(), "{} is built by `make shells`", shell.display());
    shell
}

pub fn stock(name: &str) -> Command {
    Command::new(shell(name, "-stock"))
}

/// The reference wrapper, as it is meant to be used.
pub fn wrapper() -> PathBuf {
    let profile = Path::new(PROGRAM).parent().unwrap();
    let wrapper = profile.parent().unwrap().join("wrapper/execve-wrapper");
    assert!(
        wrapper.is_file(),
        "{} is built by `make reference`",
        wrapper.display()
    );
    wrapper
}

/// `shell-escalation`, its subcommand `subcommand` on the patched shell.
pub fn escalating(subcommand: &str, name: &str, policy: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args([subcommand, "--no-login", "--policy"]).arg(policy);
    command.arg("--shell").arg(shell(name, ""));
    command.arg("--wrapper").arg(wrapper());
    command
}

pub fn is_installed(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", tool])
        .output();
    found.unwrap().status.success()
}
