//! The command line: arguments, logging, and the runtime for the subcommands.

mod approve;
mod check;
mod confined;
mod denials;
mod host;
mod interrupts;
mod locate;
#[cfg(feature = "mcp")]
mod mcp;
mod memory;
mod open_files;
mod question;
mod rules;
mod run;
mod shim;
mod signals;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use shell_escalation::PolicyFile;
use tracing_subscriber::EnvFilter;

use self::signals::Signals;

/// Runs shells under a policy that decides for every command: run it in place, outside the sandbox, or not at all.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// Log filter for standard error, in RUST_LOG syntax: a level, or targets with levels
    #[arg(long, global = true, value_name = "FILTER", default_value = "off")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command in a patched shell under a policy file, and exit with its status
    Run(run::Run),
    /// Start an interactive patched shell under a policy file
    Shell(run::Shell),
    /// Serve tools for executing commands to an agent: a Model Context Protocol server on standard input and output
    #[cfg(feature = "mcp")]
    Mcp(mcp::Mcp),
    /// Say what a policy would decide about commands, by which rule, and why
    Check(check::Check),
    /// Describe the policy file and all its keys
    HelpPolicy,
    /// Speak the conformance suite's harness protocol on standard input and output
    Shim(shim::Shim),
}

/// The status when this program itself fails, the same as timeout(1)'s and env(1)'s: commands rarely use it.
const OWN_FAILURE: u8 = 125;

/// Runs the program and returns its exit status.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("shell-escalation: {error:#}");
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::builder().parse(&arguments.log).with_context(|| {
        format!(
            "--log {}: not a valid log filter; try `info` or `shell_escalation=debug`",
            arguments.log
        )
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    memory::map_large_blocks();
    let inherited_open_files = open_files::raise();
    match arguments.command {
        Command::Run(run) => {
            let signals = hold_signals()?;
            on_runtime(run.serve(inherited_open_files, signals))
        }
        Command::Shell(shell) => {
            let signals = hold_signals()?;
            on_runtime(shell.serve(inherited_open_files, signals))
        }
        #[cfg(feature = "mcp")]
        Command::Mcp(mcp) => on_runtime(mcp.serve(inherited_open_files)),
        Command::Check(check) => check.answer(),
        Command::HelpPolicy => {
            print!("{}", PolicyFile::help());
            Ok(ExitCode::SUCCESS)
        }
        Command::Shim(shim) => on_runtime(shim.serve(inherited_open_files)),
    }
}

/// Before the runtime has threads.
fn hold_signals() -> anyhow::Result<Signals> {
    Signals::hold().context("cannot receive signals")
}

fn on_runtime(serving: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One, so that no question is handed from one to another. What may block has threads of its own.
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let status = runtime.block_on(serving);
    // Do not wait for the thread that may be reading standard input.
    runtime.shutdown_background();
    status
}
