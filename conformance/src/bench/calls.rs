//! Counts the system calls of one run: from the wrapper's start to the command's, or to the wrapper's end.

use std::os::fd::AsRawFd;

use anyhow::{Context as _, bail};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::measure::{ESCALATION_DESCRIPTOR, Start};
use super::peer::Peer;

/// Counts the system calls that the program of `start` makes before it executes another or ends, that last
/// call included.
///
/// # Errors
/// Where the machine does not let one trace.
pub fn count(start: &Start, peer: &Peer) -> anyhow::Result<u64> {
    let (program, arguments, environment) = start.parts();
    let escalation = peer.client_end().as_raw_fd();
    let null_file = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let null = null_file.as_raw_fd();
    // SAFETY: the child calls only ptrace, raise, dup2 and execve, on memory that was prepared before.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let ready = ptrace::traceme().is_ok() && nix::sys::signal::raise(Signal::SIGSTOP).is_ok();
            if ready {
                // SAFETY: dup2 takes integers; 20 is no descriptor that this process uses otherwise.
                unsafe {
                    libc::dup2(escalation, ESCALATION_DESCRIPTOR);
                    for number in 0..=2 {
                        libc::dup2(null, number);
                    }
                }
                let _ = nix::unistd::execve(program, arguments, environment);
            }
            // SAFETY: _exit takes an integer.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => child,
    };
    waitpid(child, Some(WaitPidFlag::WUNTRACED))?;
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_TRACEEXEC
        | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(child, options).context("tracing a child (does a sandbox forbid ptrace?)")?;
    let mut stops = 0;
    let mut executions = 0;
    let mut signal = None;
    loop {
        ptrace::syscall(child, signal.take())?;
        match waitpid(child, None)? {
            WaitStatus::PtraceSyscall(_) if executions == 1 => stops += 1,
            WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::PtraceEvent(_, _, _) => {
                executions += 1;
                if executions == 2 {
                    break;
                }
            }
            WaitStatus::Stopped(_, stop) => signal = Some(stop),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) if executions == 1 => return Ok(calls(stops)),
            other => bail!("{} ended before it began: {other:?}", program.to_string_lossy()),
        }
    }
    ptrace::cont(child, None)?;
    waitpid(child, None)?;
    Ok(calls(stops))
}

/// Stops come in pairs, entry and exit. The exit of the execve that started the program is the first, and the
/// last call (an execve or an exit) has an entry only.
fn calls(stops: u64) -> u64 {
    stops.div_ceil(2)
}
