//! Entry of the `conformance` executable, which is two programs in one file.
//!
//! Under its own name it is the command line. Under a name with a plan beside it (`NAME` and `NAME.plan`)
//! it is the *probe*: the program that a case lets a shell, a wrapper or a server start, and that reports
//! what it was started with. One file, so that the suite works wherever it is copied to.
//!
//! There is no language runtime before us: the probe must see descriptors and dispositions as they were
//! inherited, and the runtime would open `/dev/null` on closed 0, 1, 2 and ignore SIGPIPE.
#![no_main]

use std::ffi::{c_char, c_int};

/// The C entry point.
// SAFETY: `main` is the symbol that the C start-up code calls, once, with the process's arguments.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // A panic must not unwind into C; 101 is the status that Rust's own runtime gives.
    std::panic::catch_unwind(conformance::main).unwrap_or(101)
}
