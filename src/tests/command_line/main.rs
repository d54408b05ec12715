//! `run` and `shell` as a user has them.

#[path = "../support/mod.rs"]
mod support;

mod run;
mod terminal;
