//! The shim as a process: the harness protocol, and what is visible only from outside the server.

#[path = "../support/mod.rs"]
mod support;

mod harness;
mod leaks;
mod protocol;
mod sandbox;
mod shares;
mod terminals;
