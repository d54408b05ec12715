//! The verdict of a case: passed, or why not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a case did not pass.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl fmt::Display for CaseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
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
