//! Signals that a probe waits for, and what it inherits besides.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{SigSet, Signal};

use super::report;

/// Says `ready`, and `caught` for each SIGINT, so many times.
pub fn catch_interrupts(times: i32, output: &mut impl Write) -> io::Result<()> {
    let mut interrupts = SigSet::empty();
    interrupts.add(Signal::SIGINT);
    // Blocked first: one may come as soon as the word is out.
    interrupts.thread_block()?;
    writeln!(output, "ready")?;
    output.flush()?;
    for _ in 0..times {
        interrupts.wait()?;
        writeln!(output, "caught")?;
        output.flush()?;
    }
    Ok(())
}

/// How often a signal has come.
static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

/// What ends [`signal_group`]: of signals that are pending, the one with the highest number is taken last.
pub const LAST: i32 = 60;

/// Sends a signal to its own process group, says `sent`, and prints how often that has come when [`LAST`] comes.
pub fn signal_group(signal: i32, output: &mut impl Write) -> io::Result<()> {
    // SAFETY: calls on integers, a local set and a handler that does nothing but change an atomic number.
    let last = unsafe {
        let mut last = std::mem::zeroed();
        libc::sigemptyset(&raw mut last);
        libc::sigaddset(&raw mut last, LAST);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const last, std::ptr::null_mut());
        libc::signal(signal, count as *const () as libc::sighandler_t);
        libc::kill(0, signal);
        last
    };
    writeln!(output, "sent")?;
    output.flush()?;
    // SAFETY: sigwait reads the set and writes one number.
    match unsafe { libc::sigwait(&raw const last, &mut 0) } {
        0 => writeln!(output, "caught {}", CAUGHT.load(Ordering::Relaxed)),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Blocks all signals, makes `file`, and prints the number of the first signal that comes.
pub fn await_any(file: &OsStr, output: &mut impl Write) -> io::Result<()> {
    // SAFETY: calls on a local set; sigwait writes one number.
    let number = unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        File::create(file)?;
        let mut number = 0;
        match libc::sigwait(&raw const all, &raw mut number) {
            0 => number,
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    };
    writeln!(output, "{number}")
}

/// Prints soft and hard limits by number, the niceness, and the ignored signals.
pub fn print_inherited(output: &mut impl Write) -> io::Result<()> {
    let report = report::take();
    for (number, (soft, hard)) in report.limits.iter().enumerate() {
        writeln!(output, "limit {number}: {soft} {hard}")?;
    }
    writeln!(output, "niceness: {}", report.nice)?;
    let ignored: Vec<i32> = (1..=64).filter(|signal| report.ignores(*signal)).collect();
    writeln!(output, "ignored: {ignored:?}")
}
