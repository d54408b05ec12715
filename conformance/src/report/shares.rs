//! The table of results: passed of those that apply, per role and level, and per extension.

use std::fmt;

use serde::Serialize;

use crate::case::result::{CaseView, Outcome};
use crate::spec::requirements::{self, Level, Role};

/// How many cases passed of how many that apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that apply.
    pub all: usize,
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all == 0 {
            formatter.write_str("-")
        } else {
            write!(formatter, "{}/{}", self.passed, self.all)
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The role, with the extension behind it where the row is an extension's.
    pub name: String,
    /// The shares of core, faithful and hardened.
    pub levels: Vec<Share>,
    /// The share of all levels.
    pub all: Share,
}

/// The rows: the roles that were judged, and below each the extensions of its requirements, which its own row does not
/// count.
pub fn table(cases: &[CaseView]) -> Vec<Row> {
    let extension = |case: &CaseView| {
        requirements::find(case.requirement).and_then(|requirement| requirement.extension.as_deref())
    };
    let mut rows = Vec::new();
    for role in Role::ALL {
        let of_role: Vec<_> = cases.iter().filter(|case| case.role == role).collect();
        let mut extensions: Vec<Option<&str>> = of_role.iter().map(|case| extension(case)).collect();
        extensions.sort_unstable();
        extensions.dedup();
        for wanted in extensions {
            let cases: Vec<_> = of_role
                .iter()
                .copied()
                .filter(|case| extension(case) == wanted)
                .collect();
            rows.push(row(name(role, wanted), &cases));
        }
    }
    rows
}

fn name(role: Role, extension: Option<&str>) -> String {
    match extension {
        None => role.to_string(),
        Some(extension) => format!("{role} +{extension}"),
    }
}

fn row(name: String, cases: &[&CaseView]) -> Row {
    let share = |level: Option<Level>| {
        let applicable = cases.iter().filter(|case| {
            case.outcome != Outcome::NotApplicable && level.is_none_or(|level| case.level == level)
        });
        applicable.fold(Share::default(), |share, case| Share {
            passed: share.passed + usize::from(case.outcome.is_pass()),
            all: share.all + 1,
        })
    };
    Row {
        name,
        levels: Level::ALL.into_iter().map(|level| share(Some(level))).collect(),
        all: share(None),
    }
}
