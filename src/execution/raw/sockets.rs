//! System calls about messages.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;

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

/// As many descriptors as one message may bring here.
const MOST_RECEIVED: usize = 64;
/// Room for them, and for what the kernel puts before them.
const ANCILLARY: usize = size_of::<libc::cmsghdr>() + MOST_RECEIVED * size_of::<RawFd>();

/// What came with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes of the message; 0 is the end.
    pub(crate) bytes: usize,
    /// How many descriptors there were; all are open, and close on exec.
    pub(crate) descriptors: usize,
    /// The first of them. The kernel takes the lowest free numbers, one by one.
    pub(crate) first: RawFd,
}

/// recvmsg(2) of a message with descriptors.
///
/// # Errors
/// EMFILE if there was no number for one of them.
pub(crate) fn receive(socket: RawFd, buffer: &mut [u8], flags: c_int) -> Result<Received> {
    #[repr(C, align(8))]
    struct Ancillary([u8; ANCILLARY]);
    let mut ancillary = Ancillary([0; ANCILLARY]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<c_void>(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut ancillary).cast();
    header.msg_controllen = ANCILLARY as _;
    let arguments = [
        socket as usize,
        (&raw mut header) as usize,
        (flags | libc::MSG_CMSG_CLOEXEC) as usize,
    ];
    // SAFETY: the kernel writes within the buffers, whose sizes the header says.
    let bytes = unsafe { syscall(libc::SYS_recvmsg, arguments) }?;
    if header.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) != 0 {
        return Err(Errno::EMFILE);
    }
    // SAFETY: the kernel has filled in the header.
    let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    let mut received = Received {
        bytes,
        descriptors: 0,
        first: -1,
    };
    if !message.is_null() {
        // SAFETY: within the buffer, which is aligned for it.
        let about = unsafe { ptr::read(message) };
        if about.cmsg_level == libc::SOL_SOCKET && about.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the length of a header, without padding behind it.
            let before = unsafe { libc::CMSG_LEN(0) } as usize;
            received.descriptors = (about.cmsg_len as usize).saturating_sub(before) / size_of::<RawFd>();
            // SAFETY: the data follows the header, and is a list of descriptors.
            received.first = unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast::<RawFd>()) };
        }
    }
    Ok(received)
}
