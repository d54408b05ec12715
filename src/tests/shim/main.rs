//! The shim as a process: the harness protocol, and what only shows from outside of the server.

#[path = "../support/mod.rs"]
mod support;

mod harness;
mod leaks;
mod protocol;
