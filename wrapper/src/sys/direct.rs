//! System calls made directly: Linux on x86_64 and aarch64, whose kernels lay these structures out alike.

use core::ffi::CStr;
use core::mem::size_of;
use core::ptr;

use rustix::fd::{FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use syscalls::{Sysno, syscall};

use crate::arguments::Strings;
use crate::signals::Set;

/// sigaction(2) as the kernel has it.
#[repr(C)]
struct Disposition {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

const SIG_IGN: usize = 1;
const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const SFD_CLOEXEC: usize = 0o2000000;
const SFD_NONBLOCK: usize = 0o4000;

fn errno(error: syscalls::Errno) -> Errno {
    Errno::from_raw_os_error(error.into_raw())
}

/// execve(2). Returns only if it failed.
pub fn execve(file: &CStr, argv: Strings, environment: Strings) -> Errno {
    // SAFETY: `Strings` are NULL-terminated vectors of C strings, and the file is a C string.
    match unsafe { syscall!(Sysno::execve, file.as_ptr(), argv.as_ptr(), environment.as_ptr()) } {
        Ok(_) => Errno::INVAL,
        Err(error) => errno(error),
    }
}

/// Ends the process with that status.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: nothing in this process needs to be undone before it ends.
        let _ = unsafe { syscall!(Sysno::exit_group, status) };
    }
}

/// The current directory's path, put into `buffer`; its length in bytes.
pub fn current_directory(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let length = unsafe { syscall!(Sysno::getcwd, buffer.as_mut_ptr(), buffer.len()) }.map_err(errno)?;
    // The kernel counts the terminating NUL.
    Ok(length.saturating_sub(1))
}

/// Blocks these signals in addition; returns the mask from before.
pub fn block(signals: Set) -> Result<Set, Errno> {
    change_mask(SIG_BLOCK, signals)
}

/// Blocks these signals and no others.
pub fn set_mask(signals: Set) -> Result<Set, Errno> {
    change_mask(SIG_SETMASK, signals)
}

fn change_mask(how: usize, signals: Set) -> Result<Set, Errno> {
    let mut before = 0_u64;
    // SAFETY: both pointers are to 64-bit sets, and the size says so.
    unsafe {
        syscall!(
            Sysno::rt_sigprocmask,
            how,
            &raw const signals.0,
            &raw mut before,
            size_of::<u64>()
        )
    }
    .map_err(errno)?;
    Ok(Set(before))
}

/// Whether the process was started with that signal ignored.
pub fn is_ignored(signal: i32) -> bool {
    let mut disposition = Disposition {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: only queries; the structure is the kernel's, and the size is that of its mask.
    let asked = unsafe {
        syscall!(
            Sysno::rt_sigaction,
            signal,
            ptr::null::<Disposition>(),
            &raw mut disposition,
            size_of::<u64>()
        )
    };
    asked.is_ok() && disposition.handler == SIG_IGN
}

/// Restores that signal's default action.
pub fn reset_disposition(signal: i32) -> Result<(), Errno> {
    let default = Disposition {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: sets no handler; the structure is the kernel's, and the size is that of its mask.
    unsafe {
        syscall!(
            Sysno::rt_sigaction,
            signal,
            &raw const default,
            ptr::null_mut::<Disposition>(),
            size_of::<u64>()
        )
    }
    .map_err(errno)?;
    Ok(())
}

/// Sends that signal to this process.
pub fn kill_self(signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) with this process's own id touches no memory.
    unsafe {
        syscall!(
            Sysno::kill,
            rustix::process::getpid().as_raw_nonzero().get(),
            signal
        )
    }
    .map_err(errno)?;
    Ok(())
}

/// Sends that signal to every process of this process's group.
pub fn kill_group(signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes integers; 0 is the caller's group.
    unsafe { syscall!(Sysno::kill, 0, signal) }.map_err(errno)?;
    Ok(())
}

/// The signals that have arrived and are blocked.
pub fn pending() -> Result<Set, Errno> {
    let mut pending = 0_u64;
    // SAFETY: the kernel writes a 64-bit set, and the size says so.
    unsafe { syscall!(Sysno::rt_sigpending, &raw mut pending, size_of::<u64>()) }.map_err(errno)?;
    Ok(Set(pending))
}

/// A descriptor from which these signals, which must be blocked, can be read: non-blocking and close-on-exec.
pub fn signal_descriptor(signals: Set) -> Result<OwnedFd, Errno> {
    // SAFETY: the pointer is to a 64-bit set, and the size says so.
    let number = unsafe {
        syscall!(
            Sysno::signalfd4,
            -1_i32,
            &raw const signals.0,
            size_of::<u64>(),
            SFD_CLOEXEC | SFD_NONBLOCK
        )
    }
    .map_err(errno)?;
    // SAFETY: the kernel has just made this descriptor, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}
