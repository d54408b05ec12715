//! A case as an entry of a table, and which cases a run selects.

use anyhow::{Context as _, bail};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::context::Context;
use crate::outcome::Verdict;
use crate::requirements::{Level, Requirement, Role};
use crate::{cases, requirements};

/// One case. Each area of [`crate::cases`] has a table of them.
#[derive(Clone, Copy)]
pub struct Case {
    /// Requirement id, a slash, a short name of the variation.
    pub id: &'static str,
    /// Whom it judges.
    pub role: Role,
    /// The level of the requirement, or a higher one where the variation asks for more.
    pub level: Level,
    /// The capability that a shim must name for this case to apply (harness-protocol, "Capabilities").
    pub capability: Option<&'static str>,
    /// Seconds that the case may take in all, before `--timeout-scale`.
    pub deadline_seconds: u64,
    /// The case itself.
    pub run: fn(&mut Context) -> Verdict,
}

/// Seconds that an ordinary case may take in all.
pub const ORDINARY_DEADLINE_SECONDS: u64 = 30;

impl Case {
    /// A case of that id for `role`; the level is the requirement's.
    pub const fn new(id: &'static str, role: Role, level: Level, run: fn(&mut Context) -> Verdict) -> Case {
        Case {
            id,
            role,
            level,
            capability: None,
            deadline_seconds: ORDINARY_DEADLINE_SECONDS,
            run,
        }
    }

    /// The same case, only for shims that name `capability`.
    pub const fn needs(self, capability: &'static str) -> Case {
        Case {
            capability: Some(capability),
            ..self
        }
    }

    /// All capabilities that a shim must name. Whatever drives a server starts sessions, but for one-shots.
    pub fn capabilities(&self) -> impl Iterator<Item = &'static str> {
        let drives_a_server = matches!(self.role, Role::Server | Role::E2e);
        let session = drives_a_server && self.capability != Some("exec");
        self.capability.into_iter().chain(session.then_some("session"))
    }

    /// The same case with another deadline.
    pub const fn within_seconds(self, deadline_seconds: u64) -> Case {
        Case {
            deadline_seconds,
            ..self
        }
    }

    /// The part of the id before the slash.
    pub fn requirement_id(&self) -> &'static str {
        self.id
            .split_once('/')
            .map_or(self.id, |(requirement, _)| requirement)
    }

    /// The requirement that the case belongs to.
    pub fn requirement(&self) -> &'static Requirement {
        requirements::find(self.requirement_id())
            .unwrap_or_else(|| panic!("case {} names an unknown requirement", self.id))
    }
}

/// Every case of the suite, in the order of the tables.
pub fn all() -> Vec<Case> {
    cases::AREAS
        .iter()
        .copied()
        .flatten()
        .copied()
        .flatten()
        .copied()
        .collect()
}

/// The case of that id.
pub fn find(id: &str) -> Option<Case> {
    all().into_iter().find(|case| case.id == id)
}

/// The known id that is nearest to `id`, which may be a glob, for "did you mean": one that begins like it, otherwise by
/// the requirement first and by the variation then.
pub fn nearest<'a>(id: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    fn parts(id: &str) -> (&str, &str) {
        id.split_once('/').unwrap_or((id, ""))
    }
    let beginning = id.trim_end_matches(['*', '.', '/']);
    let (requirement, variation) = parts(id);
    known.into_iter().min_by_key(|candidate| {
        let (of_candidate, its_variation) = parts(candidate);
        (
            beginning.is_empty() || !candidate.starts_with(beginning),
            strsim::damerau_levenshtein(requirement, of_candidate),
            strsim::damerau_levenshtein(variation, its_variation),
        )
    })
}

/// One of `count` parts of the suite, `index` from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub index: u64,
    /// How many parts there are.
    pub count: u64,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let explained = || format!("'{text}' is no shard; expected I/N with 1 <= I <= N, such as 1/4");
        let (index, count) = text.split_once('/').ok_or_else(explained)?;
        let index: u64 = index.parse().map_err(|_| explained())?;
        let count: u64 = count.parse().map_err(|_| explained())?;
        if index < 1 || index > count {
            return Err(explained());
        }
        Ok(Shard { index, count })
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Whether the case of that id belongs to this part.
    pub fn contains(&self, id: &str) -> bool {
        fowler_noll_vo(id.as_bytes()) % self.count == self.index - 1
    }
}

/// FNV-1a of 64 bits. The standard library's hasher promises no stability over releases, and a shard must
/// hold the same cases on every machine of a fleet.
fn fowler_noll_vo(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Which cases of the suite a run wants.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Up to and including this level.
    pub level: Level,
    /// Only ids that match one of these globs; all where empty.
    pub only: Vec<String>,
    /// No id that matches one of these globs.
    pub skip: Vec<String>,
    /// The part of the suite.
    pub shard: Shard,
    /// The roles that have an implementation.
    pub roles: Vec<Role>,
}

impl Selection {
    /// The selected cases, in table order.
    ///
    /// # Errors
    /// A glob that is malformed or that matches no id of the whole suite.
    pub fn apply(&self) -> anyhow::Result<Vec<Case>> {
        let cases = all();
        let only = globs("--only", &self.only, &cases)?;
        let skip = globs("--skip", &self.skip, &cases)?;
        Ok(cases
            .into_iter()
            .filter(|case| self.roles.contains(&case.role))
            .filter(|case| case.level <= self.level)
            .filter(|case| self.only.is_empty() || only.is_match(case.id))
            .filter(|case| !skip.is_match(case.id))
            .filter(|case| self.shard.contains(case.id))
            .collect())
    }
}

fn globs(option: &str, patterns: &[String], cases: &[Case]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = Glob::new(pattern).with_context(|| format!("{option} '{pattern}' is no glob"))?;
        let matcher = glob.compile_matcher();
        if !cases.iter().any(|case| matcher.is_match(case.id)) {
            let near = nearest(pattern, cases.iter().map(|case| case.id)).unwrap_or("none");
            bail!("{option} '{pattern}' matches no case; the nearest id is {near} (see `conformance list`)");
        }
        set.add(glob);
    }
    Ok(set.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_id_is_what_was_meant() {
        let near = |id| nearest(id, all().iter().map(|case| case.id)).map(str::to_owned);
        for (written, meant) in [
            (
                "wrapper.deny.massage/with-reason",
                "wrapper.deny.message/with-reason",
            ),
            (
                "wrapper.deny.message/with-raeson",
                "wrapper.deny.message/with-reason",
            ),
            ("wrapper.deny.statu/*", "wrapper.deny.status/is-one"),
        ] {
            assert_eq!(near(written).as_deref(), Some(meant), "{written}");
        }
        for written in ["wrapper.deny.massage/*", "wrapper.deny", "wrapper.deny.*"] {
            let found = near(written).expect("some id");
            assert!(found.starts_with("wrapper.deny."), "{written}: {found}");
        }
    }

    #[test]
    fn a_shard_is_one_of_its_number() {
        for text in ["1/1", "1/4", "2/4", "4/4"] {
            let shard: Shard = text.parse().expect(text);
            assert_eq!(shard.to_string(), text);
        }
        for text in ["0/4", "5/4", "0/0", "1", "/4", "1/", "a/b", "-1/4", "1/4/4"] {
            let refused = text.parse::<Shard>().expect_err(text);
            assert!(refused.starts_with(&format!("'{text}' is no shard")), "{refused}");
        }
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // Test vectors of the hash's authors.
        assert_eq!(fowler_noll_vo(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fowler_noll_vo(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fowler_noll_vo(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_case_needs_what_it_names_and_a_session() {
        let case = |role| Case::new("a.b/c", role, Level::Core, |_| Ok(()));
        let needed = |case: Case| case.capabilities().collect::<Vec<_>>();
        assert_eq!(needed(case(Role::Wrapper)), [""; 0]);
        assert_eq!(needed(case(Role::Server)), ["session"]);
        assert_eq!(needed(case(Role::Server).needs("bytes")), ["bytes", "session"]);
        assert_eq!(needed(case(Role::E2e).needs("exec")), ["exec"]);
        assert_eq!(case(Role::Server).within_seconds(60).deadline_seconds, 60);
    }

    #[test]
    fn no_two_cases_have_the_same_id() {
        let mut ids: Vec<&str> = all().iter().map(|case| case.id).collect();
        ids.sort_unstable();
        let twice: Vec<_> = ids
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        assert_eq!(twice, Vec::<&str>::new());
    }
}
