//! The same system calls through the C library.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;

use crate::arguments::Strings;
use crate::signals::Set;

fn last_error() -> Errno {
    // SAFETY: the C library gives the address of the calling thread's errno.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

fn checked(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result == -1 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

fn to_c(signals: Set) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals.iter() {
        // SAFETY: the set is initialised; numbers that the C library reserves for itself are refused, which is fine.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn from_c(set: &libc::sigset_t) -> Set {
    (1..=crate::signals::LAST)
        // SAFETY: the set is initialised.
        .filter(|&signal| unsafe { libc::sigismember(set, signal) } == 1)
        .fold(Set::default(), |signals, signal| signals.with(Set::only(signal)))
}

/// execve(2). Returns only if it failed.
pub fn execve(file: &CStr, argv: Strings, environment: Strings) -> Errno {
    // SAFETY: `Strings` are NULL-terminated vectors of C strings, and the file is a C string.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Ends the process with that status.
pub fn exit(status: i32) -> ! {
    // SAFETY: nothing in this process needs to be undone before it ends.
    unsafe { libc::_exit(status) }
}

/// The current directory's path, put into `buffer`; its length in bytes.
pub fn current_directory(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: at most as many bytes are written as the buffer has.
    if unsafe { libc::getcwd(buffer.as_mut_ptr().cast(), buffer.len()) }.is_null() {
        return Err(last_error());
    }
    Ok(buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len()))
}

/// Blocks these signals in addition; returns the mask from before.
pub fn block(signals: Set) -> Result<Set, Errno> {
    change_mask(libc::SIG_BLOCK, signals)
}

/// Blocks these signals and no others.
pub fn set_mask(signals: Set) -> Result<Set, Errno> {
    change_mask(libc::SIG_SETMASK, signals)
}

fn change_mask(how: libc::c_int, signals: Set) -> Result<Set, Errno> {
    let mut before = to_c(Set::default());
    // SAFETY: both sets are initialised.
    checked(unsafe { libc::sigprocmask(how, &to_c(signals), &raw mut before) })?;
    Ok(from_c(&before))
}

/// Whether the process was started with that signal ignored.
pub fn is_ignored(signal: i32) -> bool {
    let mut disposition = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only queries; the result is read only if the call succeeded.
    unsafe {
        libc::sigaction(signal, ptr::null(), disposition.as_mut_ptr()) == 0
            && disposition.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Restores that signal's default action.
pub fn reset_disposition(signal: i32) -> Result<(), Errno> {
    let default = libc::sigaction {
        sa_sigaction: libc::SIG_DFL,
        sa_mask: to_c(Set::default()),
        sa_flags: 0,
        #[cfg(target_os = "linux")]
        sa_restorer: None,
    };
    // SAFETY: sets no handler.
    checked(unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) })?;
    Ok(())
}

/// Sends that signal to this process.
pub fn kill_self(signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) with this process's own id touches no memory.
    checked(unsafe { libc::kill(libc::getpid(), signal) })?;
    Ok(())
}

/// Sends that signal to every process of this process's group.
pub fn kill_group(signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes integers; 0 is the caller's group.
    checked(unsafe { libc::kill(0, signal) })?;
    Ok(())
}

/// The signals that have arrived and are blocked.
pub fn pending() -> Result<Set, Errno> {
    let mut pending = to_c(Set::default());
    // SAFETY: the set is initialised, and is only written to.
    checked(unsafe { libc::sigpending(&raw mut pending) })?;
    Ok(from_c(&pending))
}

/// A descriptor from which these signals, which must be blocked, can be read: non-blocking and close-on-exec.
pub fn signal_descriptor(signals: Set) -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised.
    let number =
        checked(unsafe { libc::signalfd(-1, &to_c(signals), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
