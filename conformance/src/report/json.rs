//! The JSON report, version 1 (command-line.md): other people's CI depends on it; additions are free.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::result::{CaseResult, CaseView, Outcome};
use crate::case::run::{Cause, CutShort, Run};
use crate::spec::requirements::{Level, Role};

/// Version of the report's form.
pub const FORMAT: u32 = 1;

/// What `conformance run --json FILE` writes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// What judged.
    pub suite: SuiteVersion,
    /// What was judged.
    pub implementations: Implementations,
    /// Up to and including this level.
    pub level: Level,
    /// Seed of the property cases of the first round.
    pub seed: u64,
    /// I/N: the I-th of N parts of the suite.
    pub shard: String,
    /// Wall time of the run in milliseconds.
    pub duration_ms: u64,
    /// Where a signal ended the run early; the cases are those that were over by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Interruption>,
    /// Where the run ended early since as many cases as it was allowed had failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stop>,
    /// All cases by outcome.
    pub summary: Counts,
    /// The cases of each level.
    pub levels: BTreeMap<String, LevelCounts>,
    /// The cases, in the order of the suite.
    pub cases: Vec<CaseReport>,
}

/// The suite that judged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SuiteVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What was judged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Implementations {
    /// The shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Shell>,
    /// The wrapper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<Wrapper>,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
}

/// The shell that was judged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Shell {
    /// Where it is.
    pub path: String,
    /// The first line of `--version`.
    pub version: Option<String>,
}

/// The wrapper that was judged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Wrapper {
    /// Where it is.
    pub path: String,
    /// The extensions that it was seen to have.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// The shim and what it said of itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// The shim's command line.
    pub command: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it says it can do.
    pub capabilities: Vec<String>,
}

/// How a signal ended a run early.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Interruption {
    /// Number of the signal that ended it.
    pub signal: i32,
    /// How many of the selected cases were not run.
    pub not_run: usize,
}

/// How failures ended a run early.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    /// How many there were.
    pub failures: usize,
    /// How many of the selected cases were not run.
    pub not_run: usize,
}

/// Cases by outcome.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Failed, as the baseline says.
    pub expected_fail: usize,
    /// Passed, though the baseline says otherwise.
    pub unexpected_pass: usize,
    /// Not applicable.
    pub not_applicable: usize,
    /// Not judged, for the suite or the machine failed.
    pub harness_error: usize,
}

/// Cases of a level. Whether the baseline expects them makes no difference here.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LevelCounts {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Not applicable.
    pub not_applicable: usize,
    /// Not judged, for the suite or the machine failed.
    pub harness_error: usize,
}

/// A case and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CaseReport {
    /// Its id.
    pub id: String,
    /// Id of its requirement.
    pub requirement: String,
    /// Its level.
    pub level: Level,
    /// The role that it judges.
    pub role: Role,
    /// What became of it.
    pub outcome: Outcome,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// What the requirement demands, of a case that isn't passed.
    pub expected: Option<String>,
    /// What was seen, or the reason.
    pub observed: Option<String>,
    /// The wire, a line each, of a case that isn't passed.
    pub transcript: Option<Vec<String>>,
    /// Why it is known to fail, of an expected failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where that is followed up, of an expected failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// The first version of the suite that had the case and its requirement.
    #[serde(default)]
    pub since: Option<String>,
    /// The version that `--as-of` named, of a case that is newer and doesn't decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    /// The last lines of the implementation's standard error.
    pub stderr_tail: Option<String>,
    /// A command that runs just this case.
    pub reproduce: String,
}

impl CaseReport {
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

    /// Whether the run fails by it.
    pub fn is_unexpected(&self) -> bool {
        self.view().is_unexpected()
    }
}

impl Report {
    /// Why its run ended early, where it did.
    pub fn cut_short(&self) -> Option<CutShort> {
        let signal = self.interrupted.as_ref().map(|interrupted| CutShort {
            cause: Cause::Signal(interrupted.signal),
            not_run: interrupted.not_run,
        });
        signal.or_else(|| {
            self.stopped.as_ref().map(|stopped| CutShort {
                cause: Cause::Failures(stopped.failures),
                not_run: stopped.not_run,
            })
        })
    }

    /// Reads a report that a run has written.
    ///
    /// # Errors
    /// A file that cannot be read or is not a report of this suite.
    pub fn read(path: &Path) -> anyhow::Result<Report> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("{shown}: cannot be read"))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{shown}: not JSON"))?;
        if value["format"] != FORMAT {
            bail!(
                "{shown}: not a report of this suite, format {FORMAT} (write one with `conformance run --json FILE`)"
            );
        }
        serde_json::from_value(value)
            .with_context(|| format!("{shown}: not a report of this suite, though it says so"))
    }
}

/// The report of a run.
pub fn report(run: &Run) -> Report {
    let judged = &run.implementations;
    let text = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let cut_short = run.cut_short.as_ref();
    Report {
        format: FORMAT,
        suite: SuiteVersion {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        implementations: Implementations {
            shell: judged.shell.as_ref().map(|path| Shell {
                path: text(path),
                version: judged.shell_version.clone(),
            }),
            wrapper: judged.wrapper.as_ref().map(|path| Wrapper {
                path: text(path),
                extensions: judged.wrapper_extensions.clone(),
            }),
            server: judged.server.as_ref().map(|_| Server {
                command: judged.server_command.clone(),
                name: judged.server_name.clone(),
                version: judged.server_version.clone(),
                capabilities: judged.capabilities.clone(),
            }),
        },
        level: run.level,
        seed: run.seed,
        shard: run.shard.clone(),
        duration_ms: u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
        interrupted: cut_short.and_then(|cut_short| {
            Some(Interruption {
                signal: cut_short.signal()?,
                not_run: cut_short.not_run,
            })
        }),
        stopped: cut_short.and_then(|cut_short| match cut_short.cause {
            Cause::Signal(_) => None,
            Cause::Failures(failures) => Some(Stop {
                failures,
                not_run: cut_short.not_run,
            }),
        }),
        summary: Counts::of(run.results.iter().map(|result| result.outcome)),
        levels: level_counts(run.results.iter().map(|result| (result.level, result.outcome))),
        cases: run
            .results
            .iter()
            .map(|result| case_report(run, result))
            .collect(),
    }
}

/// Counts the cases of each level.
pub fn level_counts(cases: impl Iterator<Item = (Level, Outcome)>) -> BTreeMap<String, LevelCounts> {
    let cases: Vec<_> = cases.collect();
    let count = |level: Level, wanted: &[Outcome]| {
        cases
            .iter()
            .filter(|(of_case, outcome)| *of_case == level && wanted.contains(outcome))
            .count()
    };
    let of_level = |level: Level| LevelCounts {
        pass: count(level, &[Outcome::Pass, Outcome::UnexpectedPass]),
        fail: count(level, &[Outcome::Fail, Outcome::ExpectedFail]),
        not_applicable: count(level, &[Outcome::NotApplicable]),
        harness_error: count(level, &[Outcome::HarnessError]),
    };
    Level::ALL
        .into_iter()
        .map(|level| (level.to_string(), of_level(level)))
        .collect()
}

impl Counts {
    /// Counts the cases.
    pub fn of(outcomes: impl Iterator<Item = Outcome>) -> Counts {
        let outcomes: Vec<_> = outcomes.collect();
        let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count();
        Counts {
            pass: count(Outcome::Pass),
            fail: count(Outcome::Fail),
            expected_fail: count(Outcome::ExpectedFail),
            unexpected_pass: count(Outcome::UnexpectedPass),
            not_applicable: count(Outcome::NotApplicable),
            harness_error: count(Outcome::HarnessError),
        }
    }
}

/// The report of one of its cases.
pub fn case_report(run: &Run, result: &CaseResult) -> CaseReport {
    let shows_its_wire = result.outcome != Outcome::Pass && !result.transcript.is_empty();
    CaseReport {
        id: result.id.clone(),
        requirement: result.requirement.clone(),
        level: result.level,
        role: result.role,
        outcome: result.outcome,
        duration_ms: result.duration_ms,
        expected: result.expected.clone(),
        observed: result.observed.clone(),
        transcript: shows_its_wire.then(|| result.transcript.clone()),
        reason: result.known.as_ref().map(|known| known.reason.clone()),
        issue: result.known.as_ref().map(|known| known.issue.clone()),
        since: Some(result.since.clone()),
        newer_than: result.newer_than.clone(),
        stderr_tail: result.stderr_tail.clone(),
        reproduce: run.reproduce(result),
    }
}
