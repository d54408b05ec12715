//! The process: its standard error, environment and umask, and how it ends.

use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::faults::{Fault, broken};

unsafe extern "C" {
    static mut environ: *const *const libc::c_char;
}

/// Whether descriptor 2 is open.
pub fn has_standard_error() -> bool {
    // SAFETY: fcntl on a number that may be closed fails with EBADF.
    unsafe { libc::fcntl(2, libc::F_GETFD) >= 0 }
}

/// _exit(2).
pub fn exit(status: i32) -> ! {
    // SAFETY: takes an integer.
    unsafe { libc::_exit(status) }
}

/// abort(3), which is how a panic ends a wrapper.
pub fn abort() -> ! {
    // SAFETY: takes nothing.
    unsafe { libc::abort() }
}

/// Writes to standard error, or where a fault sends messages.
pub fn write_error(bytes: &[u8]) {
    let number = MESSAGES.load(Ordering::Relaxed);
    // Another destination than 2 is for a closed standard error only.
    if number == 2 || !has_standard_error() {
        write_to(number, bytes);
    }
}

/// Where messages go: 2, unless a fault changes it.
pub static MESSAGES: AtomicI32 = AtomicI32::new(2);

/// Writes all of it to this descriptor, unless that fails.
pub fn write_to(number: i32, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: write reads `rest`.
        let written = unsafe { libc::write(number, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(_) if broken(Fault::MessagesWrittenAtOnce) => return,
            Ok(written) => rest = &rest[written..],
            Err(_) => match std::io::Error::last_os_error().kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock if !broken(Fault::MessagesDroppedWhenFull) => wait_for_room(number),
                _ => return,
            },
        }
    }
}

fn wait_for_room(number: i32) {
    let mut poll = libc::pollfd {
        fd: number,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: poll reads and writes one pollfd.
    unsafe { libc::poll(&raw mut poll, 1, -1) };
}

/// The environment's entries.
pub fn environment() -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    // SAFETY: one thread; `environ` is a null-terminated vector of C strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            entries.push(CStr::from_ptr(*entry).to_bytes().to_vec());
            entry = entry.add(1);
        }
    }
    entries
}

/// The umask. It is the same afterwards.
pub fn umask() -> u32 {
    // SAFETY: umask takes and gives an integer.
    unsafe {
        let umask = libc::umask(0);
        libc::umask(umask);
        umask
    }
}

/// The null-terminated vector of these strings, valid while they live.
pub fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Ends by running a shell command.
pub fn shell_command(command: &str) -> ! {
    let words: Vec<CString> = ["sh", "-c", command]
        .iter()
        .filter_map(|word| CString::new(*word).ok())
        .collect();
    // SAFETY: execv reads C strings that live until it succeeds.
    unsafe { libc::execv(c"/bin/sh".as_ptr(), pointers(&words).as_ptr()) };
    exit(0)
}

/// The escalation socket's number, or -1.
pub fn escalation_number() -> libc::c_int {
    std::env::var("CODEX_ESCALATE_SOCKET")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(-1)
}
