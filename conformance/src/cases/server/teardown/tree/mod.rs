//! Ending an escalated child ends its whole tree: each way to end it, and any course of events.

pub mod endings;
pub mod foreign_proc;
pub mod model;
pub mod supervisor;
