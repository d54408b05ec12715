//! System calls about names of files, and what they mean to a process.

use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;

use super::arch::{Result, syscall};

/// openat(2), relative to the working directory; creates nothing.
pub(crate) fn open(path: &CStr, flags: c_int) -> Result<RawFd> {
    let arguments = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0];
    // SAFETY: the path is NUL-terminated; the kernel only reads it.
    unsafe { syscall(libc::SYS_openat, arguments) }.map(|descriptor| descriptor as RawFd)
}

/// statx(2) of what `path` leads to from the working directory, links followed.
pub(crate) fn statx(path: &CStr, mask: u32) -> Result<libc::statx> {
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let arguments = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        0,
        mask as usize,
        (&raw mut found) as usize,
    ];
    // SAFETY: the path is NUL-terminated, and the kernel writes one statx.
    unsafe { syscall(libc::SYS_statx, arguments) }?;
    Ok(found)
}

/// fchdir(2)
pub(crate) fn fchdir(directory: RawFd) -> Result<()> {
    // SAFETY: an integer.
    unsafe { syscall(libc::SYS_fchdir, [directory as usize]) }.map(drop)
}

/// chdir(2)
pub(crate) fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: the path is NUL-terminated; the kernel only reads it.
    unsafe { syscall(libc::SYS_chdir, [path.as_ptr() as usize]) }.map(drop)
}

/// umask(2), which can't fail.
pub(crate) fn umask(mask: u32) {
    // SAFETY: an integer.
    let _ = unsafe { syscall(libc::SYS_umask, [mask as usize]) };
}
