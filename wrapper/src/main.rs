//! `execve-wrapper FILE ARGV0 ...`: what a patched shell executes in place of a command.
//!
//! It has no Rust `main`: the language's runtime would ignore SIGPIPE and open /dev/null on closed standard streams, and
//! both would reach the command. The process starts in `start`, and everything that it does is in the library.
#![no_main]
#![cfg_attr(freestanding, no_std)]

#[cfg(freestanding)]
#[path = "start/freestanding.rs"]
mod start;

#[cfg(not(freestanding))]
#[path = "start/c_library.rs"]
mod start;
