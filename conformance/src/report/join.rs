//! The reports of the shards of one run, as one report.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{bail, ensure};

use super::json::{Counts, Report, level_counts};

/// Joins the reports of all shards of one run.
///
/// # Errors
/// A shard that is missing, twice there or not of the same run.
pub fn join(reports: Vec<(PathBuf, Report)>) -> anyhow::Result<Report> {
    let mut shards: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut joined: Option<Report> = None;
    let mut number = 0;
    for (path, report) in reports {
        let shown = path.display();
        let (index, count) = parse_shard(&report.shard)
            .ok_or_else(|| anyhow::anyhow!("{shown}: '{}' is not a valid shard", report.shard))?;
        if let Some(first) = &joined {
            let first_path = shards.values().next().cloned().unwrap_or_default();
            for (what, same) in [
                ("the suite's version", first.suite.version == report.suite.version),
                ("the level", first.level == report.level),
                ("the number of shards", number == count),
                (
                    "what was judged",
                    serde_json::to_value(&first.implementations)?
                        == serde_json::to_value(&report.implementations)?,
                ),
            ] {
                ensure!(
                    same,
                    "{shown} and {} are not shards of one run: {what} differs",
                    first_path.display()
                );
            }
        }
        number = count;
        if let Some(earlier) = shards.get(&index) {
            bail!("{shown} and {} are both shard {index}/{count}", earlier.display());
        }
        if report.interrupted.is_some() || report.stopped.is_some() {
            bail!("{shown}: its run ended early; run shard {index}/{count} again");
        }
        shards.insert(index, path);
        joined = Some(match joined {
            None => report,
            Some(mut first) => {
                first.duration_ms = first.duration_ms.max(report.duration_ms);
                first.cases.extend(report.cases);
                first
            }
        });
    }
    let missing: Vec<String> = (1..=number)
        .filter(|index| !shards.contains_key(index))
        .map(|index| format!("{index}/{number}"))
        .collect();
    ensure!(missing.is_empty(), "missing: shard {}", missing.join(", "));
    let Some(mut joined) = joined else {
        bail!("no report is named");
    };
    "1/1".clone_into(&mut joined.shard);
    joined.summary = Counts::of(joined.cases.iter().map(|case| case.outcome));
    joined.levels = level_counts(joined.cases.iter().map(|case| (case.level, case.outcome)));
    Ok(joined)
}

fn parse_shard(text: &str) -> Option<(u64, u64)> {
    let (index, count) = text.split_once('/')?;
    let (index, count) = (index.parse().ok()?, count.parse().ok()?);
    (1..=count).contains(&index).then_some((index, count))
}
