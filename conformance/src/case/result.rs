//! The result of a finished case, as runner and reports see it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::spec::requirements::{Level, Role};

/// Outcome as the reports show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The implementation did what the requirement demands.
    Pass,
    /// It did not.
    Fail,
    /// It did not, and the baseline says so.
    ExpectedFail,
    /// It did, though the baseline says that it does not.
    UnexpectedPass,
    /// The shim does not name the capability that the case needs.
    NotApplicable,
    /// The suite or the machine failed, not the implementation.
    HarnessError,
}

impl Outcome {
    /// Every outcome, what needs attention first.
    pub const ALL: [Outcome; 6] = [
        Outcome::Fail,
        Outcome::UnexpectedPass,
        Outcome::HarnessError,
        Outcome::ExpectedFail,
        Outcome::NotApplicable,
        Outcome::Pass,
    ];

    /// Whether the implementation did what the requirement demands, expected or not.
    pub fn is_pass(self) -> bool {
        matches!(self, Outcome::Pass | Outcome::UnexpectedPass)
    }

    /// Whether the run is still as expected.
    pub fn is_green(self) -> bool {
        matches!(
            self,
            Outcome::Pass | Outcome::ExpectedFail | Outcome::NotApplicable
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::ExpectedFail => "expected-fail",
            Outcome::UnexpectedPass => "unexpected-pass",
            Outcome::NotApplicable => "not-applicable",
            Outcome::HarnessError => "harness-error",
        })
    }
}

/// One known failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The exact case id.
    pub case: String,
    /// Why it fails.
    pub reason: String,
    /// Where that is followed up: a link or a number.
    pub issue: String,
}

/// A finished case, as runner and reports see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    /// Case id.
    pub id: String,
    /// Id of its requirement.
    pub requirement: String,
    /// The level at which the case is demanded.
    pub level: Level,
    /// The role that it judges.
    pub role: Role,
    /// What became of it.
    pub outcome: Outcome,
    /// Wall time in milliseconds, the census included.
    pub duration_ms: u64,
    /// What the requirement demands; for a harness error or a case that does not apply, none.
    pub expected: Option<String>,
    /// What was seen, or the reason.
    pub observed: Option<String>,
    /// The wire, a line each.
    pub transcript: Vec<String>,
    /// Tail of the implementation's standard error.
    pub stderr_tail: Option<String>,
    /// What the baseline says of it, where its failure is expected.
    #[serde(default)]
    pub known: Option<Known>,
    /// Seed of its property examples.
    #[serde(default)]
    pub seed: u64,
    /// The first version of the suite that had the case and its requirement.
    #[serde(default)]
    pub since: String,
    /// The version that `--as-of` names, where the case or its requirement is newer: it is reported and does not decide.
    #[serde(default)]
    pub newer_than: Option<String>,
}

impl CaseResult {
    /// Whether the run fails by it.
    pub fn is_unexpected(&self) -> bool {
        self.view().is_unexpected()
    }

    /// The result of `case` without anything to show.
    pub fn new(case: &Case, outcome: Outcome) -> CaseResult {
        CaseResult {
            id: case.id.to_owned(),
            requirement: case.requirement_id().to_owned(),
            level: case.level,
            role: case.role,
            outcome,
            duration_ms: 0,
            expected: None,
            observed: None,
            transcript: Vec::new(),
            stderr_tail: None,
            known: None,
            seed: 0,
            since: case
                .version()
                .map_or_else(|_| case.since.to_owned(), |version| version.to_string()),
            newer_than: None,
        }
    }
}

/// What a summary needs to know of a finished case, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub struct CaseView<'a> {
    /// Case id.
    pub id: &'a str,
    /// Id of its requirement.
    pub requirement: &'a str,
    /// Its role.
    pub role: Role,
    /// Its level.
    pub level: Level,
    /// What became of it.
    pub outcome: Outcome,
    /// The version that the run is held to, where the case is newer and doesn't decide.
    pub newer_than: Option<&'a str>,
}

impl CaseView<'_> {
    /// Whether the run fails by it.
    pub fn is_unexpected(&self) -> bool {
        !self.outcome.is_green() && self.newer_than.is_none()
    }
}

impl CaseResult {
    /// What a summary needs to know.
    pub fn view(&self) -> CaseView<'_> {
        CaseView {
            id: &self.id,
            requirement: &self.requirement,
            role: self.role,
            level: self.level,
            outcome: self.outcome,
            newer_than: self.newer_than.as_deref(),
        }
    }
}
