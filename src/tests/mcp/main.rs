//! `mcp` from a client's point of view: its messages, line by line.

#[path = "../support/mod.rs"]
mod support;

mod approval;
mod careless_clients;
mod client;
mod one_shot;
mod protocol;
mod scenario;
mod sessions;
