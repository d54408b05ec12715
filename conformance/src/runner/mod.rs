//! The engine: a process tree of its own for each case, several at a time, and a stream of events.
//!
//! [`trials`] come before the first case. A [`plan`] says which cases run. [`rounds`] runs it, once or more often. [`schedule`] hands its cases to [`supervisor`]
//! processes, each of which forks the [`body`] that runs the case and afterwards takes the [`census`] of what the case
//! left behind.

pub mod body;
pub mod census;
pub mod channel;
pub mod install;
pub mod interrupts;
pub mod plan;
pub mod rounds;
pub mod schedule;
pub mod supervision;
pub mod supervisor;
pub mod trials;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use channel::Secret;

use crate::case::context::Settings;
use crate::trial::Trial;

/// The hidden subcommand under which this executable is a supervisor.
pub const SUPERVISE: &str = "__supervise";

/// The PATH that cases have, whatever the PATH of the run is.
pub const PATH_OF_CASES: &str = "/usr/bin:/bin";

/// This executable as supervisor of a case or trial below `directory`.
fn own_supervisor(directory: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("conformance").arg(SUPERVISE);
    with_environment(&mut command, directory);
    command
}

/// The small environment that a supervisor has, whatever that of the run is.
fn with_environment(command: &mut Command, directory: &Path) {
    command
        .env_clear()
        .env("PATH", PATH_OF_CASES)
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", directory);
}

/// What a supervisor stands over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The case with this id.
    Case(String),
    /// What is tried before the first case.
    Trial(Trial),
}

/// What a supervisor is told, as one line on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The case or the trial.
    pub work: Work,
    /// A directory for it, which does not exist yet.
    pub directory: PathBuf,
    /// Whether the directory stays.
    pub keep: bool,
    /// A copy of this executable on the directory's file system, which cases link to as probe.
    pub probe_executable: PathBuf,
    /// What comes from the run.
    pub settings: Settings,
    /// The secret that begins each line on the way back.
    pub secret: Secret,
}
