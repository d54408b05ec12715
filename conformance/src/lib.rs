//! Black-box conformance suite of *shell escalation*: judges any shell, wrapper and server by path.
//!
//! The data's way: `command_line` → `commands` → `suite` (which cases of `cases`) → `runner` (a process tree
//! per case) → a `case` with its context and the `peer`s that stand for the other roles → `verdict` → `report`.
//! The modules are floors: each may import those below it only, which the test `layers` holds.
//!
//! Nothing here depends on the reference implementation: the suite knows paths and bytes.

mod bench;
mod case;
mod cases;
mod command_line;
mod commands;
mod exit;
mod peer;
mod printable;
mod probe;
mod report;
mod runner;
mod shown;
pub mod spec;
mod stage;
pub mod suite;
mod system;
mod transcript;
mod trial;
mod verdict;

/// Runs the command line, or the probe where a plan lies beside the executable, and returns the exit status.
pub fn main() -> i32 {
    match probe::plan::beside_executable() {
        Some(plan) => probe::run(plan),
        None => command_line::main(),
    }
}

/// Runs the probe where a plan lies beside the executable, and else prints which build it belongs to. Returns the exit status.
pub fn probe() -> i32 {
    match probe::plan::beside_executable() {
        Some(plan) => probe::run(plan),
        None => {
            println!("{}", case::programs::BUILD);
            0
        }
    }
}

/// What the suite's own tests look at, and nothing else may rely on.
#[doc(hidden)]
pub mod inside {
    pub use crate::case::Case;
    pub use crate::case::implementations::Implementations;
    pub use crate::commands::{list, preflight, schema};
    pub use crate::exit::Interrupted;
    pub use crate::report::html;
    pub use crate::runner::interrupts;
    pub use crate::system::process;
}
