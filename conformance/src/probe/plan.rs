//! What a probe is to do: a JSON file beside the executable, `NAME.plan` for `NAME`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::own;
use super::record::Record;

/// What a probe is to do after it has taken its report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// A directory into which each start writes a report.
    pub reports: Option<PathBuf>,
    /// The socket of a case that gives the orders.
    pub connect: Option<PathBuf>,
    /// The probe is the recording wrapper.
    pub record: Option<Record>,
    /// What it does otherwise, in this order; then it exits with 0.
    pub acts: Vec<Act>,
}

/// One step of a probe without a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Writes to standard output.
    Output(Vec<u8>),
    /// Writes to standard error.
    Error(Vec<u8>),
    /// Writes what the kernel keeps of the process (see [`super::kernel_state`]) to this path.
    KernelState(PathBuf),
    /// Copies standard input to standard output until its end.
    Copy,
    /// Dies by this signal.
    Signal(i32),
    /// Exits with this status.
    Exit(i32),
    /// Makes the terminal at this path its controlling one, in a session of its own, and its 0, 1 and 2.
    Terminal(PathBuf),
    /// Closes all descriptors from this number on.
    CloseFrom(i32),
    /// Executes the program that its arguments name, with the rest of them.
    Execute,
    /// Does what its arguments say, in their order (see [`super::instructions`]).
    Arguments,
}

/// The path of the plan for the probe at `executable`.
pub fn path_for(executable: &Path) -> PathBuf {
    let mut path = OsString::from(executable);
    path.push(".plan");
    PathBuf::from(path)
}

/// The plan beside this process's executable, if there is one.
///
/// By /proc/self/exe, not by `argv[0]`, which a case may set to anything; and by the name that execve(2) was
/// called with (AT_EXECFN), for the day that /proc is not there.
pub fn beside_executable() -> Option<Plan> {
    let candidates = [std::env::current_exe().ok(), own::executed_name()];
    let text = candidates
        .into_iter()
        .flatten()
        .find_map(|path| std::fs::read(path_for(&path)).ok())?;
    match serde_json::from_slice(&text) {
        Ok(plan) => Some(plan),
        Err(error) => {
            eprintln!("probe: cannot read the plan beside the executable: {error}");
            std::process::exit(99);
        }
    }
}
