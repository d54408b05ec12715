//! What the documents tell people to type is typed here and must print what they show; their links must lead somewhere.
//!
//! A block marked `console` is a session: `$ ` begins a command, `> ` continues it, the rest is what standard output
//! and standard error print together. `...` on a line stands for any lines and `[..]` for anything within one. A
//! command that fails must be followed by `$ echo $?`. The blocks of one document run in order, in a folder that begins
//! as a copy of examples/. A block that this test can't run has `<!-- not run by the test: REASON -->` on the line before.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use snapbox::{Data, IntoData};

const NOT_RUN: &str = "<!-- not run by the test: ";

/// A command and what it should print.
struct Step {
    line: usize,
    command: String,
    printed: String,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> String {
    fs::read_to_string(top().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The steps of a document's console blocks, and the reasons for which blocks are left out.
fn steps(text: &str) -> (Vec<Step>, Vec<String>) {
    let (mut steps, mut left_out) = (Vec::<Step>::new(), Vec::new());
    let (mut inside, mut runs, mut before) = (false, true, "");
    for (index, line) in text.lines().enumerate() {
        if line == "```console" {
            inside = true;
            runs = !before.starts_with(NOT_RUN);
            if !runs {
                left_out.push(before.to_owned());
            }
        } else if line == "```" {
            inside = false;
        } else if inside && runs {
            if let Some(command) = line.strip_prefix("$ ") {
                let command = command.to_owned();
                let line = index + 1;
                steps.push(Step {
                    line,
                    command,
                    printed: String::new(),
                });
            } else {
                let step = steps.last_mut().expect("a console block begins with a command");
                match line.strip_prefix("> ").filter(|_| step.printed.is_empty()) {
                    Some(more) => step.command = format!("{}\n{more}", step.command),
                    None => step.printed += &format!("{line}\n"),
                }
            }
        }
        if !line.is_empty() {
            before = line;
        }
    }
    assert!(!inside, "a block is not closed");
    (steps, left_out)
}

/// The examples in a fresh folder, beside which `bin` holds the suite.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (bin, work) = (folder.path().join("bin"), folder.path().join("work"));
    fs::create_dir_all(&bin).expect("a folder for programs");
    fs::create_dir_all(&work).expect("a folder for files");
    symlink(env!("CARGO_BIN_EXE_conformance"), bin.join("conformance")).expect("a link to the suite");
    for entry in fs::read_dir(top().join("conformance/examples")).expect("the examples") {
        let path = entry.expect("an example").path();
        // Python leaves a folder of what it has compiled.
        if path.is_dir() {
            continue;
        }
        let copy = work.join(path.file_name().expect("its name"));
        fs::copy(&path, &copy).expect("a copy");
        let mode = fs::metadata(&path).expect("its mode").permissions().mode();
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).expect("the copy's mode");
    }
    folder
}

/// Types every command of a document, and compares what it prints.
fn follow(name: &str) {
    let (steps, left_out) = steps(&document(name));
    for reason in left_out {
        println!("{name}: {reason}");
    }
    assert!(!steps.is_empty(), "{name} has no block to run");
    let folder = workplace();
    let path = format!("{}:/usr/bin:/bin", folder.path().join("bin").display());
    let mut status = 0;
    for (index, step) in steps.iter().enumerate() {
        let place = format!("{name}:{}: {}", step.line, step.command);
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("exec 2>&1\n(exit {status})\n{}", step.command))
            .current_dir(folder.path().join("work"))
            .env("PATH", &path)
            .output()
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        status = output
            .status
            .code()
            .unwrap_or_else(|| panic!("{place}: {}", output.status));
        let told = steps.get(index + 1).is_some_and(|next| next.command == "echo $?");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            status == 0 || told,
            "{place}: status {status}, which the document does not show\n{printed}"
        );
        snapbox::Assert::new()
            .normalize_paths(false)
            .palette(snapbox::report::Palette::plain())
            .try_eq(
                Some(&place),
                printed.clone().into_data(),
                Data::text(step.printed.clone()),
            )
            .unwrap_or_else(|difference| panic!("{place}\n{difference}\nin full:\n{printed}"));
    }
}

/// The documents that people follow or look things up in, from the top of the repository.
const DOCUMENTS: [&str; 10] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "conformance/SPEC.md",
    "conformance/HARNESS.md",
    "conformance/docs/wrapper.md",
    "conformance/docs/shell.md",
    "conformance/docs/server.md",
    "conformance/docs/ci.md",
];

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let outside = |line: &&str| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    };
    text.lines().filter(outside).collect::<Vec<_>>().join("\n")
}

/// The anchors that a page gives its headings.
fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| {
            heading
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect()
}

/// The links of a document that lead nowhere.
fn broken_links(name: &str, text: &str) -> Vec<String> {
    let here = top().join(name);
    prose(text)
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.starts_with("http"))
        .filter(|link| {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = here.with_file_name(path);
            let linked = match path {
                "" => Some(text.to_owned()),
                _ if target.is_dir() => Some(String::new()),
                _ => fs::read_to_string(target).ok(),
            };
            !linked
                .is_some_and(|text| anchor.is_empty() || anchors(&text).iter().any(|known| known == anchor))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    for name in DOCUMENTS {
        assert_eq!(
            broken_links(name, &document(name)),
            Vec::<String>::new(),
            "{name}"
        );
    }
}

#[test]
fn a_broken_link_is_noticed() {
    let text = "# One\n[a](#one) [b](#two)\n[c](README.md) [d](READ.md) [e](README.md#no-such-heading)\n";
    assert_eq!(
        broken_links("README.md", text),
        ["#two", "READ.md", "README.md#no-such-heading"]
    );
}

#[test]
fn the_guide_for_wrappers_works_as_printed() {
    follow("conformance/docs/wrapper.md");
}

#[test]
fn the_guide_for_shells_works_as_printed() {
    follow("conformance/docs/shell.md");
}

#[test]
fn the_guide_for_servers_works_as_printed() {
    follow("conformance/docs/server.md");
}

#[test]
fn the_guide_for_ci_works_as_printed() {
    follow("conformance/docs/ci.md");
}

#[test]
fn the_readme_works_as_printed() {
    follow("README.md");
}
