//! What the program says to its user, word for word: usage, explanations, errors and the human report.

use std::fs;
use std::process::Command;

/// A command line as its user sees it: what was typed, both outputs and the exit status.
fn said(folder: &std::path::Path, line: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let folder = folder.to_str().expect("UTF-8");
    format!(
        "$ conformance {line}\n{}{}[{}]\n\n",
        text(&output.stdout).replace(folder, "FOLDER"),
        text(&output.stderr).replace(folder, "FOLDER"),
        output.status.code().expect("an exit")
    )
}

/// Times and the names of temporary folders are another in each run.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"( |wire) +\d+\.\d+ ms", "$1 TIME");
    settings.add_filter(r"\(\d+ ms\)", "(TIME)");
    settings.add_filter(r"in \d+\.\d+ s", "in TIME");
    settings.add_filter(r"/\S*/conformance-\w+/\d+", "CASE");
    settings.add_filter(r"seed \d{2,}", "seed SEED");
    settings
}

#[test]
fn usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let commands = [
        "", "run ", "list ", "explain ", "case ", "compare ", "join ", "doctor ", "new ", "bench ",
    ];
    let help = commands.map(|command| said(folder.path(), &format!("{command}--help")));
    insta::assert_snapshot!(help.concat());
}

#[test]
fn explanations() {
    let folder = tempfile::tempdir().expect("a folder");
    // The lists of cases and faults grow; what is said about the requirement does not.
    let explained = ["wrapper.run.signals", "teardown.tree", "e2e.pipeline"].map(|id| {
        let text = said(folder.path(), &format!("explain {id}"));
        let (sentence, rest) = text.split_once("\ncases:\n").expect("a list of cases");
        assert!(rest.contains(&format!("  {id}/")), "{rest}");
        assert!(rest.contains("\nbroken"), "{rest}");
        sentence.to_owned() + "\n\n"
    });
    insta::assert_snapshot!(explained.concat());
}

#[test]
fn errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("text", "no program\n");
    write("broken.toml", "[[known]]\ncase = 1\n");
    write(
        "unknown.toml",
        "[[known]]\ncase = \"wrapper.deny.status/is-won\"\nreason = \"known\"\nissue = \"https://issues.example/1\"\n",
    );
    write("report.json", "{}");
    let lines = [
        "run",
        "run --wrapper nowhere",
        "run --wrapper text",
        "run --shell .",
        "run --server nowhere",
        "run --wrapper /bin/true --only nothing.matches",
        "run --wrapper /bin/true --only session.*",
        "run --wrapper /bin/true --level perfect",
        "run --wrapper /bin/true --shard 5/4",
        "run --wrapper /bin/true --jobs 0",
        "run --wrapper /bin/true --baseline nowhere.toml",
        "run --wrapper /bin/true --baseline broken.toml",
        "run --wrapper /bin/true --baseline unknown.toml",
        "run --wrapper /bin/true --json nowhere/report.json",
        "run --wrapper /bin/true --json - --tap -",
        "case wrapper.deny.status/is-won --wrapper /bin/true",
        "explain wrapper.deny.statu",
        "compare report.json",
        "compare nowhere.json",
        "bench",
    ];
    settings().bind(|| insta::assert_snapshot!(lines.map(|line| said(folder.path(), line)).concat()));
}

#[test]
fn the_human_report() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = "run --jobs 1 --seed 7 --wrapper /bin/true --only wrapper.deny.status/is-one --only wrapper.usage/no-arguments";
    settings().bind(|| insta::assert_snapshot!(said(folder.path(), line)));
}
