//! `conformance run`: judges what is named and reports.

use crate::commands::arguments::{Judged, Trying};
use clap::Args;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::prepare;
use crate::case::result::{CaseResult, Outcome};
use crate::exit;
use crate::exit::HarnessFailure;
use crate::report::{Interrupted, Run, html, human, json, junit, tap};
use crate::runner::schedule::{self, Event};
use crate::spec::requirements::{Level, Role};
use crate::suite::baseline::Baseline;
use crate::suite::selection::{Selection, Shard};

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// What is judged.
    #[command(flatten)]
    pub judged: Judged,
    /// How cases are tried.
    #[command(flatten)]
    pub trying: Trying,
    /// Up to and including this level: core, faithful or hardened
    #[arg(long, default_value_t = Level::Hardened)]
    pub level: Level,
    /// Only cases that judge this: wrapper, server, shell or e2e; repeatable [default: all that is named]
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<Role>,
    /// Only cases whose id matches; repeatable
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// No case whose id matches; repeatable
    #[arg(long, value_name = "GLOB")]
    pub skip: Vec<String>,
    /// Cases at a time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Run everything N times, each time with the next seed; a case that fails once has failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Go on until a case fails, or for the rounds of --repeat
    #[arg(long)]
    pub until_failure: bool,
    /// The I-th of N parts, by a stable hash of the case id
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
    /// Known failures, TOML
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write what failed now as a baseline, reasons to be filled in
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
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
    /// Print the wire of every case, not only of failed ones
    #[arg(long)]
    pub trace: bool,
}

/// Runs the selected cases.
///
/// # Errors
/// What cannot be judged, selected, read or written.
pub fn run(arguments: &RunArguments) -> anyhow::Result<i32> {
    if arguments.judged.shell.is_none()
        && arguments.judged.wrapper.is_none()
        && arguments.judged.server.is_none()
    {
        bail!("nothing to judge: name at least one of --shell PATH, --wrapper PATH, --server COMMAND");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.map_or(cores, usize::from);
    let baseline = arguments
        .baseline
        .as_deref()
        .map(Baseline::read)
        .transpose()?
        .unwrap_or_default();
    // Opened before the run: that a report cannot be written must not be found out after it.
    let outputs = outputs(arguments)?;
    if let Some(path) = &arguments.write_baseline {
        check_baseline_to_write(path, arguments.baseline.as_deref())?;
    }
    let mut options = prepare(&arguments.judged, &arguments.trying, jobs)?;
    let selection = Selection {
        level: arguments.level,
        only: arguments.only.clone(),
        skip: arguments.skip.clone(),
        shard: arguments.shard,
        roles: wanted_roles(options.implementations.roles(), &arguments.role)?,
    };
    let cases = selection.apply()?;
    let report_on_stdout = outputs.iter().any(|(_, file)| file.is_standard_output());
    let mut listener = Listener::new(cases.len(), arguments.trace, report_on_stdout);
    if options.implementations.wrapper.is_some() {
        let extensions = options.implementations.shown_extensions();
        listener.say(&format!("the wrapper's extensions: {extensions}\n"))?;
    }
    let started = Instant::now();
    let first_seed = options.seed;
    let mut rounds = Rounds::new(arguments);
    let interrupted = loop {
        let finished = schedule::run(&cases, &options, |event| listener.hear(event, &baseline))?;
        listener.done();
        rounds.add(finished.results, &baseline);
        if let Some(kept) = finished.kept {
            listener.say(&format!(
                "the cases' directories are kept under {}\n",
                kept.display()
            ))?;
        }
        if finished.interrupted.is_some() || rounds.are_over() {
            break finished.interrupted;
        }
        options.seed = options.seed.wrapping_add(1);
        listener.say(&format!("-- round {}, seed {}\n", rounds.done + 1, options.seed))?;
        listener.again();
    };
    let mut results = std::mem::take(&mut rounds.results);
    let interrupted = interrupted.map(|signal| Interrupted {
        signal,
        not_run: cases.len() - results.len(),
    });
    // Half a run says nothing about the other half.
    if let (Some(path), None) = (&arguments.write_baseline, interrupted) {
        std::fs::write(path, baseline.renewed(&results).text()?).map_err(|error| unwritable(path, &error))?;
    }
    for result in &mut results {
        baseline.apply(result);
    }
    let run = Run {
        implementations: options.implementations,
        level: arguments.level,
        seed: first_seed,
        shard: arguments.shard.to_string(),
        results,
        duration: started.elapsed(),
        interrupted,
    };
    for (form, file) in outputs {
        file.write(&form.text(&run)?)?;
    }
    listener.say(&human::summary(&run))?;
    if rounds.done > 1 {
        listener.say(&human::rounds(rounds.done, first_seed, &rounds.unexpected))?;
    }
    if let Some(interrupted) = interrupted {
        listener.say(&format!("{interrupted}\n"))?;
        return Ok(128 + interrupted.signal);
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

/// A list that is there is brought up to date or left alone: its reasons are somebody's work.
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

/// What could be opened before the run and not be written after it is the machine's failure, not the user's.
fn unwritable(path: &Path, error: &std::io::Error) -> HarnessFailure {
    HarnessFailure(format!("{}: cannot be written: {error}", path.display()))
}

/// The rounds of a run (`--repeat`, `--until-failure`) and what they came to together.
struct Rounds {
    wanted: Option<u32>,
    until_failure: bool,
    done: u32,
    /// Each case that was not as expected, with the rounds, of which the first is 1.
    unexpected: Vec<(String, Vec<u32>)>,
    results: Vec<CaseResult>,
}

impl Rounds {
    fn new(arguments: &RunArguments) -> Rounds {
        Rounds {
            wanted: arguments.repeat.or((!arguments.until_failure).then_some(1)),
            until_failure: arguments.until_failure,
            done: 0,
            unexpected: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Of each case the first result that is no pass stays.
    fn add(&mut self, round: Vec<CaseResult>, baseline: &Baseline) {
        self.done += 1;
        for result in round {
            let mut judged = result.clone();
            baseline.apply(&mut judged);
            if !judged.outcome.is_green() {
                self.note(&judged.id);
            }
            match self.results.iter_mut().find(|earlier| earlier.id == result.id) {
                None => self.results.push(result),
                Some(earlier) if earlier.outcome == Outcome::Pass => *earlier = result,
                Some(_) => {}
            }
        }
    }

    fn note(&mut self, id: &str) {
        match self.unexpected.iter_mut().find(|(known, _)| known == id) {
            Some((_, rounds)) => rounds.push(self.done),
            None => self.unexpected.push((id.to_owned(), vec![self.done])),
        }
    }

    fn are_over(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.done >= wanted)
            || (self.until_failure && !self.unexpected.is_empty())
    }
}

/// The roles of what is named, or those of them that `--role` names.
fn wanted_roles(mut named: Vec<Role>, wanted: &[Role]) -> anyhow::Result<Vec<Role>> {
    for role in wanted {
        if !named.contains(role) {
            let needed = match role {
                Role::E2e => "--shell, --wrapper and --server".to_owned(),
                role => format!("--{role}"),
            };
            bail!("--role {role}: nothing to judge by it is named; add {needed}");
        }
    }
    named.retain(|role| wanted.is_empty() || wanted.contains(role));
    Ok(named)
}

fn exit_status(run: &Run) -> i32 {
    if run.count(Outcome::HarnessError) > 0 {
        exit::HARNESS
    } else if run.results.iter().any(|result| !result.outcome.is_green()) {
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

/// The form of a report.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Junit,
    Tap,
    Html,
}

impl Form {
    fn text(self, run: &Run) -> anyhow::Result<String> {
        Ok(match self {
            Form::Json => serde_json::to_string_pretty(&json::report(run)?)?,
            Form::Junit => junit::report(run)?,
            Form::Tap => tap::report(run),
            Form::Html => html::report(&json::report(run)?)?,
        })
    }
}

fn outputs(arguments: &RunArguments) -> anyhow::Result<Vec<(Form, ReportFile<'_>)>> {
    let wanted = [
        (Form::Json, "--json", &arguments.json),
        (Form::Junit, "--junit", &arguments.junit),
        (Form::Tap, "--tap", &arguments.tap),
        (Form::Html, "--html", &arguments.html),
    ];
    let outputs = wanted
        .into_iter()
        .filter_map(|(form, option, path)| Some((form, option, path.as_deref()?)))
        .map(|(form, option, path)| Ok((form, ReportFile::create(option, path)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if outputs
        .iter()
        .filter(|(_, file)| file.is_standard_output())
        .count()
        > 1
    {
        bail!("only one report can go to standard output (-); name files for the others");
    }
    for (index, (_, file)) in outputs.iter().enumerate() {
        for (_, other) in &outputs[..index] {
            if file.is_same(other)? {
                bail!(
                    "{}: two reports would overwrite each other there; name a file for each",
                    file.shown()
                );
            }
        }
    }
    Ok(outputs)
}

/// A report's destination: a file, or standard output for `-`.
enum ReportFile<'a> {
    StandardOutput,
    File(&'a Path, File),
}

impl<'a> ReportFile<'a> {
    fn create(option: &str, path: &'a Path) -> anyhow::Result<ReportFile<'a>> {
        if path == Path::new("-") {
            return Ok(ReportFile::StandardOutput);
        }
        let file =
            File::create(path).with_context(|| format!("{option} {}: cannot be written", path.display()))?;
        Ok(ReportFile::File(path, file))
    }

    fn shown(&self) -> std::path::Display<'_> {
        match self {
            ReportFile::StandardOutput => Path::new("-").display(),
            ReportFile::File(path, _) => path.display(),
        }
    }

    fn is_standard_output(&self) -> bool {
        matches!(self, ReportFile::StandardOutput)
    }

    /// Whether both are one file, by whatever names. What isn't kept, as in a pipe or /dev/null, isn't overwritten.
    fn is_same(&self, other: &ReportFile) -> anyhow::Result<bool> {
        let (ReportFile::File(_, file), ReportFile::File(_, other)) = (self, other) else {
            return Ok(false);
        };
        let (file, other) = (file.metadata()?, other.metadata()?);
        Ok(file.is_file() && (file.dev(), file.ino()) == (other.dev(), other.ino()))
    }

    fn write(self, text: &str) -> anyhow::Result<()> {
        match self {
            ReportFile::StandardOutput => writeln!(std::io::stdout().lock(), "{text}")?,
            ReportFile::File(path, mut file) => {
                writeln!(file, "{text}").map_err(|error| unwritable(path, &error))?;
            }
        }
        Ok(())
    }
}

/// Shows progress: a bar on a terminal, a line a case elsewhere.
struct Listener {
    bar: Option<ProgressBar>,
    trace: bool,
    to_standard_error: bool,
    /// The first write that failed. The run goes on, so that the reports in files are complete.
    broken: Option<std::io::Error>,
}

impl Listener {
    fn new(cases: usize, trace: bool, report_on_stdout: bool) -> Listener {
        let terminal =
            std::io::stderr().is_terminal() && (report_on_stdout || std::io::stdout().is_terminal());
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(cases as u64);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Listener {
            bar,
            trace,
            to_standard_error: report_on_stdout,
            broken: None,
        }
    }

    fn hear(&mut self, event: &Event, baseline: &Baseline) {
        match (event, &self.bar) {
            (Event::Started(id), Some(bar)) => bar.set_message(*id),
            (Event::Started(_), None) => {}
            (Event::Finished(result), bar) => {
                let mut result = result.clone();
                baseline.apply(&mut result);
                let mut text = human::line(&result) + "\n";
                if self.trace {
                    text.push_str(&human::trace(&result));
                }
                if let Some(bar) = bar {
                    bar.inc(1);
                    if self.trace || !result.outcome.is_green() {
                        bar.println(text.trim_end());
                    }
                } else if self.broken.is_none() {
                    self.broken = self.write(&text).err();
                }
            }
        }
    }

    fn again(&self) {
        if let Some(bar) = &self.bar {
            bar.reset();
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error.into());
        }
        Ok(self.write(text)?)
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        if self.to_standard_error {
            std::io::stderr().lock().write_all(text.as_bytes())
        } else {
            std::io::stdout().lock().write_all(text.as_bytes())
        }
    }
}
