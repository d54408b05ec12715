//! Runs what the policy escalates: prepares, starts, watches and ends process trees outside of the sandbox.
//!
//! From the ground up, each importing only what comes before it: `raw` (system calls), `failure` and `words`, `channel`
//! (what host and supervisor say to each other) | `parcel` (a job as bytes) | `child` (between clone and exec) | `supervisor` |
//! `guardian` | `job` (what a supervisor is given) | `tree` (the host's handle) | `prepare` (from a request to a tree), `local`
//! (shells). `child`, `supervisor` and `guardian`, and what they call, run in processes of their own, without what the host's
//! memory holds.

mod attributes;
mod capture;
mod channel;
mod child;
mod descriptor_map;
mod exec_strings;
mod executable;
mod executor;
mod failure;
mod guardian;
mod in_place;
mod job;
mod launch;
mod local;
mod parcel;
mod prepare;
mod procfs;
mod raw;
mod stacks;
mod supervisor;
mod survivor;
mod tree;
mod trial;
mod words;

pub(crate) use attributes::Attributes;
pub use capture::Gap;
pub(crate) use channel::{Ending, Report, Stop};
pub(crate) use descriptor_map::open_file_limit;
pub(crate) use executable::{Scripts, TEXT_SAMPLE, holds_system, is_text};
pub(crate) use executor::SharedExecutor;
pub use executor::{ClientSocket, PreparedExec, ShellCommand, ShellCommandExecutor, ShellOutput, ShellStart};
pub(crate) use failure::{SWAPPED, Stage, StartFailure};
pub(crate) use guardian::{Guardian, SessionLeader};
pub(crate) use in_place::{Influence, Told, Writers};
pub(crate) use launch::{Launch, Launcher, Opened, Target};
pub(crate) use local::{HostProgram, start_of_host};
pub use local::{LocalExecutor, StandardStreams};
pub(crate) use prepare::{AtOnce, FilesAtDecision, Foresight, Refusal, Start, Started};
pub(crate) use procfs::{check_proc, descends_from, is_stopped};
pub(crate) use supervisor::Placement;
pub use survivor::Survivor;
pub(crate) use tree::{ENDING_TIME, Tree};
pub(crate) use words::describe;
