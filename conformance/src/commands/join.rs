//! `conformance join A.json B.json …`: the reports of the shards of one run as one report.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::judge::status_of;
use crate::report::json::{CaseReport, Report};
use crate::report::{html, human, join};
use crate::suite;

/// Options of `join`.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The reports of all shards, which `conformance run --shard I/N --json FILE` wrote
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Write the joined report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the joined report as one HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Joins the reports, prints their summary, and ends as the whole run would have ended.
///
/// # Errors
/// Reports that cannot be read or joined, or one that cannot be written.
pub fn join(arguments: &JoinArguments) -> anyhow::Result<i32> {
    let read = |path: &PathBuf| Ok((path.clone(), Report::read(path)?));
    let reports = arguments
        .reports
        .iter()
        .map(read)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut report = join::join(reports)?;
    let all = suite::all();
    let place = |id: &str| all.iter().position(|case| case.id == id).unwrap_or(usize::MAX);
    report.cases.sort_by_key(|case| place(&case.id));
    let write = |option: &str, path: &PathBuf, text: String| {
        std::fs::write(path, text + "\n")
            .with_context(|| format!("{option} {}: cannot be written", path.display()))
    };
    if let Some(path) = &arguments.json {
        write("--json", path, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(path) = &arguments.html {
        write("--html", path, html::report(&report)?)?;
    }
    let cases: Vec<_> = report.cases.iter().map(CaseReport::view).collect();
    let duration = Duration::from_millis(report.duration_ms);
    let text = human::failed_ids(&cases) + &human::closing(&cases, duration, report.level, report.seed);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(status_of(&cases))
}
