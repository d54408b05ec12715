//! The JSON report, version 1 (command-line.md): other people's CI depends on it; additions are free.

use serde::Serialize;
use serde_json::{Value, json};

use super::Run;
use crate::outcome::{CaseResult, Outcome};
use crate::requirements::{Level, Role};
use crate::suite;

/// Version of the report's form.
pub const FORMAT: u32 = 1;

#[derive(Serialize)]
struct CaseReport<'a> {
    id: &'a str,
    requirement: &'a str,
    level: Level,
    role: Role,
    outcome: Outcome,
    duration_ms: u64,
    expected: Option<&'a str>,
    observed: Option<&'a str>,
    transcript: Option<&'a [String]>,
    stderr_tail: Option<&'a str>,
    reproduce: String,
}

/// The report of a run.
///
/// # Errors
/// Where a result cannot be written as JSON, which none of ours can be.
pub fn report(run: &Run) -> serde_json::Result<Value> {
    let cases = run
        .results
        .iter()
        .map(|result| case_report(run, result))
        .collect::<Result<Vec<_>, _>>()?;
    let implementations = &run.implementations;
    let mut judged = serde_json::Map::new();
    if let Some(path) = &implementations.shell {
        judged.insert(
            "shell".into(),
            json!({"path": path, "version": implementations.shell_version}),
        );
    }
    if let Some(path) = &implementations.wrapper {
        judged.insert("wrapper".into(), json!({"path": path}));
    }
    if implementations.server.is_some() {
        let server = json!({
            "command": implementations.server_command,
            "name": implementations.server_name,
            "version": implementations.server_version,
            "capabilities": implementations.capabilities,
        });
        judged.insert("server".into(), server);
    }
    Ok(json!({
        "format": FORMAT,
        "suite": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
        "implementations": judged,
        "level": run.level,
        "seed": run.seed,
        "shard": run.shard.to_string(),
        "duration_ms": u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
        "summary": {
            "pass": run.count(Outcome::Pass),
            "fail": run.count(Outcome::Fail),
            "expected_fail": run.count(Outcome::ExpectedFail),
            "unexpected_pass": run.count(Outcome::UnexpectedPass),
            "not_applicable": run.count(Outcome::NotApplicable),
            "harness_error": run.count(Outcome::HarnessError),
        },
        "levels": levels(run),
        "cases": cases,
    }))
}

fn levels(run: &Run) -> Value {
    let counts = |level: Level| {
        let at_level: Vec<_> = run
            .results
            .iter()
            .filter(|result| level_of(result) == Some(level))
            .collect();
        let count = |wanted: &[Outcome]| {
            at_level
                .iter()
                .filter(|result| wanted.contains(&result.outcome))
                .count()
        };
        json!({
            "pass": count(&[Outcome::Pass, Outcome::UnexpectedPass]),
            "fail": count(&[Outcome::Fail, Outcome::ExpectedFail]),
            "not_applicable": count(&[Outcome::NotApplicable]),
            "harness_error": count(&[Outcome::HarnessError]),
        })
    };
    Level::ALL
        .into_iter()
        .map(|level| (level.to_string(), counts(level)))
        .collect()
}

fn level_of(result: &CaseResult) -> Option<Level> {
    suite::find(&result.id).map(|case| case.level)
}

fn case_report(run: &Run, result: &CaseResult) -> serde_json::Result<Value> {
    let case = suite::find(&result.id);
    let requirement = result
        .id
        .split_once('/')
        .map_or(result.id.as_str(), |(requirement, _)| requirement);
    let transcript = result.transcript.as_slice();
    serde_json::to_value(CaseReport {
        id: &result.id,
        requirement,
        level: case.map_or(Level::Core, |case| case.level),
        role: case.map_or(Role::E2e, |case| case.role),
        outcome: result.outcome,
        duration_ms: result.duration_ms,
        expected: result.expected.as_deref(),
        observed: result.observed.as_deref(),
        transcript: (result.outcome != Outcome::Pass && !transcript.is_empty()).then_some(transcript),
        stderr_tail: result.stderr_tail.as_deref(),
        reproduce: run.reproduce(&result.id),
    })
}
