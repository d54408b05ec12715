//! Which cases of the suite a run selects.

use anyhow::{Context as _, bail};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::case::Case;
use crate::spec::requirements::{Level, Role};
use crate::suite::{all, nearest};

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
        let explained =
            || format!("'{text}' is not a valid shard; expected I/N with 1 <= I <= N, such as 1/4");
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
    /// The whole suite.
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };

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
        let glob = Glob::new(pattern).with_context(|| format!("{option} '{pattern}' is not a valid glob"))?;
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
    fn a_shard_is_one_of_its_number() {
        for text in ["1/1", "1/4", "2/4", "4/4"] {
            let shard: Shard = text.parse().expect(text);
            assert_eq!(shard.to_string(), text);
        }
        for text in ["0/4", "5/4", "0/0", "1", "/4", "1/", "a/b", "-1/4", "1/4/4"] {
            let refused = text.parse::<Shard>().expect_err(text);
            assert!(
                refused.starts_with(&format!("'{text}' is not a valid shard")),
                "{refused}"
            );
        }
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // Test vectors of the hash's authors.
        assert_eq!(fowler_noll_vo(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fowler_noll_vo(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fowler_noll_vo(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
