//! What became of a case.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::baseline::Known;

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

/// Why a case did not pass.
#[derive(Debug)]
pub enum CaseError {
    /// The implementation did something else than the requirement demands.
    Violation {
        /// What the requirement demands.
        expected: String,
        /// What was seen.
        observed: String,
    },
    /// The suite itself could not do its part: nothing is said about the implementation.
    Harness(String),
    /// The case does not apply to this implementation, and why.
    NotApplicable(String),
}

impl std::fmt::Display for CaseError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CaseError::Violation { expected, observed } => {
                write!(formatter, "expected {expected}, observed: {observed}")
            }
            CaseError::Harness(what) | CaseError::NotApplicable(what) => formatter.write_str(what),
        }
    }
}

/// What a case returns.
pub type Verdict = Result<(), CaseError>;

/// A violation: `expected` and `observed` are what the report prints.
pub fn violation(expected: impl fmt::Display, observed: impl fmt::Display) -> CaseError {
    CaseError::Violation {
        expected: expected.to_string(),
        observed: observed.to_string(),
    }
}

/// A failure of the suite or the machine.
pub fn harness(what: impl fmt::Display) -> CaseError {
    CaseError::Harness(what.to_string())
}

impl From<std::io::Error> for CaseError {
    fn from(error: std::io::Error) -> Self {
        harness(format_args!("system call of the suite failed: {error}"))
    }
}

impl From<nix::errno::Errno> for CaseError {
    fn from(error: nix::errno::Errno) -> Self {
        harness(format_args!("system call of the suite failed: {error}"))
    }
}

impl From<anyhow::Error> for CaseError {
    fn from(error: anyhow::Error) -> Self {
        harness(format_args!("{error:#}"))
    }
}

impl From<serde_json::Error> for CaseError {
    fn from(error: serde_json::Error) -> Self {
        harness(format_args!("the suite's own JSON: {error}"))
    }
}

/// A finished case, as runner and reports see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    /// Case id.
    pub id: String,
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
}
