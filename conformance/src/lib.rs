//! Black-box conformance suite of *shell escalation*: judges any shell, wrapper and server by path.
//!
//! The data's way: [`command_line`] → [`implementations`] and [`suite`] (what is judged, by which cases) →
//! [`runner`] (one process tree a case) → a case of [`cases`], with a [`context`] and the [`peer`]s that play
//! the other roles → [`outcome`] → [`report`].
//!
//! Nothing here depends on the reference implementation: the suite knows paths and bytes.

pub mod baseline;
pub mod bench;
pub mod breath;
pub mod cases;
pub mod command_line;
pub mod commands;
pub mod context;
pub mod expect;
pub mod faults;
pub mod implementations;
pub mod outcome;
pub mod peer;
pub mod probe;
pub mod property;
pub mod report;
pub mod requirements;
pub mod runner;
pub mod schema;
pub mod suite;
pub mod transcript;
