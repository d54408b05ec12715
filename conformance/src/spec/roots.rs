//! Which requirement's failure makes cases of others fail, so that a report can begin with what is to be mended first.

use crate::spec::requirements;

/// A requirement, and patterns of the requirements whose cases need it; `*` at the end stands for any rest. What lies
/// deeper comes first.
const ROOTS: &[(&str, &[&str])] = &[
    (
        "wire.frame",
        &[
            "wire.*",
            "wrapper.*",
            "server.*",
            "session.*",
            "teardown.*",
            "e2e.*",
        ],
    ),
    (
        "wire.handshake",
        &[
            "wire.*",
            "wrapper.*",
            "server.*",
            "session.*",
            "teardown.*",
            "e2e.*",
        ],
    ),
    (
        "wire.json",
        &["wire.*", "wrapper.*", "server.*", "teardown.*", "e2e.*"],
    ),
    (
        "wire.fds",
        &["wire.fds.*", "wrapper.escalate.*", "server.escalate*", "e2e.*"],
    ),
    (
        "session.overlay",
        &["session.*", "server.*", "wire.*", "teardown.*", "exec.*", "e2e.*"],
    ),
    (
        "session.socket.inherited",
        &["session.*", "server.*", "wire.*", "teardown.*", "exec.*", "e2e.*"],
    ),
    ("server.decision", &["server.*", "wire.*", "teardown.*", "e2e.*"]),
    ("server.escalate", &["server.*", "teardown.*", "e2e.*"]),
    ("shell.wrap", &["shell.*", "e2e.*"]),
    ("shell.file", &["shell.*", "e2e.*"]),
    ("shell.not-found", &["e2e.*"]),
    ("wrapper.request", &["wrapper.*", "wire.*", "e2e.*"]),
    ("wrapper.waits", &["wrapper.*", "wire.*", "e2e.*"]),
    ("wrapper.run", &["wrapper.run.*", "e2e.*"]),
    ("wrapper.escalate.fds", &["wrapper.escalate.*", "e2e.*"]),
    ("wrapper.escalate.status", &["wrapper.escalate.*", "e2e.*"]),
    ("wrapper.deny.status", &["wrapper.deny.*", "e2e.deny"]),
    ("exec.shell", &["exec.*"]),
    ("e2e.scripts", &["e2e.*"]),
];

/// A requirement of which cases fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing<'a> {
    /// Its id.
    pub requirement: &'a str,
    /// The other requirements that fail and whose cases need it.
    pub others: Vec<&'a str>,
}

/// The requirements of `failing`, each once: first those that may be why others fail, and then the rest, in the order of
/// the specification.
pub fn first<'a>(failing: &[&'a str]) -> Vec<Failing<'a>> {
    let mut ids = failing.to_vec();
    let place = |id: &str| requirements::all().iter().position(|known| known.id == id);
    ids.sort_by_key(|id| (place(id).unwrap_or(usize::MAX), *id));
    ids.dedup();
    let mut ordered: Vec<(usize, Failing)> = ids
        .iter()
        .map(|id| {
            let depth = ROOTS.iter().position(|(root, _)| root == id);
            let patterns = depth.map_or(&[][..], |depth| ROOTS[depth].1);
            // What lies deeper is not explained by what lies above it.
            let deeper = |other: &str| ROOTS.iter().position(|(root, _)| *root == other) < depth;
            let others = ids.iter().copied().filter(|other| {
                let deeper = ROOTS.iter().any(|(root, _)| root == other) && deeper(other);
                other != id && !deeper && patterns.iter().any(|pattern| matches(pattern, other))
            });
            let others: Vec<&str> = others.collect();
            let rank = depth.filter(|_| !others.is_empty()).unwrap_or(ROOTS.len());
            (
                rank,
                Failing {
                    requirement: id,
                    others,
                },
            )
        })
        .collect();
    ordered.sort_by_key(|(rank, _)| *rank);
    ordered.into_iter().map(|(_, failing)| failing).collect()
}

fn matches(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => id.starts_with(beginning),
        None => id == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_is_a_requirement_and_every_pattern_matches_one() {
        let ids: Vec<&str> = requirements::all()
            .iter()
            .map(|known| known.id.as_str())
            .collect();
        for (root, patterns) in ROOTS {
            assert!(ids.contains(root), "{root}");
            for pattern in *patterns {
                assert!(ids.iter().any(|id| matches(pattern, id)), "{pattern}");
            }
        }
    }

    #[test]
    fn what_may_be_why_others_fail_comes_first() {
        let ordered = first(&[
            "e2e.deny",
            "wrapper.limits",
            "shell.not-found",
            "e2e.deny",
            "shell.argv",
        ]);
        let ids: Vec<&str> = ordered.iter().map(|failing| failing.requirement).collect();
        assert_eq!(
            ids,
            ["shell.not-found", "shell.argv", "wrapper.limits", "e2e.deny"]
        );
        assert_eq!(ordered[0].others, ["e2e.deny"]);
        assert_eq!(ordered[1].others, [""; 0]);
    }

    #[test]
    fn the_deeper_of_two_roots_comes_first_and_is_not_explained_by_the_other() {
        let ordered = first(&["wrapper.request", "wire.frame"]);
        assert_eq!(ordered[0].requirement, "wire.frame");
        assert_eq!(ordered[0].others, ["wrapper.request"]);
        assert_eq!(ordered[1].others, [""; 0]);
    }
}
