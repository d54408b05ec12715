//! Command line of the reference server.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
