//! System calls about names of files, and what they mean to a process.

use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;

use nix::errno::Errno;

use super::arch::{Result, syscall};

/// openat(2), relative to the working directory; creates nothing.
pub(crate) fn open(path: &CStr, flags: c_int) -> Result<RawFd> {
    let arguments = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0];
    // SAFETY: the path is NUL-terminated; the kernel only reads it.
    unsafe { syscall(libc::SYS_openat, arguments) }.map(|descriptor| descriptor as RawFd)
}

/// Opens once more, for reading, what a descriptor is open on; it may have been opened with O_PATH. Never waits.
pub(crate) fn reopen(descriptor: RawFd) -> Result<RawFd> {
    with_number(b"/proc/self/fd/", descriptor, b"", |path| {
        open(
            path,
            libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY,
        )
    })
}

/// statx(2) of what a process executes.
pub(crate) fn statx_executable(process: i32, mask: u32) -> Result<libc::statx> {
    with_number(b"/proc/", process, b"/exe", |path| statx(path, mask))
}

/// Opens what /proc says of that process's state.
pub(crate) fn open_status(process: i32) -> Result<RawFd> {
    with_number(b"/proc/", process, b"/status", |path| {
        open(path, libc::O_RDONLY | libc::O_CLOEXEC)
    })
}

/// Opens what /proc says of that process's name.
pub(crate) fn open_name(process: i32) -> Result<RawFd> {
    with_number(b"/proc/", process, b"/comm", |path| {
        open(path, libc::O_RDONLY | libc::O_CLOEXEC)
    })
}

/// Calls `act` with a path that has a number in it.
fn with_number<T>(
    before: &[u8],
    number: i32,
    after: &[u8],
    act: impl FnOnce(&CStr) -> Result<T>,
) -> Result<T> {
    let mut path = [0_u8; 32];
    let mut digits = [0_u8; 10];
    let mut rest = number.cast_unsigned();
    let mut count = 0;
    for digit in &mut digits {
        *digit = b'0' | (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.iter().take(count).rev();
    for (place, byte) in path.iter_mut().zip(before.iter().chain(digits).chain(after)) {
        *place = *byte;
    }
    act(CStr::from_bytes_until_nul(&path).map_err(|_| Errno::ENAMETOOLONG)?)
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
