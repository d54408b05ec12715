//! Signals: which are forwarded, how they are received, and how to die by one.

use std::os::fd::RawFd;

use crate::faults::{Fault, Variant, broken, unusual};
use crate::process::exit;

/// The usual signals: all that a fault lets a wrapper forward.
const USUAL: [i32; 9] = [
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

/// The signals that a wrapper forwards: all that can be caught, but for the C library's own.
pub fn forwarded() -> Vec<i32> {
    (1..=64)
        .filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal))
        .filter(|signal| !broken(Fault::OnlySigtermForwarded) || *signal == libc::SIGTERM)
        .filter(|signal| !broken(Fault::OnlyUsualSignalsForwarded) || USUAL.contains(signal))
        .filter(|signal| !(broken(Fault::IgnoredNotForwarded) && is_ignored(*signal)))
        .filter(|signal| !(broken(Fault::BlockedNotForwarded) && is_blocked(*signal)))
        .collect()
}

/// Whether the process was started with that signal ignored.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction writes one action, of which all-zero is valid.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Whether that signal is blocked now.
fn is_blocked(signal: i32) -> bool {
    // SAFETY: sigprocmask writes one set, of which all-zero is valid, and changes nothing.
    unsafe {
        let mut blocked = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
        libc::sigismember(&raw const blocked, signal) == 1
    }
}

/// A signal that has come.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its number.
    pub number: i32,
    /// The kernel has sent it to the process group, for a terminal.
    pub of_terminal: bool,
    /// The process that has sent it.
    pub sender: Option<u32>,
}

/// A non-blocking signalfd(2), at 3 or higher, for the forwarded signals, which it blocks.
pub fn watch() -> RawFd {
    // SAFETY: calls on a local signal set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in forwarded() {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        let high = libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3);
        libc::close(descriptor);
        high
    }
}

/// The next pending signal.
pub fn next_signal(signals: RawFd) -> Option<Arrival> {
    // SAFETY: read writes one signalfd_siginfo.
    unsafe {
        let mut information: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let length = libc::read(signals, (&raw mut information).cast(), size);
        let number = information.ssi_signo as i32;
        Some(Arrival {
            number,
            sender: is_sent_by_a_process(information.ssi_code)
                .then_some(information.ssi_pid)
                .filter(|&sender| {
                    sender != 0 || broken(Fault::Sender0Told) || broken(Fault::SenderOfTheKernelTold)
                }),
            of_terminal: information.ssi_code > 0 && is_of_terminals(number),
        })
        .filter(|_| length > 0)
    }
}

/// Whether that `si_code` says that a process has sent the signal (sigaction(2)).
fn is_sent_by_a_process(code: i32) -> bool {
    if broken(Fault::SenderOnlyOfKill) {
        return code == libc::SI_USER;
    }
    if broken(Fault::SenderOfTheKernelTold) && code == libc::SI_KERNEL {
        return true;
    }
    [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&code)
}

/// Whether a terminal has such signals sent.
fn is_of_terminals(number: i32) -> bool {
    const OF_KEYS: [i32; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGWINCH];
    const OF_OTHERS: [i32; 4] = [libc::SIGHUP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCONT];
    const OF_INTERRUPTS: [i32; 2] = [libc::SIGINT, libc::SIGQUIT];
    if broken(Fault::TerminalOnlyOfInterrupts) {
        return OF_INTERRUPTS.contains(&number);
    }
    if broken(Fault::TerminalNotInTheBackground) && [libc::SIGTTIN, libc::SIGTTOU].contains(&number) {
        return false;
    }
    OF_KEYS.contains(&number)
        || (OF_OTHERS.contains(&number) && !broken(Fault::TerminalOnlyOfKeys))
        || broken(Fault::TerminalOfEveryKernelSignal)
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
    change_mask(libc::SIG_UNBLOCK, set);
}

/// Blocks them.
pub fn block(set: u64) {
    change_mask(libc::SIG_BLOCK, set);
}

fn change_mask(how: i32, set: u64) {
    // SAFETY: rt_sigprocmask reads one set of eight bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, 0_usize, 8_usize) };
}

/// Ends by this signal, without a core dump.
pub fn die_by(signal: i32) -> ! {
    let of_libraries = (32..=34).contains(&signal) && unusual(Variant::LibrarySignalsExit);
    if of_libraries || (broken(Fault::KilledExitsForRealTimeSignals) && signal > 31) {
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
