//! What the probe knows of itself and does to itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The name that execve(2) was called with (AT_EXECFN).
pub fn executed_name() -> Option<PathBuf> {
    // SAFETY: getauxval(3) reads the auxiliary vector; AT_EXECFN is a C string that lives as long as the process.
    let name = unsafe {
        let pointer = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        if pointer.is_null() {
            return None;
        }
        std::ffi::CStr::from_ptr(pointer)
    };
    Some(PathBuf::from(OsString::from_vec(name.to_bytes().to_vec())))
}

/// Kills this process by `signal`, whatever its disposition and mask are.
pub fn die_by(signal: i32) -> ! {
    // SAFETY: plain calls on integers and a local signal set.
    unsafe {
        let limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        // Not raise(3), which refuses the two signals that the C library keeps for itself.
        libc::kill(libc::getpid(), signal);
        libc::_exit(99)
    }
}
