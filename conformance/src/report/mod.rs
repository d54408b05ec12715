//! Reports of a run: for people on the terminal and in a browser, for programs as JSON, JUnit XML and TAP.

pub mod html;
pub mod human;
pub mod json;
pub mod junit;
pub mod matrix;
pub mod schema;
pub mod tap;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::case::implementations::Implementations;
use crate::case::result::{CaseResult, Outcome};
use crate::spec::requirements::Level;

/// A finished run, as the reports see it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was judged.
    pub implementations: Implementations,
    /// Up to and including this level.
    pub level: Level,
    /// Seed of the property cases.
    pub seed: u64,
    /// The part of the suite, I/N.
    pub shard: String,
    /// The results, in the order of the suite.
    pub results: Vec<CaseResult>,
    /// Wall time.
    pub duration: Duration,
    /// Where a signal ended the run early.
    pub interrupted: Option<Interrupted>,
}

/// How a run ended early.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Interrupted {
    /// Number of the signal that ended it.
    pub signal: i32,
    /// How many of the selected cases were not run.
    pub not_run: usize,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Interrupted { signal, not_run } = self;
        let cases = human::counted(*not_run, "case");
        let were = if *not_run == 1 { "was" } else { "were" };
        write!(
            formatter,
            "interrupted by signal {signal}: {cases} {were} not run"
        )
    }
}

impl Run {
    /// How many cases had that outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.results
            .iter()
            .filter(|result| result.outcome == outcome)
            .count()
    }

    /// The command that runs just that case again.
    pub fn reproduce(&self, result: &CaseResult) -> String {
        format!(
            "conformance case {} {} --seed {}",
            result.id,
            self.implementations.as_options(),
            result.seed
        )
    }
}
