//! Signals of escalated children: which of them kill, how a death is reported, and stops.

use std::time::Duration;

use serde_json::Value;

use crate::case::expect;
use crate::system::process::{self, ProcessHandle};
use crate::verdict::{Verdict, harness};

/// The highest real-time signal.
pub const LAST: i32 = 64;

/// The two that the C library keeps for itself: it refuses to set them, and leaves them ignored in what its
/// posix_spawn(3) starts, without any harm.
pub const OF_THE_LIBRARY: [i32; 2] = [32, 33];

/// Whether the default action of `signal` ends a process, as far as cases rely on it.
pub fn is_deadly(signal: i32) -> bool {
    if OF_THE_LIBRARY.contains(&signal) {
        return false;
    }
    let harmless = [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT];
    let stopping = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    !harmless.contains(&signal) && !stopping.contains(&signal)
}

/// Demands the result of a child that was killed by `signal`.
pub fn expect_killed(result: &Value, signal: i32) -> Verdict {
    expect::equal(
        &format!("exit_code of a child killed by signal {signal}"),
        Some(i64::from(128 + signal)),
        result["exit_code"].as_i64(),
    )?;
    expect::equal(
        &format!("signal of a child killed by signal {signal}"),
        Some(i64::from(signal)),
        result["signal"].as_i64(),
    )
}

/// Waits until the process is stopped; false at the end of the patience.
pub fn stopped_within(pid: i32, patience: Duration) -> bool {
    process::eventually(patience, || {
        process::state(pid).is_some_and(|state| state.state == 'T')
    })
}

/// Stops a process and waits until it is stopped.
pub fn stop(handle: &ProcessHandle, patience: Duration) -> Verdict {
    handle.signal(libc::SIGSTOP)?;
    if stopped_within(handle.pid.as_raw(), patience) {
        return Ok(());
    }
    Err(harness(format_args!(
        "SIGSTOP did not stop process {}",
        handle.pid
    )))
}
