//! What `run` and `case` have in common: a plan is run, reported, and ends with an exit status.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::case::result::Outcome;
use crate::case::run::{Cause, Run};
use crate::exit;
use crate::report::Reporter;
use crate::report::files::{Form, ReportFiles, unwritable};
use crate::report::progress::{Detail, Progress};
use crate::runner::plan::Plan;
use crate::runner::rounds::{self, Heading, Rounds};
use crate::runner::schedule::Options;
use crate::suite::baseline::Baseline;

/// How often cases run, and what ends a run early.
#[derive(Debug, Args)]
pub struct Repeating {
    /// Run everything N times, each time with the next seed; a case that fails once has failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Repeat until a case fails, or for the rounds of --repeat
    #[arg(long)]
    pub until_failure: bool,
}

impl Repeating {
    /// The rounds of the run.
    pub fn rounds(&self) -> Rounds {
        Rounds {
            repeat: self.repeat,
            until_failure: self.until_failure,
            most_failures: None,
        }
    }
}

/// Known failures.
#[derive(Debug, Args)]
pub struct KnownFailures {
    /// Known failures, TOML
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what failed now as a baseline, reasons to be filled in
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
}

impl KnownFailures {
    /// The baseline that is in force.
    ///
    /// # Errors
    /// A baseline that cannot be read, or one to be written that cannot be.
    pub fn read(&self) -> anyhow::Result<Baseline> {
        let baseline = self.baseline.as_deref().map(Baseline::read).transpose()?;
        if let Some(path) = &self.write_baseline {
            check_baseline_to_write(path, self.baseline.as_deref())?;
        }
        Ok(baseline.unwrap_or_default())
    }
}

/// Where a run is reported.
#[derive(Debug, Args)]
pub struct Reports {
    /// Write the JSON report; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the JUnit XML report; - is standard output
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the report as TAP 14; - is standard output
    #[arg(long, value_name = "FILE")]
    pub tap: Option<PathBuf>,
    /// Write the report as one HTML page; - is standard output
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl Reports {
    /// Opens the reports that are wanted.
    ///
    /// # Errors
    /// One that cannot be written.
    pub fn create(&self) -> anyhow::Result<ReportFiles> {
        let wanted = [
            (Form::Json, &self.json),
            (Form::Junit, &self.junit),
            (Form::Tap, &self.tap),
            (Form::Html, &self.html),
        ];
        ReportFiles::create(
            wanted
                .into_iter()
                .filter_map(|(form, path)| Some((form, path.clone()?))),
        )
    }
}

/// All that is done with a plan.
pub struct Judgement<'a> {
    /// What runs.
    pub plan: Plan,
    /// How it runs.
    pub options: Options,
    /// How often.
    pub rounds: Rounds,
    /// What the reports say of the run as a whole.
    pub heading: Heading,
    /// The baseline that the plan was made by.
    pub baseline: &'a Baseline,
    /// Where a renewed baseline is written.
    pub write_baseline: Option<&'a Path>,
    /// The reports in files.
    pub files: ReportFiles,
    /// How much people see.
    pub detail: Detail,
}

impl Judgement<'_> {
    /// Runs the plan, reports, and returns the exit status.
    ///
    /// # Errors
    /// What could not be run or written.
    pub fn pass(mut self) -> anyhow::Result<i32> {
        let mut progress = Progress::new(self.detail, self.files.take_standard_output());
        let mut reporters: [&mut dyn Reporter; 2] = [&mut self.files, &mut progress];
        let mut tell = |event: &_| reporters.iter_mut().for_each(|reporter| reporter.hear(event));
        let run = rounds::run(&self.plan, self.options, self.rounds, self.heading, &mut tell)?;
        let closed: Vec<_> = reporters.iter_mut().map(|reporter| reporter.close()).collect();
        closed.into_iter().collect::<anyhow::Result<()>>()?;
        // Half a run says nothing about the other half.
        if let (Some(path), None) = (self.write_baseline, run.cut_short) {
            std::fs::write(path, self.baseline.renewed(&run.results).text()?)
                .map_err(|error| unwritable(path, &error))?;
        }
        let status = exit_status(&run);
        if status == exit::NOTHING {
            eprintln!(
                "conformance: nothing was judged: no selected case applies to what is named; \
                 name another implementation, or widen --only, --skip, --level or --shard"
            );
        }
        Ok(status)
    }
}

/// The exit status that a run ends with.
pub fn exit_status(run: &Run) -> i32 {
    if let Some(Cause::Signal(signal)) = run.cut_short.map(|cut_short| cut_short.cause) {
        128 + signal
    } else if run.count(Outcome::HarnessError) > 0 {
        exit::HARNESS
    } else if run.failures().next().is_some() {
        exit::UNEXPECTED
    } else if run
        .results
        .iter()
        .all(|result| result.outcome == Outcome::NotApplicable)
    {
        exit::NOTHING
    } else {
        exit::EXPECTED
    }
}

/// A list that is there is brought up to date or left alone: its reasons were written by hand.
fn check_baseline_to_write(path: &Path, in_force: Option<&Path>) -> anyhow::Result<()> {
    let shown = path.display();
    let file = |path: &Path| std::fs::canonicalize(path).ok();
    let filled = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    if filled && in_force.and_then(file) != file(path) {
        bail!(
            "--write-baseline {shown}: it is there already; name it with --baseline too to bring it up to date, or remove it"
        );
    }
    // Without a change, for it may be the list that is in force.
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("--write-baseline {shown}: cannot be written"))?;
    Ok(())
}
