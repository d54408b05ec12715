//! Command line of the reference server.

#![warn(unreachable_pub)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    shell_escalation::launch_if_asked();
    cli::main()
}
