//! `conformance compare A.json B.json …`: several runs side by side, or two of them case by case.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::exit;
use crate::report::changes::{self, Change};
use crate::report::html;
use crate::report::json::Report;
use crate::report::matrix::Matrix;

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Reports that `conformance run --json FILE` wrote
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Compare two reports case by case, the earlier one first; the exit status is 1 if any case got worse
    #[arg(long, conflicts_with = "html")]
    pub by_case: bool,
    /// Write the matrix as one HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Prints the matrix, and writes it as HTML where that is wanted; or prints what changed.
///
/// # Errors
/// Reports that cannot be read, or a page that cannot be written.
pub fn compare(arguments: &CompareArguments) -> anyhow::Result<i32> {
    if arguments.by_case {
        return by_case(&arguments.reports);
    }
    let matrix = Matrix::read(&arguments.reports)?;
    if let Some(path) = &arguments.html {
        std::fs::write(path, html::matrix(&matrix)?)
            .with_context(|| format!("--html {}: cannot be written", path.display()))?;
    }
    std::io::stdout().lock().write_all(matrix.text().as_bytes())?;
    Ok(exit::EXPECTED)
}

fn by_case(reports: &[PathBuf]) -> anyhow::Result<i32> {
    let [before, after] = reports else {
        bail!(
            "--by-case compares two reports, the earlier one first; {} are named",
            reports.len()
        );
    };
    let changes = changes::between(&Report::read(before)?, &Report::read(after)?);
    std::io::stdout()
        .lock()
        .write_all(changes::text(&changes).as_bytes())?;
    let worse = changes.iter().any(|changed| changed.change == Change::Worse);
    Ok(if worse { exit::UNEXPECTED } else { exit::EXPECTED })
}
