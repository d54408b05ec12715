//! Who holds the other end of a pipe or socket, for reports on something that is still open.

use std::fmt::{self, Display};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::Pid;

use crate::system::process;

/// "still open after 5s: ", and which processes of the case hold the other end of `ours`, a pipe's or a Unix socket's end.
/// They are looked for when it is shown, and only then.
pub fn still_open(ours: &impl AsFd, patience: Duration) -> impl Display {
    fmt::from_fn(move |formatter| write!(formatter, "still open after {patience:?}: {}", of_other_end(ours)))
}

/// Which processes of the case hold the other end of `ours`, in words.
pub fn of_other_end(ours: &impl AsFd) -> String {
    let described = match other_end(ours) {
        Ok(Some(end)) => end,
        Ok(None) => return "its other end is closed".to_owned(),
        Err(error) => return format!("who holds its other end cannot be told: {error}"),
    };
    in_words(&of_the_case(|pid, number, target| {
        target == described.target
            && described
                .mode
                .is_none_or(|mode| access_mode(pid, number) == Some(mode))
    }))
}

/// Which processes of the case hold the file of this path open, in words.
pub fn of_file(path: &Path) -> String {
    in_words(&of_the_case(|_, _, target| target == path))
}

/// What /proc shows of an end.
struct End {
    /// The link's target, such as `pipe:[1234]`.
    target: PathBuf,
    /// O_RDONLY or O_WRONLY, where both ends have the same target.
    mode: Option<i32>,
}

fn other_end(ours: &impl AsFd) -> nix::Result<Option<End>> {
    let stat = fstat(ours)?;
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => {
            let flags = nix::fcntl::fcntl(ours, nix::fcntl::FcntlArg::F_GETFL)?;
            let other = if flags & libc::O_ACCMODE == libc::O_RDONLY {
                libc::O_WRONLY
            } else {
                libc::O_RDONLY
            };
            Ok(Some(End {
                target: format!("pipe:[{}]", stat.st_ino).into(),
                mode: Some(other),
            }))
        }
        SFlag::S_IFSOCK => Ok(peer_of(stat.st_ino)?.map(|inode| End {
            target: format!("socket:[{inode}]").into(),
            mode: None,
        })),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// The inode of the socket that the Unix socket with this inode is connected to, from sock_diag(7); none where that is closed.
fn peer_of(inode: u64) -> nix::Result<Option<u32>> {
    // The kernel's interface has 32 bits; a larger inode can't be asked about.
    let inode = u32::try_from(inode).map_err(|_| Errno::EOVERFLOW)?;
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let request = UnixRequest {
        state_flags: StateFlags::all(),
        inode,
        show_flags: ShowFlags::PEER,
        cookie: [0xff; 8],
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::UnixRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    sendto(
        kernel.as_raw_fd(),
        &bytes,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = vec![0; 8192];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer =
        NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..length]).map_err(|_| Errno::EBADMSG)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(socket)) => {
            Ok(socket.nlas.iter().find_map(|attribute| match attribute {
                // A socket that was closed has no inode any more.
                Nla::Peer(inode) => Some(*inode).filter(|inode| *inode != 0),
                _ => None,
            }))
        }
        NetlinkPayload::Error(error) => Err(Errno::from_raw(-error.raw_code())),
        _ => Err(Errno::EBADMSG),
    }
}

/// The access mode of another process's descriptor; none where it is gone.
fn access_mode(pid: i32, number: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & libc::O_ACCMODE)
}

/// The descriptors that `is_wanted`, of this process and of all that the case has started: its supervisor is a subreaper, so what has
/// lost its parents is below that.
fn of_the_case(is_wanted: impl Fn(i32, i32, &Path) -> bool) -> Vec<(i32, i32)> {
    let supervisor = Pid::parent().as_raw();
    let mut pids: Vec<i32> = process::descendants(supervisor)
        .iter()
        .map(|process| process.pid)
        .collect();
    pids.sort_unstable();
    let of_process = |pid: i32| {
        process::descriptors(pid)
            .into_iter()
            .map(move |(number, target)| (pid, number, target))
    };
    pids.into_iter()
        .flat_map(of_process)
        .filter(|(pid, number, target)| is_wanted(*pid, *number, target))
        .map(|(pid, number, _)| (pid, number))
        .collect()
}

fn in_words(holders: &[(i32, i32)]) -> String {
    if holders.is_empty() {
        return "no process of the case has it as a descriptor (it may be in a message that was not received)".to_owned();
    }
    let one = |(pid, number): &(i32, i32)| {
        let who: Box<dyn Display> = if *pid == std::process::id().cast_signed() {
            Box::new("the suite")
        } else {
            Box::new(process::describe(Pid::from_raw(*pid)))
        };
        format!("descriptor {number} of {who}")
    };
    let all: Vec<String> = holders.iter().map(one).collect();
    format!("held as {}", all.join("; "))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that holds `end` as its standard input until it is killed, once it has said that it runs.
    fn holder(end: impl Into<OwnedFd>) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", "echo runs; exec sleep 1000"])
            .stdin(Stdio::from(end.into()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut said = [0; 5];
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut said)
            .expect("it speaks");
        child
    }

    fn end(mut child: Child) {
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }

    #[test]
    fn the_holder_of_an_end_is_named_with_its_descriptor() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let child = holder(writer);
        let told = still_open(&reader, Duration::from_secs(5)).to_string();
        let wanted = format!(
            "still open after 5s: held as descriptor 0 of process {} (",
            child.id()
        );
        assert!(told.starts_with(&wanted), "{told}");
        end(child);

        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let child = holder(theirs);
        let told = of_other_end(&ours);
        let wanted = format!("descriptor 0 of process {} (", child.id());
        assert!(told.contains(&wanted), "{told}");
        end(child);

        // A process that another test starts holds a copy of all of this for a moment.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let of_the_suite = format!("descriptor {} of the suite", writer.as_raw_fd());
        let told = of_other_end(&reader);
        assert!(told.contains(&of_the_suite), "{told}");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let of_the_suite = format!("descriptor {} of the suite", theirs.as_raw_fd());
        let told = of_other_end(&ours);
        assert!(told.contains(&of_the_suite), "{told}");
        drop(theirs);
        let closed = || of_other_end(&ours) == "its other end is closed";
        assert!(process::eventually(Duration::from_secs(30), closed));
        let file = tempfile::tempfile().expect("a file");
        assert!(of_other_end(&file).starts_with("who holds its other end cannot be told: "));
    }
}
