//! `--rules`: prefix rules in Starlark, by themselves and beside a policy file.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use super::run::program;
use super::support::chain;

const ENV: &str = r#"
prefix_rule(
    pattern = ["env", ["fetch", "pull"]],
    decision = "allow",
    justification = "only reads",
    match = ["env fetch origin", ["env", "pull"]],
    not_match = ["env push"],
)
host_executable(name = "env", paths = ["/usr/bin/env"])
"#;

const RM: &str =
    "prefix_rule(pattern = [\"rm\"], decision = \"forbidden\", justification = \"use the trash\")\n";

/// A folder that holds files with these names and contents.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn check(folder: &Path, options: &[&str], command: &[&str]) -> Output {
    let mut check = program();
    check.current_dir(folder).env("PATH", "/usr/bin").arg("check");
    check.args(options).arg("--").args(command);
    check.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn all_files_of_a_folder_are_read_and_others_are_not() {
    let folder = folder(&[
        ("env.rules", ENV),
        ("rm.rules", RM),
        ("notes.txt", "this is no Starlark"),
    ]);
    for (command, decision) in [
        (&["/usr/bin/env", "fetch"][..], "escalate"),
        (&["/usr/bin/env", "push"], "run"),
        (&["rm", "x"], "deny (use the trash)"),
        (&["/usr/bin/rm"], "deny (use the trash)"),
        (&["true"], "run"),
    ] {
        let output = check(folder.path(), &["--rules", "."], command);
        let said = text(&output.stdout);
        assert!(
            said.contains(&format!("  decision  {decision}\n")),
            "{command:?}: {said}{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_stricter_of_a_policy_file_and_rules_decides() {
    let policy = "default = \"run\"\n[[rule]]\nprogram = \"/usr/bin/rm\"\nargv = []\naction = \"escalate\"\n";
    let folder = folder(&[("rm.rules", RM), ("policy.toml", policy)]);
    let options = ["--policy", "policy.toml", "--rules", "rm.rules"];
    let said = text(&check(folder.path(), &options, &["rm"]).stdout);
    assert!(said.contains("  decision  deny (use the trash)\n"), "{said}");
    let said = text(&check(folder.path(), &options[..2], &["rm"]).stdout);
    assert!(said.contains("  decision  escalate"), "{said}");
}

#[test]
fn a_mistake_is_shown_with_file_line_and_column() {
    for (content, place) in [
        ("prefix_rule(pattern = [\"rm\"\n", "wrong.rules:"),
        ("\nprefix_rule(pattern = [])\n", "wrong.rules:2:1"),
        (
            "prefix_rule(pattern = [\"rm\"], match = [\"mv\"])\n",
            "wrong.rules:1:1",
        ),
        (
            "prefix_rule(pattern = [\"rm\"], decision = \"maybe\")\n",
            "wrong.rules:1:1",
        ),
    ] {
        let folder = folder(&[("wrong.rules", content)]);
        let output = check(folder.path(), &["--rules", "wrong.rules"], &["true"]);
        let said = text(&output.stderr);
        assert!(said.contains(place), "{content:?}: {said}");
        assert_eq!(output.status.code(), Some(125));
    }
}

#[test]
fn a_command_that_rules_allow_is_escalated_and_its_neighbour_is_not() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().display();
    let rules = format!("prefix_rule(pattern = [\"/usr/bin/touch\", \"{path}/allowed\"])\n");
    let folder = folder(&[("touch.rules", &rules)]);
    let shell = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shells/bash-5.3/bin/bash");
    let mut run = program();
    run.current_dir(folder.path())
        .args(["run", "--no-login", "--rules", "touch.rules", "--shell"]);
    run.arg(shell).arg("--wrapper").arg(chain::wrapper());
    run.args([
        "--",
        &format!("/usr/bin/touch {path}/allowed; /usr/bin/touch {path}/other"),
    ]);
    let output = run.output().unwrap();
    assert!(
        outside.path().join("allowed").exists(),
        "{}",
        text(&output.stderr)
    );
    assert!(!outside.path().join("other").exists());
    assert_eq!(output.status.code(), Some(1));
}
