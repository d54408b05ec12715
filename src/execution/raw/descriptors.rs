//! System calls about open descriptors.

use std::ffi::{c_int, c_short};
use std::os::fd::RawFd;

use super::arch::{Result, syscall};
use super::clock::Deadline;

/// dup3(2); `flags` are 0 or O_CLOEXEC.
pub(crate) fn dup3(from: RawFd, to: RawFd, flags: c_int) -> Result<()> {
    // SAFETY: three integers.
    unsafe { syscall(libc::SYS_dup3, [from as usize, to as usize, flags as usize]) }.map(drop)
}

/// fcntl(2), F_SETFD: the descriptor is inherited from now on.
pub(crate) fn clear_close_on_exec(descriptor: RawFd) -> Result<()> {
    // SAFETY: three integers.
    unsafe { syscall(libc::SYS_fcntl, [descriptor as usize, libc::F_SETFD as usize, 0]) }.map(drop)
}

/// fcntl(2), F_DUPFD_CLOEXEC: the lowest free number from `lowest` on.
pub(crate) fn duplicate_from(lowest: RawFd, descriptor: RawFd) -> Result<RawFd> {
    let command = libc::F_DUPFD_CLOEXEC as usize;
    // SAFETY: three integers.
    unsafe { syscall(libc::SYS_fcntl, [descriptor as usize, command, lowest as usize]) }
        .map(|descriptor| descriptor as RawFd)
}

/// close(2)
pub(crate) fn close(descriptor: RawFd) -> Result<()> {
    // SAFETY: an integer.
    unsafe { syscall(libc::SYS_close, [descriptor as usize]) }.map(drop)
}

/// close_range(2), both ends included.
pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: integers.
    unsafe { syscall(libc::SYS_close_range, [first as usize, last as usize, 0]) }.map(drop)
}

/// read(2); the number of bytes read.
pub(crate) fn read(descriptor: RawFd, buffer: &mut [u8]) -> Result<usize> {
    let address = buffer.as_mut_ptr() as usize;
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    unsafe { syscall(libc::SYS_read, [descriptor as usize, address, buffer.len()]) }
}

/// write(2); the number of bytes written.
pub(crate) fn write(descriptor: RawFd, bytes: &[u8]) -> Result<usize> {
    let address = bytes.as_ptr() as usize;
    // SAFETY: the kernel reads the bytes only.
    unsafe { syscall(libc::SYS_write, [descriptor as usize, address, bytes.len()]) }
}

/// An entry for [`ppoll`].
pub(crate) fn pollfd(descriptor: RawFd, events: c_short) -> libc::pollfd {
    libc::pollfd {
        fd: descriptor,
        events,
        revents: 0,
    }
}

/// ppoll(2) without a time limit and with the signal mask as it is.
pub(crate) fn ppoll(watched: &mut [libc::pollfd]) -> Result<()> {
    let address = watched.as_mut_ptr() as usize;
    // SAFETY: the kernel writes to as many entries as the slice has; null pointers mean no limit and no mask.
    unsafe { syscall(libc::SYS_ppoll, [address, watched.len()]) }.map(drop)
}

/// ppoll(2) until `deadline` at most; false when nothing has happened until then.
pub(crate) fn ppoll_until(watched: &mut [libc::pollfd], deadline: Deadline) -> Result<bool> {
    let left = deadline.left();
    let mut left = libc::timespec {
        tv_sec: left.as_secs() as libc::time_t,
        tv_nsec: left.subsec_nanos().into(),
    };
    let arguments = [
        watched.as_mut_ptr() as usize,
        watched.len(),
        (&raw mut left) as usize,
    ];
    // SAFETY: the kernel writes to as many entries as the slice has, and to one timespec; a null pointer means no mask.
    unsafe { syscall(libc::SYS_ppoll, arguments) }.map(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::os::fd::AsRawFd;

    #[test]
    fn errors_are_returned_and_leave_errno_alone() {
        Errno::ENOTTY.set();
        assert_eq!(close(-1), Err(Errno::EBADF));
        // Other architectures use libc's wrappers, in memory that isn't shared.
        if cfg!(target_arch = "x86_64") {
            assert_eq!(Errno::last(), Errno::ENOTTY);
        }
    }

    #[test]
    fn a_pipe_is_polled_written_and_read() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut watched = [
            pollfd(reader.as_raw_fd(), libc::POLLIN),
            pollfd(writer.as_raw_fd(), libc::POLLOUT),
        ];
        ppoll(&mut watched).unwrap();
        assert_eq!(watched.map(|entry| entry.revents), [0, libc::POLLOUT]);
        assert_eq!(write(writer.as_raw_fd(), b"abc"), Ok(3));
        let mut buffer = [0; 8];
        assert_eq!(read(reader.as_raw_fd(), &mut buffer), Ok(3));
        assert_eq!(&buffer[..3], b"abc");
    }
}
