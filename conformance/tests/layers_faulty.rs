//! The files of the broken implementations are layered: their imports form no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The file of the crate root.
const ROOT: &str = "main";

/// The files of each program by name, with their texts.
fn files_of(program: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("faulty").join(program);
    let entries = fs::read_dir(folder).expect("a folder of sources");
    let files: BTreeMap<_, _> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a source file"))
        })
        .collect();
    assert!(files.contains_key(ROOT), "{program} has no {ROOT}.rs");
    files
}

/// The files that each file uses: by `mod`, by `crate::`, or by `super::`, which is the root here.
fn arrows(files: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let file_of = |path: &str| {
        let word = path
            .split(|character: char| !(character.is_alphanumeric() || character == '_'))
            .next()
            .unwrap_or_default();
        // A list in braces counts as the root, too: the style here is one line per module.
        files.get_key_value(word).map_or(ROOT, |(name, _)| name.as_str())
    };
    let of_text = |text: &str| -> BTreeSet<&str> {
        let declared = text.lines().filter_map(|line| line.strip_prefix("mod "));
        let named = text.split("crate::").skip(1);
        let above = text.split("super::").skip(1).map(|_| ROOT);
        declared.chain(named).map(file_of).chain(above).collect()
    };
    files
        .iter()
        .map(|(name, text)| (name.as_str(), of_text(text)))
        .collect()
}

/// The files in a circle or above one: what is left when files that use none of the rest are removed repeatedly.
fn circle(files: &BTreeMap<String, String>) -> Vec<&str> {
    let mut arrows = arrows(files);
    loop {
        let ground: Vec<_> = arrows
            .iter()
            .filter(|(_, below)| below.iter().all(|file| !arrows.contains_key(file)))
            .map(|(name, _)| *name)
            .collect();
        if ground.is_empty() {
            return arrows.into_keys().collect();
        }
        arrows.retain(|name, _| !ground.contains(name));
    }
}

#[test]
fn the_files_of_the_breakable_wrapper_form_no_circle() {
    assert_eq!(circle(&files_of("wrapper")), Vec::<&str>::new());
}

#[test]
fn the_files_of_the_breakable_server_form_no_circle() {
    assert_eq!(circle(&files_of("shim")), Vec::<&str>::new());
}

#[test]
fn a_circle_is_found_wherever_it_is_written() {
    let programs = [
        [
            ("main", "mod one;\nmod two;"),
            ("one", "use crate::two::Two;"),
            ("two", "crate::one::f();"),
        ],
        [
            ("main", "mod one;\nmod two;"),
            ("one", "use crate::Call;"),
            ("two", ""),
        ],
        [
            ("main", "mod one;\nmod two;"),
            ("one", "use super::two;"),
            ("two", ""),
        ],
    ];
    for program in programs {
        let files = program.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert!(circle(&files.into()).contains(&"one"), "{program:?}");
    }
}
