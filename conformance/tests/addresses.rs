//! The id is the address: where the code of a case stands follows from its id.

use std::collections::BTreeSet;

use conformance::suite;

/// Whether `file` is an address of the requirement `id`: a folder is named like the id's first part, and behind it a
/// folder or the file like the next part or parts. `session.socket.no-race` may stand in `server/session/socket.rs` or
/// in `server/session/socket_no_race/spawn.rs`.
fn is_address(file: &str, id: &str) -> bool {
    let id = id.replace('-', "_");
    let parts: Vec<&str> = id.split('.').collect();
    let Some((first, rest)) = parts.split_first() else {
        return false;
    };
    let names: Vec<String> = (1..=rest.len()).map(|number| rest[..number].join("_")).collect();
    let path = file.trim_end_matches(".rs");
    let mut folders = path.split('/').skip_while(|folder| *folder != "cases").skip(1);
    folders.any(|folder| folder == *first) && folders.any(|folder| names.iter().any(|name| name == folder))
}

#[test]
fn an_address_is_made_of_the_parts_of_an_id() {
    for (file, id, expected) in [
        ("src/cases/server/hostile/toctou.rs", "server.toctou", true),
        (
            "src/cases/server/session/socket.rs",
            "session.socket.no-race",
            true,
        ),
        (
            "src/cases/server/session/socket_no_race/spawn.rs",
            "session.socket.no-race",
            true,
        ),
        ("src/cases/wire/server/frame_split.rs", "wire.frame.split", true),
        ("src/cases/wrapper/deny.rs", "wrapper.deny.message", true),
        ("src/cases/wrapper/refusals.rs", "wrapper.deny.message", false),
        ("src/cases/server/toctou.rs", "session.toctou", false),
        ("src/cases/wrapper/mod.rs", "wrapper.run.fds", false),
    ] {
        assert_eq!(is_address(file, id), expected, "{id} in {file}");
    }
}

#[test]
fn every_case_stands_at_the_address_that_its_id_gives() {
    let cases = suite::all();
    let misplaced: BTreeSet<&str> = cases
        .iter()
        .filter(|case| !is_address(case.file, case.requirement_id()))
        .map(|case| case.file)
        .collect();
    assert_eq!(
        misplaced,
        BTreeSet::new(),
        "files that hold a case of another address"
    );
}
