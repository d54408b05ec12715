//! A case as an entry of a table, and what a running case works with.

pub mod context;
pub mod expect;
pub mod implementations;
pub mod programs;
pub mod property;
pub mod result;
pub mod run;

use std::panic::Location;

use crate::case::context::Context;
use crate::spec::requirements::{self, Level, Requirement, Role};
use crate::spec::version::Version;
use crate::verdict::Verdict;

/// A table of cases that judge one role. Each file of `cases` has one.
#[derive(Clone, Copy)]
pub struct Table {
    role: Role,
    entries: &'static [Entry],
    capability: Option<&'static str>,
    file: &'static str,
}

impl Table {
    /// The cases of the file that calls it, all of which judge `role`.
    #[track_caller]
    pub const fn of(role: Role, entries: &'static [Entry]) -> Table {
        Table {
            role,
            entries,
            capability: None,
            file: Location::caller().file(),
        }
    }

    /// The same cases, only for shims that name `capability` beside what each needs of its own.
    pub const fn needs(self, capability: &'static str) -> Table {
        Table {
            capability: Some(capability),
            ..self
        }
    }

    /// The cases, each with the level of its requirement or the higher one that its entry asks for.
    pub fn cases(&self) -> impl Iterator<Item = Case> {
        self.entries.iter().map(|entry| Case {
            id: entry.id,
            role: self.role,
            level: entry.raised.unwrap_or_else(|| requirement_of(entry.id).level),
            needs: [
                entry.needs[0],
                entry.needs[1],
                self.capability,
                requirement_of(entry.id).extension.as_deref(),
            ],
            deadline_seconds: entry.deadline_seconds,
            by_the_clock: entry.by_the_clock,
            since: entry.since,
            file: self.file,
            run: entry.run,
        })
    }
}

/// An entry of a table; [`case`] makes one.
#[derive(Clone, Copy)]
pub struct Entry {
    id: &'static str,
    raised: Option<Level>,
    needs: [Option<&'static str>; 2],
    deadline_seconds: u64,
    by_the_clock: bool,
    since: &'static str,
    run: fn(&mut Context) -> Verdict,
}

/// The case of that id, at the level of its requirement.
pub const fn case(id: &'static str, run: fn(&mut Context) -> Verdict) -> Entry {
    Entry {
        id,
        raised: None,
        needs: [None; 2],
        deadline_seconds: ORDINARY_DEADLINE_SECONDS,
        by_the_clock: false,
        since: requirements::FIRST_VERSION,
        run,
    }
}

impl Entry {
    /// The same case at a level above that of its requirement.
    pub const fn at(self, level: Level) -> Entry {
        Entry {
            raised: Some(level),
            ..self
        }
    }

    /// The same case, only for wrappers that have this extension, or for shims that name it as a capability, beside what its
    /// table and its requirement need.
    pub const fn needs(self, capability: &'static str) -> Entry {
        let needs = match self.needs {
            [None, _] => [Some(capability), None],
            [first, None] => [first, Some(capability)],
            [Some(_), Some(_)] => panic!("a case names two capabilities at most"),
        };
        Entry { needs, ..self }
    }

    /// The same case with another deadline.
    pub const fn within_seconds(self, deadline_seconds: u64) -> Entry {
        Entry {
            deadline_seconds,
            ..self
        }
    }

    /// The same case, which judges by a clock of the peer's that goes on while the machine stands still. A failure while the suite
    /// was held up says nothing, so the case begins again, [`ATTEMPTS`] times in all.
    pub const fn by_the_clock(self) -> Entry {
        Entry {
            by_the_clock: true,
            ..self
        }
    }

    /// The same case, which the suite has had since that version.
    #[allow(
        dead_code,
        reason = "until there is a second version, all cases are of the first"
    )]
    pub const fn since(self, version: &'static str) -> Entry {
        Entry {
            since: version,
            ..self
        }
    }
}

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// Requirement id, a slash, a short name of the variation.
    pub id: &'static str,
    /// The role that it judges.
    pub role: Role,
    /// The level of the requirement, or a higher one where the variation asks for more.
    pub level: Level,
    /// What its entry, its table and its requirement need; [`Case::needed`] is all of it.
    pub(crate) needs: [Option<&'static str>; 4],
    /// Seconds that an attempt at the case may take, before `--timeout-scale`.
    pub deadline_seconds: u64,
    /// Whether a failure says nothing where the suite was held up, so that the case begins again.
    pub by_the_clock: bool,
    /// The first version of the suite that had it.
    pub since: &'static str,
    /// Its source file.
    pub file: &'static str,
    /// The case itself.
    pub run: fn(&mut Context) -> Verdict,
}

/// How often a case that judges by a clock is begun at most.
pub const ATTEMPTS: u32 = 4;

/// Seconds that an ordinary case may take in all.
const ORDINARY_DEADLINE_SECONDS: u64 = 30;

impl Case {
    /// What this case needs to apply, each once: extensions that the wrapper was seen to have, or capabilities that the shim
    /// names (HARNESS.md, "Capabilities").
    pub fn needed(&self) -> impl Iterator<Item = &'static str> {
        let needs = self.needs;
        let named = (0..needs.len()).filter(move |&at| !needs[..at].contains(&needs[at]));
        named.filter_map(move |at| needs[at])
    }

    /// All capabilities that a shim must name. Every case that drives a server starts sessions, except where a one-shot has its
    /// own, and where it only asks.
    pub fn capabilities(&self) -> impl Iterator<Item = &'static str> {
        let drives_a_server = matches!(self.role, Role::Server | Role::E2e);
        let without_session = self.needed().any(|name| matches!(name, "exec" | "tools"));
        self.needed()
            .chain((drives_a_server && !without_session).then_some("session"))
    }

    /// How long the case may take in all, all its attempts included.
    pub fn longest(&self, timeout_scale: f64) -> std::time::Duration {
        let attempts = if self.by_the_clock { ATTEMPTS } else { 1 };
        std::time::Duration::from_secs(self.deadline_seconds).mul_f64(timeout_scale) * attempts
    }

    /// The first version of the suite that had both the case and its requirement.
    ///
    /// # Errors
    /// A `since` that is not a version, which a test excludes.
    pub fn version(&self) -> Result<Version, String> {
        Ok(self
            .since
            .parse::<Version>()?
            .max(self.requirement().since.parse()?))
    }

    /// The part of the id before the slash.
    pub fn requirement_id(&self) -> &'static str {
        requirement_id(self.id)
    }

    /// The requirement that the case belongs to.
    pub fn requirement(&self) -> &'static Requirement {
        requirement_of(self.id)
    }
}

fn requirement_id(case: &str) -> &str {
    case.split_once('/').map_or(case, |(requirement, _)| requirement)
}

fn requirement_of(case: &str) -> &'static Requirement {
    requirements::find(requirement_id(case))
        .unwrap_or_else(|| panic!("case {case} names an unknown requirement; SPEC.md has no such heading"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(role: Role, entry: Entry) -> Case {
        let entries: &'static [Entry] = Box::leak(Box::new([entry]));
        Table::of(role, entries).cases().next().expect("one case")
    }

    #[test]
    fn a_case_needs_what_it_names_and_a_session() {
        let entry = || case("server.decision/anything", |_| Ok(()));
        let needed = |case: Case| case.capabilities().collect::<Vec<_>>();
        assert_eq!(needed(only(Role::Wrapper, entry())), [""; 0]);
        assert_eq!(needed(only(Role::Server, entry())), ["session"]);
        assert_eq!(
            needed(only(Role::Server, entry().needs("bytes"))),
            ["bytes", "session"]
        );
        assert_eq!(needed(only(Role::E2e, entry().needs("exec"))), ["exec"]);
        assert_eq!(
            only(Role::Server, entry().within_seconds(60)).deadline_seconds,
            60
        );
    }

    #[test]
    fn a_case_needs_what_its_table_and_its_requirement_need_too() {
        let needed = |entry: Entry| {
            let entries: &'static [Entry] = Box::leak(Box::new([entry]));
            let table = Table::of(Role::Server, entries).needs("group");
            let case = table.cases().next().expect("one case");
            case.capabilities().collect::<Vec<_>>()
        };
        let of_terminals = || case("terminal.socket.no-race/anything", |_| Ok(()));
        assert_eq!(
            needed(of_terminals().needs("unrelated")),
            ["unrelated", "group", "terminals", "session"]
        );
        assert_eq!(
            needed(of_terminals().needs("group").needs("cancel")),
            ["group", "cancel", "terminals", "session"]
        );
        assert_eq!(
            needed(case("exec.shell/anything", |_| Ok(())).needs("exec")),
            ["exec", "group"]
        );
    }

    #[test]
    fn a_case_is_as_new_as_it_says_and_as_its_requirement() {
        let entry = || case("wrapper.deny.status/anything", |_| Ok(()));
        let version = |entry: Entry| {
            only(Role::Wrapper, entry)
                .version()
                .map(|version| version.to_string())
        };
        assert_eq!(version(entry()), Ok(requirements::FIRST_VERSION.to_owned()));
        assert_eq!(version(entry().since("1.20.3")), Ok("1.20.3".to_owned()));
        assert!(version(entry().since("new")).is_err());
    }

    #[test]
    fn a_case_has_the_level_of_its_requirement_unless_it_asks_for_more() {
        let entry = || case("wrapper.deny.status/anything", |_| Ok(()));
        assert_eq!(only(Role::Wrapper, entry()).level, Level::Core);
        assert_eq!(
            only(Role::Wrapper, entry().at(Level::Hardened)).level,
            Level::Hardened
        );
    }
}
