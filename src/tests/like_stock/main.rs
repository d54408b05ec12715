//! What a person at a terminal, and a program, meet under Escalate is what they meet in a stock shell.
//!
//! With the patched shells, the stock ones, and the real wrapper: `make shells reference` builds them.

#[path = "../support/mod.rs"]
mod support;

mod day;
mod group;
mod in_place;
mod names;
mod nested;
mod privileges;
mod push;
mod shells;
