//! A run as it is told: events while it goes on, and what it came to. Every reporter consumes these events and nothing
//! else.

use std::path::PathBuf;
use std::time::Duration;

use crate::case::implementations::Implementations;
use crate::case::result::CaseResult;
use crate::spec::requirements::Level;

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum RunEvent {
    /// A round begins.
    RoundStarted {
        /// Its number, from 1.
        round: u32,
        /// The seed of its property cases.
        seed: u64,
        /// How many cases it has.
        cases: usize,
    },
    /// A case has started.
    CaseStarted(&'static str),
    /// A case has ended. Its result is final: the baseline has been applied.
    CaseFinished(Box<CaseResult>),
    /// A round is over.
    RoundFinished {
        /// Where the directories of its cases stay, with `--keep`.
        kept: Option<PathBuf>,
    },
    /// The run is over.
    RunFinished(Box<Run>),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was judged.
    pub implementations: Implementations,
    /// Up to and including this level.
    pub level: Level,
    /// Seed of the property cases of the first round.
    pub seed: u64,
    /// The part of the suite, I/N.
    pub shard: String,
    /// The results, in the order of the suite.
    pub results: Vec<CaseResult>,
    /// How many rounds there were.
    pub rounds: u32,
    /// The cases that were not as expected in some round.
    pub unexpected: Vec<Unexpected>,
    /// Wall time.
    pub duration: Duration,
    /// Where the run ended before all its cases had run.
    pub cut_short: Option<CutShort>,
}

/// A case that was not as expected in at least one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// Id of the case.
    pub id: String,
    /// The rounds, of which the first is 1.
    pub rounds: Vec<u32>,
}

/// A run that ended before all its cases had run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutShort {
    /// Why.
    pub cause: Cause,
    /// How many of the selected cases were not run.
    pub not_run: usize,
}

/// Why a run ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This signal came.
    Signal(i32),
    /// As many cases as `--max-failures` allows were not as expected.
    Failures(usize),
}

impl CutShort {
    /// The number of the signal that ended the run, where one did.
    pub fn signal(&self) -> Option<i32> {
        match self.cause {
            Cause::Signal(signal) => Some(signal),
            Cause::Failures(_) => None,
        }
    }
}

impl std::fmt::Display for CutShort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.cause {
            Cause::Signal(signal) => write!(formatter, "interrupted by signal {signal}: ")?,
            Cause::Failures(1) => formatter.write_str("stopped after 1 failure: ")?,
            Cause::Failures(number) => write!(formatter, "stopped after {number} failures: ")?,
        }
        match self.not_run {
            1 => formatter.write_str("1 case was not run"),
            number => write!(formatter, "{number} cases were not run"),
        }
    }
}

impl Run {
    /// The results that are not as expected, in the order of the suite.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(|result| result.is_unexpected())
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
