//! Several runs side by side: requirements × implementations, from their JSON reports.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use super::json::FORMAT;
use crate::spec::requirements::{self, Level};

/// Requirements × implementations.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    /// What was judged, a column each.
    pub columns: Vec<String>,
    /// The requirements that any of them was judged by.
    pub rows: Vec<Row>,
    /// The sums of the columns.
    pub totals: Vec<Cell>,
}

/// One requirement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its id.
    pub requirement: String,
    /// Its level.
    pub level: Level,
    /// Its sentence.
    pub sentence: String,
    /// What each column came to.
    pub cells: Vec<Cell>,
}

/// How many cases apply and how many passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that apply.
    pub applicable: usize,
}

impl Matrix {
    /// Reads the reports and sets them side by side.
    ///
    /// # Errors
    /// A file that cannot be read or is no report of this suite.
    pub fn read(paths: &[std::path::PathBuf]) -> anyhow::Result<Matrix> {
        let reports = paths
            .iter()
            .map(|path| read(path))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Matrix::of(&reports))
    }

    /// Sets reports side by side.
    pub fn of(reports: &[(String, Value)]) -> Matrix {
        let rows: Vec<Row> = requirements::all()
            .iter()
            .map(|requirement| Row {
                requirement: requirement.id.clone(),
                level: requirement.level,
                sentence: requirement.sentence.clone(),
                cells: reports
                    .iter()
                    .map(|(_, report)| cell(report, |case| case["requirement"] == requirement.id.as_str()))
                    .collect(),
            })
            .filter(|row: &Row| row.cells.iter().any(|cell| cell.applicable > 0))
            .collect();
        Matrix {
            columns: reports.iter().map(|(name, _)| name.clone()).collect(),
            rows,
            totals: reports.iter().map(|(_, report)| cell(report, |_| true)).collect(),
        }
    }

    /// The matrix for a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (index, column) in self.columns.iter().enumerate() {
            let _ = writeln!(text, "[{}] {column}", index + 1);
        }
        let _ = write!(text, "\n{:<34}{:<10}", "requirement", "level");
        for index in 1..=self.columns.len() {
            let _ = write!(text, "{:>9}", format!("[{index}]"));
        }
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "{:<34}{:<10}", row.requirement, row.level.to_string());
            write_cells(&mut text, &row.cells);
        }
        let _ = write!(text, "{:<44}", "in all");
        write_cells(&mut text, &self.totals);
        text
    }
}

fn write_cells(text: &mut String, cells: &[Cell]) {
    for cell in cells {
        let shown = if cell.applicable == 0 {
            "-".to_owned()
        } else {
            format!("{}/{}", cell.passed, cell.applicable)
        };
        let _ = write!(text, "{shown:>9}");
    }
    text.push('\n');
}

fn cell(report: &Value, wanted: impl Fn(&Value) -> bool) -> Cell {
    let cases = report["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    cases
        .iter()
        .filter(|case| wanted(case) && case["outcome"] != "not-applicable")
        .fold(Cell::default(), |cell, case| {
            let passed = case["outcome"] == "pass" || case["outcome"] == "unexpected-pass";
            Cell {
                passed: cell.passed + usize::from(passed),
                applicable: cell.applicable + 1,
            }
        })
}

fn read(path: &Path) -> anyhow::Result<(String, Value)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown}: cannot be read"))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("{shown}: no JSON"))?;
    if report["format"] != FORMAT || !report["cases"].is_array() {
        bail!(
            "{shown}: no report of this suite, format {FORMAT} (write one with `conformance run --json FILE`)"
        );
    }
    let mut name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if !report["interrupted"].is_null() {
        name.push_str(" (interrupted)");
    }
    Ok((name, report))
}
