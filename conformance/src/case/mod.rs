//! A case as an entry of a table, and what a running case works with.

pub mod context;
pub mod expect;
pub mod implementations;
pub mod property;
pub mod result;

use crate::case::context::Context;
use crate::spec::requirements::{self, Level, Requirement, Role};
use crate::verdict::Verdict;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
