//! `run` and `shell` from a user's point of view.

#[path = "../support/mod.rs"]
mod support;

mod approval;
mod attacks;
mod audit;
mod check;
mod group;
mod hostile;
mod in_place;
mod kills;
mod launching;
mod refusals;
#[cfg(feature = "rules")]
mod rules;
mod run;
mod sandbox;
mod terminal;
mod workday;
