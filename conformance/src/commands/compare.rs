//! `conformance compare A.json B.json …`: several runs side by side.

use clap::Args;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::exit;
use crate::report::html;
use crate::report::matrix::Matrix;

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Reports that `conformance run --json FILE` wrote
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Write the matrix as one HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Prints the matrix, and writes it as HTML where that is wanted.
///
/// # Errors
/// Reports that cannot be read, or a page that cannot be written.
pub fn compare(arguments: &CompareArguments) -> anyhow::Result<i32> {
    let matrix = Matrix::read(&arguments.reports)?;
    if let Some(path) = &arguments.html {
        std::fs::write(path, html::matrix(&matrix)?)
            .with_context(|| format!("--html {}: cannot be written", path.display()))?;
    }
    std::io::stdout().lock().write_all(matrix.text().as_bytes())?;
    Ok(exit::EXPECTED)
}
