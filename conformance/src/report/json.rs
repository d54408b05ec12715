//! The JSON report, version 1 (command-line.md): other people's CI depends on it; additions are free.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Interrupted, Run};
use crate::case::result::{CaseResult, Outcome};
use crate::spec::requirements::{Level, Role};

/// Version of the report's form.
pub const FORMAT: u32 = 1;

/// What `conformance run --json FILE` writes.
#[derive(Serialize, JsonSchema)]
pub struct Report {
    /// Version of this form.
    format: u32,
    suite: SuiteVersion,
    implementations: Implementations,
    /// Up to and including this level.
    level: Level,
    /// Seed of the property cases of the first round.
    seed: u64,
    /// I/N: the I-th of N parts of the suite.
    shard: String,
    /// Wall time of the run in milliseconds.
    duration_ms: u64,
    /// Where a signal ended the run early; the cases are those that were over by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<Interrupted>,
    summary: Counts,
    levels: BTreeMap<String, LevelCounts>,
    cases: Vec<CaseReport>,
}

#[derive(Serialize, JsonSchema)]
struct SuiteVersion {
    name: String,
    version: String,
}

/// What was judged.
#[derive(Serialize, JsonSchema)]
struct Implementations {
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Shell>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrapper: Option<Wrapper>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
}

#[derive(Serialize, JsonSchema)]
struct Shell {
    path: String,
    /// The first line of `--version`.
    version: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Wrapper {
    path: String,
    /// The extensions that it was seen to have.
    extensions: Vec<String>,
}

/// The shim and what it said of itself.
#[derive(Serialize, JsonSchema)]
struct Server {
    /// The shim's command line.
    command: Option<String>,
    name: Option<String>,
    version: Option<String>,
    capabilities: Vec<String>,
}

/// Cases by outcome.
#[derive(Serialize, JsonSchema)]
struct Counts {
    pass: usize,
    fail: usize,
    expected_fail: usize,
    unexpected_pass: usize,
    not_applicable: usize,
    harness_error: usize,
}

/// Cases of a level. Whether the baseline expects them makes no difference here.
#[derive(Serialize, JsonSchema)]
struct LevelCounts {
    pass: usize,
    fail: usize,
    not_applicable: usize,
    harness_error: usize,
}

/// A case and what became of it.
#[derive(Serialize, JsonSchema)]
struct CaseReport {
    id: String,
    requirement: String,
    level: Level,
    role: Role,
    outcome: Outcome,
    /// Wall time in milliseconds.
    duration_ms: u64,
    /// What the requirement demands, of a case that isn't passed.
    expected: Option<String>,
    /// What was seen, or the reason.
    observed: Option<String>,
    /// The wire, a line each, of a case that isn't passed.
    transcript: Option<Vec<String>>,
    /// Why it is known to fail, of an expected failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Where that is followed up, of an expected failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    issue: Option<String>,
    /// The last lines of the implementation's standard error.
    stderr_tail: Option<String>,
    /// A command that runs just this case.
    reproduce: String,
}

/// The report of a run.
///
/// # Errors
/// Where a result cannot be written as JSON, which none of ours can be.
pub fn report(run: &Run) -> serde_json::Result<Value> {
    let judged = &run.implementations;
    let text = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    serde_json::to_value(Report {
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
        interrupted: run.interrupted,
        summary: Counts {
            pass: run.count(Outcome::Pass),
            fail: run.count(Outcome::Fail),
            expected_fail: run.count(Outcome::ExpectedFail),
            unexpected_pass: run.count(Outcome::UnexpectedPass),
            not_applicable: run.count(Outcome::NotApplicable),
            harness_error: run.count(Outcome::HarnessError),
        },
        levels: Level::ALL
            .into_iter()
            .map(|level| (level.to_string(), level_counts(run, level)))
            .collect(),
        cases: run
            .results
            .iter()
            .map(|result| case_report(run, result))
            .collect(),
    })
}

fn level_counts(run: &Run, level: Level) -> LevelCounts {
    let count = |wanted: &[Outcome]| {
        run.results
            .iter()
            .filter(|result| result.level == level)
            .filter(|result| wanted.contains(&result.outcome))
            .count()
    };
    LevelCounts {
        pass: count(&[Outcome::Pass, Outcome::UnexpectedPass]),
        fail: count(&[Outcome::Fail, Outcome::ExpectedFail]),
        not_applicable: count(&[Outcome::NotApplicable]),
        harness_error: count(&[Outcome::HarnessError]),
    }
}

fn case_report(run: &Run, result: &CaseResult) -> CaseReport {
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
        stderr_tail: result.stderr_tail.clone(),
        reproduce: run.reproduce(result),
    }
}
