//! The command line, version 1 (command-line.md): other people's CI depends on it; additions are free.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::exit::{self, HarnessFailure, Interrupted, Lacking};
use crate::printable::printable;
use crate::runner::{SUPERVISE, supervisor};

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
    Run(Box<commands::run::RunArguments>),
    /// List the cases
    List(commands::list::ListArguments),
    /// Explain a requirement or a case: its sentence, level and cases, and what proves them
    Explain(commands::explain::ExplainArguments),
    /// Run one case with its wire and output shown
    Case(Box<commands::case::CaseArguments>),
    /// Set the JSON reports of several runs side by side
    Compare(commands::compare::CompareArguments),
    /// Join the JSON reports of all shards of one run into one report
    Join(commands::join::JoinArguments),
    /// Check the machine and the implementations under test, before a run
    Doctor(commands::arguments::Judged),
    /// Print the JSON Schema of the report, the baseline or the harness protocol
    Schema(commands::schema::SchemaArguments),
    /// Write the skeleton of a new requirement, its first case and its fault into the source tree in this folder
    New(commands::new::NewArguments),
    /// Measure what a wrapper or a server costs, against baselines or others in the same run
    Bench(commands::bench::BenchArguments),
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
        return exit::HARNESS;
    }
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == SUPERVISE)
    {
        return supervisor::main();
    }
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => {
            // Help and version are printed to standard output with 0, usage errors to standard error with 2.
            let printed = error.print();
            return if printed.is_err() {
                exit::HARNESS
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
        Command::Join(arguments) => commands::join::join(&arguments),
        Command::Doctor(judged) => commands::doctor::doctor(&judged),
        Command::Schema(arguments) => commands::schema::schema(&arguments),
        Command::New(arguments) => commands::new::new(&arguments),
        Command::Bench(arguments) => commands::bench::bench(&arguments),
    };
    result.unwrap_or_else(|error| {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        {
            // The reader of our output has seen enough; it knows, so nothing is said.
            return exit::HARNESS;
        }
        eprintln!("conformance: {}", printable(&format!("{error:#}")));
        if let Some(Interrupted(signal)) = error.downcast_ref() {
            128 + signal
        } else if error.is::<Lacking>() {
            exit::UNEXPECTED
        } else if error.is::<HarnessFailure>() {
            exit::HARNESS
        } else {
            exit::USAGE
        }
    })
}
