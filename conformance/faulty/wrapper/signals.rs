//! Signals: which are forwarded, how they are received, and how to die by one.

use std::os::fd::RawFd;

use crate::faults::{Fault, broken};
use crate::process::exit;

/// The signals that a wrapper forwards.
pub const FORWARDED: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// A non-blocking signalfd(2), at 3 or higher, for the forwarded signals, which it blocks.
pub fn watch(only_term: bool) -> RawFd {
    // SAFETY: calls on a local signal set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in if only_term {
            &[libc::SIGTERM][..]
        } else {
            &FORWARDED[..]
        } {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        let high = libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3);
        libc::close(descriptor);
        high
    }
}

/// The number of the next pending signal.
pub fn next_signal(signals: RawFd) -> Option<i32> {
    // SAFETY: read writes one signalfd_siginfo.
    unsafe {
        let mut information: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let length = libc::read(signals, (&raw mut information).cast(), size);
        (length > 0).then_some(information.ssi_signo as i32)
    }
}

/// Whether the default action of the signal ends a process.
pub fn deadly(signal: i32) -> bool {
    (1..=64).contains(&signal)
        && ![
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGURG,
            libc::SIGWINCH,
        ]
        .contains(&signal)
}

/// The kernel's struct sigaction: the C library refuses signals 32 and 33.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Sets the default disposition of any signal.
pub fn set_default(signal: i32) {
    let action = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: rt_sigaction reads one action; the old one is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const action,
            0_usize,
            8_usize,
        )
    };
}

/// Unblocks these signals, bit N-1 for signal N.
pub fn unblock(set: u64) {
    // SAFETY: rt_sigprocmask reads one set of eight bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const set,
            0_usize,
            8_usize,
        )
    };
}

/// Ends by this signal, without a core dump.
pub fn die_by(signal: i32) -> ! {
    if broken(Fault::KilledExitsForRealTimeSignals) && signal > 31 {
        exit(128 + signal);
    }
    // SAFETY: calls on integers and a local limit.
    unsafe {
        if !broken(Fault::CoreOfItsOwn) {
            let limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
        if !broken(Fault::KilledOnlyWhereDefault) {
            set_default(signal);
        }
        libc::kill(libc::getpid(), signal);
        if !broken(Fault::KilledOnlyWhereUnblocked) {
            unblock(1 << (signal - 1));
        }
        exit(128 + signal)
    }
}
