//! Black-box conformance suite of *shell escalation*: judges any shell, wrapper and server by path.
//!
//! The data's way: [`command_line`] → [`commands`] → [`suite`] (which cases of [`cases`]) → [`runner`] (a process tree
//! per case) → a [`case`] with its context and the [`peer`]s that stand for the other roles → [`verdict`] → [`report`].
//! The modules are floors: each may import those below it only, which the test `layers` holds.
//!
//! Nothing here depends on the reference implementation: the suite knows paths and bytes.

pub mod bench;
pub mod case;
pub mod cases;
pub mod command_line;
pub mod commands;
pub mod exit;
pub mod peer;
pub mod printable;
pub mod probe;
pub mod report;
pub mod runner;
pub mod spec;
pub mod stage;
pub mod suite;
pub mod system;
pub mod transcript;
pub mod verdict;
