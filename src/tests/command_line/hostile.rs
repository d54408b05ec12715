//! The example of the README, and a sandboxed side that tries to have its own code executed outside by it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::run::{program, run};
use super::support::chain;

/// The first policy in the README.
fn example() -> &'static str {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

fn git(repository: &Path, arguments: &[&str]) {
    let status = Command::new("/usr/bin/git")
        .current_dir(repository)
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn nothing_of_the_attackers_is_executed_outside() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["mirror", "outside", "home", "evil"] {
        fs::create_dir(path(name)).unwrap();
    }
    let log = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();

    // Outside: a repository, and an ssh that needs an interpreter and tells if it is executed there.
    git(&path("mirror"), &["init", "--quiet"]);
    git(
        &path("mirror"),
        &["remote", "add", "origin", "ssh://nowhere/repository"],
    );
    let honest = format!(
        "#!/bin/sh\n/usr/bin/python3 -c 'import json'\n[ -n \"$CODEX_ESCALATE_SOCKET\" ] || echo ssh >> '{}'\nexit 1\n",
        path("honest").display()
    );
    chain::script(&path("outside/ssh"), &honest);

    // Inside: programs that tell if they are executed outside, where the session's variables are gone.
    let evil = format!(
        "#!/bin/sh\n[ -n \"$CODEX_ESCALATE_SOCKET\" ] || echo \"$0 $*\" >> '{}'\nexit 1\n",
        path("done").display()
    );
    for name in ["ssh", "git-remote-ssh", "git", "evil"] {
        chain::script(&path("evil").join(name), &evil);
    }
    let config = format!("[core]\n\tsshCommand = {}\n", path("evil/evil").display());
    fs::write(path("evil/.gitconfig"), &config).unwrap();
    fs::create_dir(path("evil/git-config")).unwrap();
    fs::write(path("evil/git-config/config"), &config).unwrap();
    let python = format!(
        "import os\nif 'CODEX_ESCALATE_SOCKET' not in os.environ: open({:?}, 'a').write('python\\n')\n",
        path("done")
    );
    fs::write(path("evil/sitecustomize.py"), python).unwrap();
    std::os::unix::fs::symlink("/usr/bin/git", path("evil/git-grep")).unwrap();

    let fetch = format!("/usr/bin/git git -C '{}' fetch", path("mirror").display());
    let evil = path("evil").display().to_string();
    let variables = [
        format!("GIT_SSH_COMMAND={evil}/evil"),
        format!("GIT_SSH={evil}/evil"),
        format!("GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.sshCommand GIT_CONFIG_VALUE_0={evil}/evil"),
        format!("GIT_CONFIG_PARAMETERS=\"'core.sshcommand={evil}/evil'\""),
        format!("GIT_CONFIG_GLOBAL={evil}/.gitconfig"),
        format!("HOME={evil}"),
        format!("XDG_CONFIG_HOME={evil}"),
        format!("PATH={evil}:$PATH"),
        format!("GIT_EXEC_PATH={evil}"),
        format!("GIT_DIR={evil} GIT_WORK_TREE={evil}"),
        format!("GIT_TRACE={}", path("done").display()),
        format!("PYTHONPATH={evil}"),
        format!("ENV={evil}/evil BASH_ENV={evil}/evil"),
        format!("LD_PRELOAD={evil}/evil LD_AUDIT={evil}/evil"),
    ];
    let others = [
        format!(
            "/usr/bin/git git -C '{}' fetch --upload-pack={evil}/evil",
            path("mirror").display()
        ),
        format!(
            "/usr/bin/git git -c core.sshCommand={evil}/evil -C '{}' fetch",
            path("mirror").display()
        ),
        format!("/usr/bin/git git-grep -C '{}' fetch", path("mirror").display()),
        format!("{evil}/git-grep git-grep -C '{}' fetch", path("mirror").display()),
        format!("{evil}/git git -C '{}' fetch", path("mirror").display()),
    ];
    let policy = example().replace("/srv/mirror", path("mirror").to_str().unwrap());
    assert_ne!(policy, example());
    for variables in &variables {
        let before = log("honest").lines().count();
        attack(&folder, &policy, &format!(":export {variables}\n{fetch}"));
        assert_eq!(log("done"), "", "{variables}");
        assert_eq!(
            log("honest").lines().count(),
            before + 1,
            "not executed: {variables}"
        );
    }
    let honest = log("honest");
    for line in &others {
        attack(&folder, &policy, line);
        assert_eq!(log("done"), "", "{line}");
        assert_eq!(log("honest"), honest, "escalated: {line}");
    }
}

/// Runs the attacker's lines, by a server that has an environment of its own.
fn attack(folder: &tempfile::TempDir, policy: &str, lines: &str) {
    let plain = run(folder, policy, lines);
    program()
        .args(plain.get_args())
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", folder.path().join("outside").display()),
        )
        .env("HOME", folder.path().join("home"))
        .output()
        .unwrap();
}

#[test]
fn the_manual_names_every_key() {
    let output = program().arg("help-policy").output().unwrap();
    let manual = String::from_utf8(output.stdout).unwrap();
    let unknown = "default = \"run\"\n[[rule]]\nunknown = 1\n";
    let message = shell_escalation::PolicyFile::parse(unknown).unwrap_err().message;
    let (_, keys) = message.split_once("expected one of ").unwrap();
    let keys: Vec<&str> = keys.split(", ").map(|key| key.trim_matches('`')).collect();
    assert!(keys.len() >= 9, "{keys:?}");
    for key in keys {
        assert!(manual.contains(&format!("\n  {key} ")), "{key}");
    }
}
