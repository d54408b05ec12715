//! `conformance new` writes what the suite's own parsers read, and nothing where it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::spec::requirements::{self, Level, Role};

const PARTS: [&str; 3] = ["SPEC.md", "src/cases", "faulty"];

/// A copy of what the command reads and writes.
fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("conformance/src")).expect("a folder");
    for part in PARTS {
        let copied = Command::new("cp")
            .arg("-r")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(part))
            .arg(folder.path().join("conformance").join(part))
            .status()
            .expect("cp");
        assert!(copied.success());
    }
    folder
}

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conformance"))
        .arg("new")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program runs")
}

/// Every file with its text.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let text = fs::read_to_string(&path).expect("a text");
            files.insert(path, text);
        }
    }
    files
}

fn read(folder: &Path, path: &str) -> String {
    fs::read_to_string(folder.join("conformance").join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_case_of_a_new_requirement_joins_its_family() {
    let folder = tree();
    let id = "wrapper.deny.promptness/stream-stays-open";
    let output = new(
        folder.path(),
        &[
            id,
            "--level",
            "faithful",
            "--role",
            "wrapper",
            "--fault",
            "denial-lingers",
        ],
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for file in [
        "SPEC.md",
        "src/cases/wrapper/deny.rs",
        "faulty/wrapper-faults.toml",
        "faulty/wrapper/",
    ] {
        assert!(said.contains(&format!("conformance/{file}: ")), "{said}");
    }

    let parsed = requirements::parse(&read(folder.path(), "SPEC.md")).expect("requirements");
    assert_eq!(parsed.len(), requirements::all().len() + 1);
    let place = parsed
        .iter()
        .position(|found| found.id == "wrapper.deny.promptness")
        .expect("the new one");
    assert!(
        parsed[place - 1].id.starts_with("wrapper.deny."),
        "{}",
        parsed[place - 1].id
    );
    assert_eq!(parsed[place].level, Level::Faithful);
    assert_eq!(parsed[place].roles, [Role::Wrapper]);
    assert!(parsed[place].sentence.contains("MUST"));

    let cases = read(folder.path(), "src/cases/wrapper/deny.rs");
    assert!(
        cases.contains(&format!("    case(\"{id}\", stream_stays_open),\n]);\n")),
        "{cases}"
    );
    assert!(cases.contains("\nfn stream_stays_open(_context: &mut Context) -> Verdict {\n"));
    let faults: toml::Table = read(folder.path(), "faulty/wrapper-faults.toml")
        .parse()
        .expect("TOML");
    let last = faults["fault"]
        .as_array()
        .and_then(|faults| faults.last())
        .expect("a fault");
    assert_eq!(last["name"].as_str(), Some("denial-lingers"));
    assert!(read(folder.path(), "faulty/wrapper/faults.rs").contains("    DenialLingers,\n}\n"));
}

#[test]
fn a_new_family_gets_a_file_of_its_own() {
    for (id, role, file, entry) in [
        (
            "session.novelty/first",
            "server",
            "server/session/novelty.rs",
            "    session::novelty::CASES,\n",
        ),
        (
            "wire.novelty.sub/first",
            "wrapper",
            "wire/wrapper/novelty_sub.rs",
            "    wrapper::novelty_sub::CASES,\n",
        ),
        (
            "server.escalate.novelty/first",
            "server",
            "server/escalate/novelty.rs",
            "    escalate::novelty::CASES,\n",
        ),
        (
            "e2e.novelty/first",
            "e2e",
            "e2e/novelty.rs",
            "    novelty::CASES,\n",
        ),
    ] {
        let folder = tree();
        let output = new(folder.path(), &[id, "--level", "core", "--role", role]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = read(folder.path(), &format!("src/cases/{file}"));
        assert!(text.contains(&format!("case(\"{id}\", first)")), "{text}");
        let (area, _) = file.split_once('/').expect("an area");
        let list = read(folder.path(), &format!("src/cases/{area}/mod.rs"));
        assert!(list.contains(entry), "{list}");
        let (module, name) = file.rsplit_once('/').expect("a folder");
        let declared = read(folder.path(), &format!("src/cases/{module}/mod.rs"));
        let name = name.trim_end_matches(".rs");
        assert!(declared.contains(&format!("pub mod {name};\n")), "{declared}");
    }
}

#[test]
fn what_exists_or_is_not_valid_is_refused_and_nothing_is_written() {
    let folder = tree();
    let before = files(folder.path());
    let level = ["--level", "core", "--role", "wrapper"];
    for (arguments, complaint) in [
        (
            &["wrapper.deny.status/other"][..],
            "'wrapper.deny.status' exists already",
        ),
        (
            &["wrapper.deny.novelty/status-is-one"],
            "has a function status_is_one already",
        ),
        (
            &["wrapper.deny.novelty/first", "--fault", "handshake-two-bytes"],
            "has a fault handshake-two-bytes already",
        ),
        (&["wrapper.deny.novelty"], "expected REQUIREMENT/VARIATION"),
        (&["wrapper.Deny/first"], "is not a valid requirement"),
        (&["nowhere.novelty/first"], "no requirement of the area 'nowhere'"),
    ] {
        let output = new(folder.path(), &[arguments, &level].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
        assert!(files(folder.path()) == before, "{arguments:?} wrote something");
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    let output = new(
        elsewhere.path(),
        &[&["wrapper.novelty/first"][..], &level].concat(),
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("run this at the top of the source tree"), "{said}");
}
