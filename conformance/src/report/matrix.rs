//! Several runs side by side: requirements × implementations, from their JSON reports.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::json::{CaseReport, Report};
use crate::case::result::Outcome;
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
    /// A file that cannot be read or is not a report of this suite.
    pub fn read(paths: &[std::path::PathBuf]) -> anyhow::Result<Matrix> {
        let reports = paths
            .iter()
            .map(|path| {
                let report = Report::read(path)?;
                Ok((name(path, &report), report))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Matrix::of(&reports))
    }

    /// Sets reports side by side.
    pub fn of(reports: &[(String, Report)]) -> Matrix {
        let rows: Vec<Row> = requirements::all()
            .iter()
            .map(|requirement| Row {
                requirement: requirement.id.clone(),
                level: requirement.level,
                sentence: requirement.sentence.clone(),
                cells: reports
                    .iter()
                    .map(|(_, report)| cell(report, |case| case.requirement == requirement.id))
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

fn cell(report: &Report, wanted: impl Fn(&CaseReport) -> bool) -> Cell {
    let applicable = report
        .cases
        .iter()
        .filter(|case| wanted(case) && case.outcome != Outcome::NotApplicable);
    applicable.fold(Cell::default(), |cell, case| Cell {
        passed: cell.passed + usize::from(case.outcome.is_pass()),
        applicable: cell.applicable + 1,
    })
}

fn name(path: &Path, report: &Report) -> String {
    let mut name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if report.interrupted.is_some() {
        name.push_str(" (interrupted)");
    }
    if report.stopped.is_some() {
        name.push_str(" (stopped early)");
    }
    name
}
