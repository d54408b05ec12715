//! Descriptors in control messages.

use std::os::fd::RawFd;

/// Closes as many of a message's descriptors as `most` says, and returns how many that were.
pub fn close_descriptors(message: &libc::msghdr, most: usize) -> usize {
    let mut closed = 0;
    // SAFETY: the CMSG functions walk what the kernel wrote into our control buffer.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..count.min(most) {
                    libc::close(data.add(index).read_unaligned());
                    closed += 1;
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    closed
}

/// sendmsg(2) with descriptors.
pub fn send_with(socket: RawFd, bytes: &[u8], descriptors: &[RawFd], flags: i32) -> Result<usize, i32> {
    let mut control = [0_u64; 32];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: an all-zero msghdr is valid; the control buffer has room for 16 descriptors and more.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let size = size_of_val(descriptors) as u32;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            std::ptr::copy_nonoverlapping(
                descriptors.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                size as usize,
            );
        }
        let sent = libc::sendmsg(socket, &raw const message, flags);
        usize::try_from(sent).map_err(|_| *libc::__errno_location())
    }
}
