//! What library and SECURITY.md promise is held by cases and tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A text in one line, without the marks of comments and emphasis.
fn flat(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| *word != "//!");
    words.collect::<Vec<_>>().join(" ").replace("**", "")
}

/// The part of a document under a heading, to the next one.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading}"));
    let (level, _) = heading.rsplit_once("# ").unwrap();
    rest.split(&format!("\n{level}# ")).next().unwrap()
}

/// The rows of all tables with the columns `sentence` and something in backticks: sentence, names.
fn rows(document: &str) -> Vec<(String, Vec<String>)> {
    let cells = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | "));
    let rows = cells
        .filter(|(_, held)| held.starts_with('`'))
        .map(|(sentence, held)| {
            let names = held.split('`').skip(1).step_by(2).map(str::to_owned);
            (flat(sentence), names.collect())
        });
    rows.collect()
}

/// What stands in all files of these folders that end like this.
fn sources(folders: &[&str]) -> String {
    fn read(path: &Path, text: &mut String) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                read(&entry.unwrap().path(), text);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let mut text = String::new();
    for folder in folders {
        read(&Path::new(ROOT).join(folder), &mut text);
    }
    text
}

/// Names of functions that follow `#[test]` or `#[tokio::test]`, with or without arguments.
fn tests() -> BTreeSet<String> {
    let text = sources(&["src", "wrapper"]);
    let parts = text
        .split("#[")
        .filter(|part| part.starts_with("test]") || part.starts_with("tokio::test"));
    let names = parts.filter_map(|part| {
        part.split_once("fn ")?
            .1
            .split_once('(')
            .map(|(name, _)| name.to_owned())
    });
    names.collect()
}

#[test]
fn each_promise_is_held_by_cases_and_tests_that_exist() {
    let (tests, cases) = (tests(), sources(&["conformance/src/cases"]));
    let mut wrong = Vec::new();
    for document in ["conformance/evidence/PROMISES.md", "SECURITY.md"] {
        let rows = rows(&text(document));
        assert!(rows.len() > 5, "{document} has {} rows", rows.len());
        for name in rows.iter().flat_map(|(_, names)| names) {
            let exists = if name.contains('/') {
                cases.contains(&format!("case(\"{name}\""))
            } else {
                tests.contains(name)
            };
            if !exists {
                wrong.push(format!("{document}: {name} does not exist"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_promise_has_a_row_and_each_row_a_promise() {
    let promises = text("conformance/evidence/PROMISES.md");
    let library = text("src/lib.rs");
    let library = section(&library, "//! # What a host can rely on");
    let security = text("SECURITY.md");
    let security = section(&security, "## What counts as a vulnerability");
    for (heading, document) in [
        ("## What a host can rely on", library),
        ("## What counts as a vulnerability", security),
    ] {
        let sentences: Vec<String> = rows(section(&promises, heading))
            .into_iter()
            .map(|(sentence, _)| sentence)
            .collect();
        let whole = flat(document);
        for sentence in &sentences {
            assert!(
                whole.contains(sentence),
                "{heading}: this is promised nowhere: {sentence}"
            );
        }
        // What a list says, item by item, as far as it is a promise.
        let list = document.split("\n\nIn the specification").next().unwrap();
        let items = list.split("\n//! - ").flat_map(|item| item.split("\n- ")).skip(1);
        for item in items.map(flat) {
            assert!(
                sentences.iter().any(|sentence| item.contains(sentence)),
                "{heading}: no row holds: {item}"
            );
        }
    }
}
