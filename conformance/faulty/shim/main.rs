//! A compact server of shell escalation with its shim, which conforms unless it is told to be wrong.
//!
//! It tests the suite's own cases: each fault must be caught by a case of its requirement, and without a fault, or
//! with a variant only, every case must pass. It shares no code with the suite or with a real server.
//!
//! The path of a request: `handshake` (datagram) → `worker` (request stream) → `messages` (JSON and bytes) →
//! `program` (which file) → `policy` (the question) → `order` (what to start) → `keeper` and `child` (the escalated
//! tree). Terminals: `terminals` (all of them) → `backend` (wrapped or not) → `terminal` (one) → `ends` (its
//! streams) and `output` (what is kept).

mod backend;
mod child;
mod clock;
mod decoding;
mod ends;
mod events;
mod faults;
mod group;
mod handshake;
mod keeper;
mod members;
mod messages;
mod methods;
mod oneshot;
mod order;
mod output;
mod own_state;
mod parcel;
mod policy;
mod processes;
mod program;
mod relay;
mod rpc;
mod server;
mod session;
mod shares;
mod spawn;
mod stops;
mod stream;
mod terminal;
mod terminal_methods;
mod terminals;
mod ticket;
mod tools;
mod trial;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    faults::choose(faults::Options::parse());
    if faults::unusual(faults::Variant::SlowStart) {
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    #[cfg(target_env = "gnu")]
    // Large blocks return to the system when they are freed, instead of making the heap larger (mallopt(3)).
    // SAFETY: it only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
    // Before there is a second thread: only then may forked processes do more than execve.
    let served = keeper::start_nursery().and_then(methods::serve);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faulty-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
