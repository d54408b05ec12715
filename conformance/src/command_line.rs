//! The command line, version 1 (command-line.md): other people's CI depends on it; additions are free.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::requirements::{Level, Role};
use crate::runner::{schedule, supervisor};
use crate::suite::Shard;

/// Exit statuses of the command line.
pub mod status {
    /// Everything as expected.
    pub const EXPECTED: i32 = 0;
    /// Failures, unexpected passes or stale baseline entries.
    pub const UNEXPECTED: i32 = 1;
    /// Usage or configuration.
    pub const USAGE: i32 = 2;
    /// The suite or the machine failed.
    pub const HARNESS: i32 = 3;
    /// Nothing was run.
    pub const NOTHING: i32 = 4;
}

/// Judges implementations of shell escalation: a patched shell, a wrapper, a server.
#[derive(Debug, Parser)]
#[command(
    name = "conformance",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge the implementations that are named, and report
    Run(Box<RunArguments>),
    /// List the cases
    List(ListArguments),
    /// Explain a requirement or a case: sentence, level, cases, the broken implementations that prove them
    Explain(ExplainArguments),
    /// Run one case with its wire and output shown
    Case(Box<CaseArguments>),
    /// Set the JSON reports of several runs side by side
    Compare(CompareArguments),
    /// Look at the machine and at the first breath of what is named
    Doctor(Judged),
    /// Print the JSON Schema of the report, the baseline or the harness protocol
    Schema(SchemaArguments),
    /// Measure what a wrapper or a server costs, against baselines or others in the same run
    Bench(BenchArguments),
}

/// What is judged.
#[derive(Debug, Args)]
pub struct Judged {
    /// The patched shell
    #[arg(long, value_name = "PATH")]
    pub shell: Option<PathBuf>,
    /// The stock shell of the same version, the measure of "as the stock shell"; without it, the shell
    /// itself with interception off is
    #[arg(long, value_name = "PATH")]
    pub stock_shell: Option<PathBuf>,
    /// The wrapper
    #[arg(long, value_name = "PATH")]
    pub wrapper: Option<PathBuf>,
    /// The server: a shim's command line, split as a shell does; nothing is expanded
    #[arg(long, value_name = "COMMAND")]
    pub server: Option<String>,
}

/// How cases are tried.
#[derive(Debug, Args)]
pub struct Trying {
    /// Seed of the property cases [default: random; always printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Examples of each property case
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub cases: u32,
    /// Multiplies every deadline
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = positive)]
    pub timeout_scale: f64,
    /// Keep the cases' temporary directories
    #[arg(long)]
    pub keep: bool,
    /// Run each case under this command, such as "strace -f -o FILE"; {case} becomes the case's id
    #[arg(long, value_name = "COMMAND")]
    pub under: Option<String>,
}

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

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// As a table in Markdown: requirement, its cases, the broken implementations that prove them
    #[arg(long, conflicts_with = "json")]
    pub coverage: bool,
}

/// Options of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArguments {
    /// report, baseline or harness
    pub name: String,
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Id of a requirement or a case
    pub id: String,
}

/// Options of `case`.
#[derive(Debug, Args)]
pub struct CaseArguments {
    /// Id of the case
    pub id: String,
    /// What is judged.
    #[command(flatten)]
    pub judged: Judged,
    /// How the case is tried.
    #[command(flatten)]
    pub trying: Trying,
}

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

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// The wrapper
    #[arg(long, value_name = "PATH", required_unless_present = "server")]
    pub wrapper: Option<PathBuf>,
    /// The server: a shim's command line
    #[arg(long, value_name = "COMMAND", conflicts_with = "wrapper")]
    pub server: Option<String>,
    /// Another one of the same kind, measured in the same rounds; repeatable
    #[arg(long, value_name = "PATH|COMMAND")]
    pub compare: Vec<String>,
    /// Samples of each subject
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = at_least_one)]
    pub runs: usize,
    /// Write the measurements as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a number from 1 on".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "expected a number such as 2 or 0.5".to_owned())?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err("expected a number over 0".to_owned())
    }
}

/// Runs the command line of this process and returns its exit status.
pub fn main() -> i32 {
    // Without the language runtime SIGPIPE is as we inherited it; a write must fail, not kill.
    // SAFETY: SIG_IGN is no handler.
    let ignored = unsafe {
        nix::sys::signal::signal(
            nix::sys::signal::Signal::SIGPIPE,
            nix::sys::signal::SigHandler::SigIgn,
        )
    };
    if let Err(error) = ignored {
        eprintln!("conformance: SIGPIPE cannot be ignored: {error}");
        return status::HARNESS;
    }
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == schedule::SUPERVISE)
    {
        return supervisor::main();
    }
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => {
            // Help and version are printed to standard output with 0, usage errors to standard error with 2.
            let printed = error.print();
            return if printed.is_err() {
                status::HARNESS
            } else {
                error.exit_code()
            };
        }
    };
    let result = match command_line.command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::List(arguments) => commands::list::list(&arguments),
        Command::Explain(arguments) => commands::explain::explain(&arguments),
        Command::Case(arguments) => commands::case::case(&arguments),
        Command::Compare(arguments) => commands::compare::compare(&arguments),
        Command::Doctor(judged) => commands::doctor::doctor(&judged),
        Command::Schema(arguments) => commands::schema::schema(&arguments),
        Command::Bench(arguments) => commands::bench::bench(&arguments),
    };
    result.unwrap_or_else(|error| {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        {
            // The reader of our output has seen enough; it knows, so nothing is said.
            return status::HARNESS;
        }
        eprintln!("conformance: {error:#}");
        if let Some(commands::Interrupted(signal)) = error.downcast_ref() {
            128 + signal
        } else if error.is::<commands::HarnessFailure>() {
            status::HARNESS
        } else {
            status::USAGE
        }
    })
}
