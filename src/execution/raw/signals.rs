//! System calls about signals.

use std::os::fd::RawFd;
use std::ptr;

use super::arch::{Result, syscall};

/// Bytes of the kernel's signal set.
const SIGNAL_SET: usize = size_of::<u64>();
const LAST_SIGNAL: i32 = 64;

/// rt_sigaction(2): every signal has its default action from now on.
pub(crate) fn reset_all_dispositions() -> Result<()> {
    // Handler, flags, restorer and mask, as the kernel has them.
    let default = [0_usize; 4];
    for signal in 1..=LAST_SIGNAL {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let arguments = [signal as usize, default.as_ptr() as usize, 0, SIGNAL_SET];
        // SAFETY: the kernel reads one action, which has no handler, and writes none to a null pointer.
        unsafe { syscall(libc::SYS_rt_sigaction, arguments) }?;
    }
    Ok(())
}

/// rt_sigaction(2): the signals of the set, bit N-1 for signal N, are ignored from now on; two of them can't be.
pub(crate) fn ignore(signals: u64) -> Result<()> {
    let ignored = [libc::SIG_IGN, 0, 0, 0];
    for signal in 1..=LAST_SIGNAL {
        let can_be = signal != libc::SIGKILL && signal != libc::SIGSTOP;
        if can_be && signals & (1 << (signal - 1)) != 0 {
            let arguments = [signal as usize, ignored.as_ptr() as usize, 0, SIGNAL_SET];
            // SAFETY: the kernel reads one action, which has no handler, and writes none to a null pointer.
            unsafe { syscall(libc::SYS_rt_sigaction, arguments) }?;
        }
    }
    Ok(())
}

/// rt_sigprocmask(2): no signal is blocked from now on.
pub(crate) fn unblock_all() -> Result<()> {
    block(0)
}

/// rt_sigprocmask(2): every signal but these is blocked from now on, of those that can be.
pub(crate) fn block_all_but(open: &[i32]) -> Result<()> {
    block(
        open.iter()
            .fold(!0, |blocked, signal| blocked & !(1_u64 << (signal - 1))),
    )
}

fn block(signals: u64) -> Result<()> {
    let arguments = [
        libc::SIG_SETMASK as usize,
        ptr::from_ref(&signals) as usize,
        0,
        SIGNAL_SET,
    ];
    // SAFETY: the kernel reads one set, and writes none to a null pointer.
    unsafe { syscall(libc::SYS_rt_sigprocmask, arguments) }.map(drop)
}

/// signalfd(2) for all signals that are blocked: close-on-exec, and reading it doesn't wait.
pub(crate) fn signalfd_of_all() -> Result<RawFd> {
    const NEW: usize = -1_isize as usize;
    let set = !0_u64;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let arguments = [NEW, ptr::from_ref(&set) as usize, SIGNAL_SET, flags as usize];
    // SAFETY: the kernel reads one set.
    unsafe { syscall(libc::SYS_signalfd4, arguments) }.map(|descriptor| descriptor as RawFd)
}
