//! The probe alone, beside the suite: a file that is small to copy and quick to start.
//!
//! `conformance` is a probe too, under a name with a plan beside it, and is copied where this program is missing. As it has no
//! language runtime either, the reasons stand in its `main.rs`.
#![no_main]

use std::ffi::{c_char, c_int};

/// The C entry point.
// SAFETY: `main` is the symbol that the C start-up code calls, once, with the process's arguments.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // A panic must not unwind into C; 101 is the status that Rust's own runtime gives.
    std::panic::catch_unwind(conformance::probe).unwrap_or(101)
}
