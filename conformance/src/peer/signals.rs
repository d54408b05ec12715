//! Signals as the protocol sees them: which a wrapper forwards, and which end a process.

/// The signals that a C library keeps for itself (34 is musl's).
pub const OF_LIBRARIES: [i32; 3] = [32, 33, 34];

/// The signals that must reach an escalated child (`wrapper.escalate.signal`): all but the two that can't be caught, and the
/// three of C libraries.
pub fn forwarded() -> impl Iterator<Item = i32> {
    (1..=64)
        .filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal) && !OF_LIBRARIES.contains(signal))
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
