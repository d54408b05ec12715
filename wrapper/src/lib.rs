//! The reference wrapper of shell escalation.
//!
//! A patched shell executes this program in place of every external command. It asks the session's server what to do
//! with the command, and then either becomes the command (Run), lets the server execute it and stands in for it
//! (Escalate), or says why it may not run (Deny). If anything goes wrong, the command does not run.
//!
//! The modules, in the order in which a request passes them: [`arguments`] (what the process was started with) →
//! [`request`] (the question, as JSON) → [`stream`] (handshake and frames) → [`reply`] (the server's answers) → [`run`],
//! [`escalate`] or [`deny`] → [`failure`] (why nothing was executed). [`json`], [`frame`], [`signals`] and [`text`] make
//! no system calls; [`sys`] has those that `rustix` lacks.
//!
//! There is no allocator: one static buffer carries the request out and the replies in, and a reply that is larger gets
//! a mapping of its own.
#![cfg_attr(not(test), no_std)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "this wrapper is written for Linux: other systems have no signalfd(2) and treat descriptors differently"
);

// Part of the start without the C library; it is here only so that it can be tested.
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "start/memory.rs"]
mod memory;

pub mod arguments;
pub mod attributes;
pub mod deny;
pub mod descriptors;
pub mod escalate;
pub mod failure;
pub mod forwarding;
pub mod frame;
pub mod json;
pub mod output;
pub mod reply;
pub mod request;
pub mod run;
pub mod signals;
pub mod stream;
pub mod sys;
pub mod text;
pub mod wrapper;
