//! The pair of datagram sockets behind a session.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// The variable with the number of the client's end.
pub(super) const SOCKET_VARIABLE: &str = "CODEX_ESCALATE_SOCKET";

/// The variable with the path of the program that a patched shell executes in place of every command.
pub(super) const EXEC_WRAPPER: &str = "EXEC_WRAPPER";

/// Scripts redirect the lowest numbers, and shells use those above them for themselves: stay clear of both.
const LOWEST_CLIENT_NUMBER: i32 = 100;

/// Both ends, the server's first, close-on-exec from the system call on.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (server, client) = socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let number = match fcntl(&client, FcntlArg::F_DUPFD_CLOEXEC(LOWEST_CLIENT_NUMBER)) {
        // The limit of open files is lower than that: then at least not a standard stream.
        Err(Errno::EINVAL | Errno::EMFILE) => fcntl(&client, FcntlArg::F_DUPFD_CLOEXEC(3))?,
        number => number?,
    };
    // SAFETY: fcntl has just made it.
    Ok((server, unsafe { OwnedFd::from_raw_fd(number) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::FdFlag;
    use std::os::fd::AsRawFd;

    #[test]
    fn both_ends_are_close_on_exec_and_the_client_is_out_of_the_way() {
        let (server, client) = pair().unwrap();
        for end in [&server, &client] {
            let flags = FdFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
        assert!(client.as_raw_fd() >= LOWEST_CLIENT_NUMBER);
    }
}
