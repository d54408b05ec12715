//! System calls about signals.

use std::os::fd::RawFd;
use std::ptr;

use super::arch::{Result, syscall};

/// Bytes of the kernel's signal set.
const SIGNAL_SET: usize = size_of::<u64>();
const LAST_SIGNAL: i32 = 64;
// From asm/signal.h.
const SA_RESTORER: usize = 0x0400_0000;

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

/// The signals whose default action leaves a core, see signal(7).
const DUMPING: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// rt_sigaction(2): until this process executes another program, which resets that, a signal whose default action leaves a
/// core makes it exit with 128 + signal instead. (A core limit of 0 wouldn't do: it doesn't count where the system pipes
/// cores to a program, and would have to be set back by another process while the new program runs already.)
pub(crate) fn exit_instead_of_dumping() -> Result<()> {
    // Handler, flags, restorer and mask, as the kernel has them; x86-64 insists on a restorer, though nothing returns.
    let exit = exit_for as extern "C" fn(i32) as usize;
    let action = if cfg!(target_arch = "x86_64") {
        [exit, SA_RESTORER, exit, 0]
    } else {
        [exit, 0, 0, 0]
    };
    for signal in DUMPING {
        let arguments = [signal as usize, action.as_ptr() as usize, 0, SIGNAL_SET];
        // SAFETY: the kernel reads one action, and writes none to a null pointer. The handler only exits.
        unsafe { syscall(libc::SYS_rt_sigaction, arguments) }?;
    }
    Ok(())
}

extern "C" fn exit_for(signal: i32) {
    let status = 128 + signal;
    // SAFETY: an integer; the call doesn't return.
    let _ = unsafe { syscall(libc::SYS_exit_group, [status as usize]) };
}

/// rt_sigprocmask(2): no signal is blocked from now on.
pub(crate) fn unblock_all() -> Result<()> {
    let nothing = 0_u64;
    let arguments = [
        libc::SIG_SETMASK as usize,
        ptr::from_ref(&nothing) as usize,
        0,
        SIGNAL_SET,
    ];
    // SAFETY: the kernel reads one set, and writes none to a null pointer.
    unsafe { syscall(libc::SYS_rt_sigprocmask, arguments) }.map(drop)
}

/// signalfd(2) for one signal, which must be blocked: close-on-exec, and reading it doesn't wait.
pub(crate) fn signalfd(signal: i32) -> Result<RawFd> {
    const NEW: usize = -1_isize as usize;
    let set = 1_u64 << (signal - 1);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let arguments = [NEW, ptr::from_ref(&set) as usize, SIGNAL_SET, flags as usize];
    // SAFETY: the kernel reads one set.
    unsafe { syscall(libc::SYS_signalfd4, arguments) }.map(|descriptor| descriptor as RawFd)
}
