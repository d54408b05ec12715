//! The id is the address: where the code of a case stands follows from its id.

use std::collections::BTreeSet;

use conformance::suite;

/// Files that hold cases of another address. This list may only shrink.
const MISPLACED: &[&str] = &[
    "conformance/src/cases/e2e/random.rs",
    "conformance/src/cases/e2e/side_by_side.rs",
    "conformance/src/cases/shell/terminal.rs",
    "conformance/src/cases/wire/server_bytes.rs",
    "conformance/src/cases/wire/server_descriptors.rs",
    "conformance/src/cases/wire/server_frames.rs",
    "conformance/src/cases/wire/server_limits.rs",
    "conformance/src/cases/wire/server_malformed.rs",
    "conformance/src/cases/wire/server_messages.rs",
    "conformance/src/cases/wire/wrapper_bytes.rs",
    "conformance/src/cases/wire/wrapper_frames.rs",
    "conformance/src/cases/wire/wrapper_replies.rs",
    "conformance/src/cases/wire/wrapper_requests.rs",
    "conformance/src/cases/wrapper/attributes.rs",
    "conformance/src/cases/wrapper/confinement.rs",
    "conformance/src/cases/wrapper/endings.rs",
    "conformance/src/cases/wrapper/escalate.rs",
    "conformance/src/cases/wrapper/fail_closed.rs",
    "conformance/src/cases/wrapper/forwarding.rs",
    "conformance/src/cases/wrapper/handed_over.rs",
    "conformance/src/cases/wrapper/inherited.rs",
    "conformance/src/cases/wrapper/patience.rs",
    "conformance/src/cases/wrapper/refusals.rs",
    "conformance/src/cases/wrapper/request.rs",
    "conformance/src/cases/wrapper/signals.rs",
    "conformance/src/cases/wrapper/surroundings.rs",
];

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
    let known: BTreeSet<&str> = MISPLACED.iter().copied().collect();
    assert_eq!(misplaced, known, "files that hold a case of another address");
}
