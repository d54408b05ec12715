//! Signals as the protocol sees them: which a wrapper forwards, and which end a process.

/// The signals that must reach an escalated child (`wrapper.escalate.signal`): all but the two that can't be caught, and the
/// three that a C library keeps for itself (musl 34 as well).
pub fn forwarded() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33, 34].contains(signal))
}

/// The signals whose default is to end a process, real-time ones included (signal(7)).
pub fn deadly() -> impl Iterator<Item = i32> {
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    (1..=64).filter(move |signal| !harmless.contains(signal))
}
