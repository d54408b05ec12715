//! recvmsg(2) with descriptors that are owned and close-on-exec from the system call on.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Descriptors for which there is room: one more than any message may have. The kernel installs no more, so that no sender makes
/// this process hold the 253 that one message can bring.
const MOST_DESCRIPTORS: usize = 17;

// CMSG_SPACE is not a constant function everywhere; this is its definition for 64-bit alignment, with room to spare.
const CONTROL_BYTES: usize = 64 + MOST_DESCRIPTORS * size_of::<libc::c_int>();

/// The peer's pidfd (unix(7), SO_PASSPIDFD, since Linux 6.5), which arrives if the socket's creator has enabled it.
const SCM_PIDFD: libc::c_int = 0x04;

#[repr(align(16))]
struct ControlBuffer(MaybeUninit<[u8; CONTROL_BYTES]>);

/// What one call received.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes of data; 0 is the end of a stream, or an empty datagram.
    pub bytes: usize,
    /// Descriptors, in the order of the message.
    pub descriptors: Vec<OwnedFd>,
    /// There were more descriptors than the kernel could install: than there was room for, or than this process may have.
    pub truncated: bool,
}

/// Receives data and any descriptors that come with it. Never blocks.
pub(crate) fn receive_with_descriptors(socket: BorrowedFd<'_>, data: &mut [u8]) -> io::Result<Received> {
    let mut control = ControlBuffer(MaybeUninit::uninit());
    let mut part = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: an all-zero msghdr is a valid one: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let received = loop {
        // SAFETY: `message` points to live buffers of the lengths it says.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        if let Ok(bytes) = usize::try_from(received) {
            break bytes;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    // First make every descriptor owned, so that no return path leaks one.
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled in `message`; the CMSG macros walk exactly what it wrote.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let kind = (*header).cmsg_type;
            if (*header).cmsg_level == libc::SOL_SOCKET && [libc::SCM_RIGHTS, SCM_PIDFD].contains(&kind) {
                let numbers: *const libc::c_int = libc::CMSG_DATA(header).cast();
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..bytes / size_of::<libc::c_int>() {
                    let descriptor = OwnedFd::from_raw_fd(ptr::read_unaligned(numbers.add(index)));
                    if kind == libc::SCM_RIGHTS {
                        descriptors.push(descriptor);
                    }
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    let truncated = message.msg_flags & libc::MSG_CTRUNC != 0;
    Ok(Received {
        bytes: received,
        descriptors,
        truncated,
    })
}

/// Receives only data: without room for them, the kernel installs no descriptors. Never blocks.
pub(crate) fn receive(socket: BorrowedFd<'_>, data: &mut [u8]) -> io::Result<usize> {
    loop {
        let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        match nix::sys::socket::recv(socket.as_raw_fd(), data, flags) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use sendfd::SendWithFd;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn nulls(count: usize) -> (Vec<File>, Vec<i32>) {
        let files: Vec<File> = (0..count).map(|_| File::open("/dev/null").unwrap()).collect();
        let numbers = files.iter().map(AsRawFd::as_raw_fd).collect();
        (files, numbers)
    }

    #[test]
    fn descriptors_arrive_close_on_exec() {
        let (client, server) = UnixStream::pair().unwrap();
        let (_files, numbers) = nulls(3);
        client.send_with_fd(b"x", &numbers).unwrap();
        let mut data = [0; 4];
        let received = receive_with_descriptors(server.as_fd(), &mut data).unwrap();
        assert_eq!(
            (received.bytes, received.descriptors.len(), received.truncated),
            (1, 3, false)
        );
        for descriptor in &received.descriptors {
            let flags = FdFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
    }

    #[test]
    fn no_more_descriptors_are_installed_than_there_is_room_for() {
        const SENT: usize = 253; // SCM_MAX_FD
        let (client, server) = UnixDatagram::pair().unwrap();
        let (_files, numbers) = nulls(SENT);
        client.send_with_fd(b"", &numbers).unwrap();
        let received = receive_with_descriptors(server.as_fd(), &mut [0; 1]).unwrap();
        // What is kept for credentials and a pidfd may be used, too.
        let installed = MOST_DESCRIPTORS..=MOST_DESCRIPTORS + 16;
        assert!(
            installed.contains(&received.descriptors.len()),
            "{}",
            received.descriptors.len()
        );
        assert!(received.truncated);
    }

    #[test]
    fn one_descriptor_more_than_a_message_may_have_is_not_cut() {
        let (client, server) = UnixStream::pair().unwrap();
        let (_files, numbers) = nulls(MOST_DESCRIPTORS);
        client.send_with_fd(b"x", &numbers).unwrap();
        let received = receive_with_descriptors(server.as_fd(), &mut [0; 1]).unwrap();
        assert_eq!(
            (received.descriptors.len(), received.truncated),
            (MOST_DESCRIPTORS, false)
        );
    }

    #[test]
    fn who_sends_is_no_descriptor_of_the_message() {
        let (client, server) = UnixStream::pair().unwrap();
        // The creator of both ends can request the peer's pidfd.
        nix::sys::socket::setsockopt(&server, nix::sys::socket::sockopt::PassCred, &true).unwrap();
        bring_pidfds(&server);
        let (_files, numbers) = nulls(2);
        const MESSAGES: usize = 200;
        for _ in 0..MESSAGES {
            client.send_with_fd(b"x", &numbers).unwrap();
            let received = receive_with_descriptors(server.as_fd(), &mut [0; 4]).unwrap();
            assert_eq!(received.descriptors.len(), 2);
        }
        // Other tests of this process may hold a few.
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let pidfds = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let pidfds = pidfds
            .filter(|target| target.to_string_lossy().contains("pidfd"))
            .count();
        assert!(pidfds < MESSAGES, "{pidfds} pidfds are open");
    }

    fn bring_pidfds(socket: &UnixStream) {
        const SO_PASSPIDFD: libc::c_int = 76; // of asm-generic/socket.h
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the value lives across the call. An old kernel knows no such option, which is as good.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSPIDFD,
                (&raw const on).cast(),
                length,
            );
        }
    }

    #[test]
    fn without_room_no_descriptor_is_installed() {
        let (client, server) = UnixStream::pair().unwrap();
        // A pipe shows whether its other end is open: once all writers are closed, it is at its end.
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        client.send_with_fd(b"x", &[writer.as_raw_fd()]).unwrap();
        drop(writer);
        assert_eq!(receive(server.as_fd(), &mut [0; 4]).unwrap(), 1);
        assert_eq!(nix::unistd::read(&reader, &mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn an_empty_blocking_socket_does_not_block() {
        let (_client, server) = socketpair(
            AddressFamily::Unix,
            SockType::Datagram,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let error = receive_with_descriptors(server.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
