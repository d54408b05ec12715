//! `check`: what would be decided, by which rule, and why.

use std::fs;

use assert_cmd::assert::OutputAssertExt;

use super::run::program;

const POLICY: &str = "default = \"run\"\n\
    [[rule]]\nprogram = \"/usr/bin/env\"\nargv = [\"-i\"]\naction = \"escalate\"\nprofile = \"read-only\"\n\
    [[rule]]\nprogram = \"rm\"\naction = \"deny\"\nreason = \"use the trash\"\n";

#[test]
fn one_command_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    let check = |command: &[&str]| {
        let mut check = program();
        check
            .current_dir(folder.path())
            .env("PATH", "/usr/bin")
            .args(["check", "--policy", "policy.toml", "--"])
            .args(command);
        check.assert().success().stderr("")
    };
    check(&["env", "-i", "a b"]).stdout(
        "env -i 'a b'\n  program   /usr/bin/env\n  decision  escalate, in the sandbox profile read-only\n  \
         by        line 2\n            line 2: escalate: decides\n",
    );
    check(&["env"]).stdout(
        "env\n  program   /usr/bin/env\n  decision  run\n  by        `default`\n            \
         line 2: does not apply: it is about other arguments\n",
    );
    check(&["no-such-program"])
        .stdout("no-such-program\n  program   not found: a shell would not ask about it\n");
}

#[test]
fn a_file_of_commands_is_explained_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    let check = |commands: &str| {
        fs::write(folder.path().join("commands"), commands).unwrap();
        let mut check = program();
        check
            .current_dir(folder.path())
            .args(["check", "--policy", "policy.toml", "--commands", "commands"]);
        check.output().unwrap()
    };
    let output = check("# two commands\n\nrm 'a b'\nrm\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("rm 'a b'\n"), "{text}");
    assert_eq!(
        text.matches("  decision  deny (use the trash)\n").count(),
        2,
        "{text}"
    );
    let output = check("rm\n  rm 'a\n");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "shell-escalation: commands:2:3: a quote that isn't closed\n"
    );
}

#[test]
fn errors_in_the_policy_have_a_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("policy.toml"),
        "default = \"run\"\n[[rule]]\nprogram = \"rm\"\n  action = \"allow\"\n",
    )
    .unwrap();
    let mut check = program();
    check
        .current_dir(folder.path())
        .args(["check", "--policy", "policy.toml", "--", "rm"]);
    check.assert().code(125).stdout("").stderr(
        "shell-escalation: policy.toml:4:12: unknown action `allow`, expected `run`, `escalate`, `deny` or `prompt`\n",
    );
}
