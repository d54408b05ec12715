//! The engine: a process tree of its own for each case, several at a time, and a stream of events.
//!
//! A [`plan`] says which cases run. [`rounds`] runs it, once or more often. [`schedule`] hands its cases to [`supervisor`]
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

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use channel::Secret;

use crate::case::context::Settings;

/// What a supervisor is told, as one line on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The case.
    pub case: String,
    /// An empty directory for it.
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
