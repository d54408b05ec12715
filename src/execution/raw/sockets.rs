//! System calls about messages.

use std::ffi::c_int;
use std::os::fd::RawFd;

use super::arch::{Result, syscall};

/// send(2)
pub(crate) fn send(socket: RawFd, message: &[u8], flags: c_int) -> Result<usize> {
    let arguments = [
        socket as usize,
        message.as_ptr() as usize,
        message.len(),
        flags as usize,
        0,
        0,
    ];
    // SAFETY: the kernel reads the message only; a null address is none.
    unsafe { syscall(libc::SYS_sendto, arguments) }
}

/// recv(2); 0 is the end.
pub(crate) fn recv(socket: RawFd, buffer: &mut [u8], flags: c_int) -> Result<usize> {
    let arguments = [
        socket as usize,
        buffer.as_mut_ptr() as usize,
        buffer.len(),
        flags as usize,
        0,
        0,
    ];
    // SAFETY: the kernel writes at most as many bytes as the buffer has, and no address to a null pointer.
    unsafe { syscall(libc::SYS_recvfrom, arguments) }
}
