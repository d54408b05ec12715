//! `conformance join A.json B.json …`: the reports of the shards of one run as one report.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::judge::{Reports, status_of};
use crate::report::json::{CaseReport, Report};
use crate::report::{human, join};
use crate::suite;

/// Options of `join`.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The reports of all shards, which `conformance run --shard I/N --json FILE` wrote
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Where the joined report is written.
    #[command(flatten)]
    pub written: Reports,
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
    let files = arguments.written.create()?;
    let on_standard_output = files.take_standard_output();
    files.write(&report)?;
    let cases: Vec<_> = report.cases.iter().map(CaseReport::view).collect();
    let duration = Duration::from_millis(report.duration_ms);
    let text = human::failed_ids(&cases) + &human::closing(&cases, duration, report.level, report.seed);
    if on_standard_output {
        std::io::stderr().lock().write_all(text.as_bytes())?;
    } else {
        std::io::stdout().lock().write_all(text.as_bytes())?;
    }
    Ok(status_of(&cases))
}
