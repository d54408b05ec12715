//! Programs that change their user, those that can be executed but not read, and su(1).

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::geteuid;

use super::shells::{PROGRAM, escalating, is_installed, shell, stock, wrapper};

const NOBODY: u32 = 65_534;

/// Prints its users, and dies by the signal that its argument names.
const WHO: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments) {
    printf("%d %d\n", (int)getuid(), (int)geteuid());
    fflush(stdout);
    return count > 1 ? raise(atoi(arguments[1])) : 0;
}
"#;

const SCRIPT: &str = "./setuid; echo $?; ./setuid 15; echo $?; ./only-executed; echo $?; ./only-executed 9; echo $?; \
    (exec -a other ./setuid); ./setuid | cat; ./forbidden; echo $?; test -r only-executed; echo $?";

/// What all users may execute: a server, its wrapper, and a shell.
struct ForEveryone {
    folder: tempfile::TempDir,
}

impl ForEveryone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder };
        made.allow(".", 0o755);
        for (path, name) in [(Path::new(PROGRAM), "server"), (&wrapper(), "wrapper")] {
            made.copy(path, name, 0o755);
        }
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn allow(&self, name: &str, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(name), permissions).unwrap();
    }

    fn copy(&self, path: &Path, name: &str, mode: u32) {
        std::fs::copy(path, self.path(name)).unwrap();
        self.allow(name, mode);
    }

    fn said(&self, mut command: Command) -> Output {
        command.arg(SCRIPT).current_dir(self.folder.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/");
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    }
}

#[test]
fn programs_keep_their_user_and_their_secrets() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a program that becomes root");
        return;
    }
    let everyone = ForEveryone::new();
    let source = everyone.path("who.c");
    std::fs::write(&source, WHO).unwrap();
    let compiled = Command::new("cc")
        .arg("-o")
        .arg(everyone.path("who"))
        .arg(&source)
        .status();
    assert!(compiled.unwrap().success());
    for (name, mode) in [("setuid", 0o4755), ("only-executed", 0o711), ("forbidden", 0o700)] {
        everyone.copy(&everyone.path("who"), name, mode);
    }
    for (name, policy) in [
        ("bash-5.3", "run"),
        ("bash-5.3", "escalate"),
        ("zsh-5.9", "run"),
        ("zsh-5.9", "escalate"),
    ] {
        everyone.copy(&shell(name, "-stock"), "stock", 0o755);
        everyone.copy(&shell(name, ""), "shell", 0o755);
        let mut expected = Command::new(everyone.path("stock"));
        expected.arg("-c");
        let expected = everyone.said(expected);
        everyone.copy(&policy_file(policy), "policy.toml", 0o644);
        let mut run = Command::new(everyone.path("server"));
        run.args(["run", "--no-login", "--sandbox", "full-access"]);
        for option in ["policy", "shell", "wrapper"] {
            run.arg(format!("--{option}"));
            run.arg(everyone.path(if option == "policy" { "policy.toml" } else { option }));
        }
        run.arg("--");
        let got = everyone.said(run);
        let text = String::from_utf8_lossy(&expected.stdout);
        assert!(
            text.starts_with("65534 0\n0\n65534 0\n143\n65534 65534\n"),
            "{expected:?}"
        );
        assert_eq!(
            String::from_utf8_lossy(&got.stdout),
            text,
            "{name}, {policy}: {got:?}"
        );
        assert_eq!(got.status, expected.status);
    }
}

fn policy_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/policies/{name}.toml"))
}

#[test]
fn su_becomes_another_user() {
    if !geteuid().is_root() || !is_installed("su") {
        eprintln!("SKIPPED: su(1) is tried as root, which it asks for no password");
        return;
    }
    let script = "su -s /bin/sh -c 'echo $0 $#; id -u; exit 7' nobody one; echo $?; \
        su -s /bin/sh -c 'kill -TERM $$' nobody; echo $?";
    for name in ["bash-5.3", "zsh-5.9"] {
        let expected = stock(name).args(["-c", script]).output().unwrap();
        assert!(
            String::from_utf8_lossy(&expected.stdout).contains("65534\n7\n"),
            "{expected:?}"
        );
        for policy in ["run", "escalate"] {
            let mut run = escalating("run", name, &policy_file(policy));
            let got = run
                .args(["--sandbox", "full-access", "--", script])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&got.stdout),
                String::from_utf8_lossy(&expected.stdout),
                "{name}, {policy}: {got:?}"
            );
        }
    }
}
