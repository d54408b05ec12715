//! What `run` and `case` have in common: a plan is run, reported, and ends with an exit status.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::case::result::{CaseResult, CaseView, Outcome};
use crate::case::run::{Cause, Run};
use crate::exit::{self, HarnessFailure};
use crate::report::Reporter;
use crate::report::files::{Form, ReportFiles};
use crate::report::progress::{Detail, Progress};
use crate::runner::plan::{Expectations, Plan};
use crate::runner::rounds::{self, Heading, Rounds};
use crate::runner::schedule::Options;
use crate::spec::version::Version;
use crate::suite::baseline::Baseline;

/// How often cases run, and what ends a run early.
#[derive(Debug, Args)]
pub struct Repeating {
    /// Run all cases N times, each time with the next seed; a case that fails once has failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Repeat until a case fails, or for the rounds of --repeat
    #[arg(long)]
    pub until_failure: bool,
    /// Start no more cases once N were not as expected; those already running are finished
    #[arg(long, value_name = "N")]
    pub max_failures: Option<NonZeroUsize>,
    /// The same as --max-failures 1
    #[arg(long, conflicts_with = "max_failures")]
    pub fail_fast: bool,
}

impl Repeating {
    /// The rounds of the run.
    pub fn rounds(&self) -> Rounds {
        Rounds {
            repeat: self.repeat,
            until_failure: self.until_failure,
            most_failures: self
                .max_failures
                .map(NonZeroUsize::get)
                .or(self.fail_fast.then_some(1)),
        }
    }
}

/// What is expected of the cases.
#[derive(Debug, Args)]
pub struct ExpectationArguments {
    /// The known failures, a TOML file
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what fails now as a baseline, with its reasons to be filled in
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// Report cases and requirements that are newer than this version of the suite, but let them not decide
    #[arg(long, value_name = "VERSION")]
    pub as_of: Option<Version>,
}

impl ExpectationArguments {
    /// What is expected.
    ///
    /// # Errors
    /// A baseline that cannot be read, or one to be written that cannot be.
    pub fn read(&self) -> anyhow::Result<Expectations> {
        let baseline = self.baseline.as_deref().map(Baseline::read).transpose()?;
        if let Some(path) = &self.write_baseline {
            check_baseline_to_write(path, self.baseline.as_deref())?;
        }
        Ok(Expectations {
            baseline: baseline.unwrap_or_default(),
            as_of: self.as_of,
        })
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
        let mut progress = Progress::new(self.detail, self.files.take_standard_output())
            .about(&self.options.settings.implementations);
        let mut reporters: [&mut dyn Reporter; 2] = [&mut self.files, &mut progress];
        let mut tell = |event: &_| reporters.iter_mut().for_each(|reporter| reporter.hear(event));
        let run = rounds::run(&self.plan, self.options, self.rounds, self.heading, &mut tell)?;
        let closed: Vec<_> = reporters.iter_mut().map(|reporter| reporter.close()).collect();
        closed
            .into_iter()
            .collect::<anyhow::Result<()>>()
            .map_err(machine_failure)?;
        // Half a run says nothing about the other half.
        if let (Some(path), None) = (self.write_baseline, run.cut_short) {
            std::fs::write(path, self.baseline.renewed(&run.results).text()?)
                .map_err(|error| HarnessFailure(format!("{}: cannot be written: {error}", path.display())))?;
        }
        let status = exit_status(&run);
        if status == exit::NOTHING {
            eprintln!(
                "conformance: nothing was judged: no selected case applies to what is named; \
                 name another implementation, or widen --only, --skip, --level, --shard or --as-of"
            );
        }
        Ok(status)
    }
}

/// What could be opened before the run and not be written after it is the machine's failure, not the user's. That standard
/// output was closed stays as it is: its reader knows.
fn machine_failure(error: anyhow::Error) -> anyhow::Error {
    if error.is::<std::io::Error>() {
        error
    } else {
        HarnessFailure(format!("{error:#}")).into()
    }
}

/// The exit status that a run ends with.
pub fn exit_status(run: &Run) -> i32 {
    match run.cut_short.map(|cut_short| cut_short.cause) {
        Some(Cause::Signal(signal)) => 128 + signal,
        _ => match status_of(&run.results.iter().map(CaseResult::view).collect::<Vec<_>>()) {
            // The cases of extensions that the wrapper may have were left out, so this run doesn't say that all is well.
            exit::EXPECTED if run.implementations.not_observed.is_some() => exit::HARNESS,
            status => status,
        },
    }
}

/// The exit status that these results come to.
pub fn status_of(cases: &[CaseView]) -> i32 {
    let mut unexpected = cases.iter().filter(|case| case.is_unexpected()).peekable();
    let nothing = |case: &CaseView| case.outcome == Outcome::NotApplicable || case.newer_than.is_some();
    if unexpected.peek().is_some() {
        if unexpected.any(|case| case.outcome == Outcome::HarnessError) {
            exit::HARNESS
        } else {
            exit::UNEXPECTED
        }
    } else if cases.iter().all(nothing) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::run::CutShort;
    use crate::suite;

    fn run(results: &[(Outcome, bool)]) -> Run {
        let case = suite::all()[0];
        let result = |(outcome, newer): &(Outcome, bool)| CaseResult {
            newer_than: newer.then(|| "0.1.0".to_owned()),
            ..CaseResult::new(&case, *outcome)
        };
        Run {
            implementations: Default::default(),
            level: case.level,
            seed: 1,
            shard: "1/1".to_owned(),
            results: results.iter().map(result).collect(),
            rounds: 1,
            unexpected: Vec::new(),
            duration: Default::default(),
            cut_short: None,
        }
    }

    #[test]
    fn a_run_ends_with_the_status_of_the_worst_that_decides() {
        use Outcome::{ExpectedFail, Fail, HarnessError, NotApplicable, Pass, UnexpectedPass};
        for (results, status) in [
            (&[(Pass, false), (ExpectedFail, false)][..], exit::EXPECTED),
            (&[(Pass, false), (Fail, false)], exit::UNEXPECTED),
            (&[(Pass, false), (UnexpectedPass, false)], exit::UNEXPECTED),
            (&[(HarnessError, false), (Fail, false)], exit::HARNESS),
            (&[(NotApplicable, false)], exit::NOTHING),
            (&[], exit::NOTHING),
            (
                &[(Pass, false), (Fail, true), (HarnessError, true)],
                exit::EXPECTED,
            ),
            (&[(NotApplicable, false), (Fail, true)], exit::NOTHING),
        ] {
            assert_eq!(exit_status(&run(results)), status, "{results:?}");
        }
    }

    #[test]
    fn a_run_whose_wrapper_could_not_be_observed_is_never_as_expected() {
        let implementations = crate::case::implementations::Implementations {
            not_observed: Some("its process was killed".to_owned()),
            ..Default::default()
        };
        for (outcome, status) in [(Outcome::Pass, exit::HARNESS), (Outcome::Fail, exit::UNEXPECTED)] {
            let run = Run {
                implementations: implementations.clone(),
                ..run(&[(outcome, false)])
            };
            assert_eq!(exit_status(&run), status, "{outcome}");
        }
    }

    #[test]
    fn a_signal_decides_over_everything_else() {
        let interrupted = Run {
            cut_short: Some(CutShort {
                cause: Cause::Signal(2),
                not_run: 1,
            }),
            ..run(&[(Outcome::HarnessError, false)])
        };
        assert_eq!(exit_status(&interrupted), 130);
    }
}
