//! Both ends of a program's standard streams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{PtyMaster, posix_openpt, unlockpt};
use nix::sys::termios::{InputFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcgetsid, tcsetattr};
use nix::unistd::{getsid, pipe2, read, tcgetpgrp, write};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::request::{Size, Streams};
use crate::watch::watch;

/// Where the host writes to. A pipe is closed when this is dropped.
pub(super) type Input = Arc<AsyncFd<OwnedFd>>;

/// The host's ends but for [`Input`].
#[derive(Clone, Debug)]
pub(super) struct HostStreams {
    pub(super) output: Arc<AsyncFd<OwnedFd>>,
    /// The program's end of a pseudo-terminal. While it is open here, reading from the other end waits for more instead of
    /// failing when all programs have closed theirs, and output that nobody has read yet isn't lost.
    terminal: Option<Arc<OwnedFd>>,
}

/// The program's ends: standard input, and standard output and error.
#[derive(Debug)]
pub(super) struct ProgramStreams {
    input: OwnedFd,
    output: OwnedFd,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Bytes(usize),
    /// There is nothing more at the moment.
    Paused,
    /// There will never be more.
    Closed,
}

/// Opens the streams. All descriptors are close-on-exec from the system call on.
pub(super) fn open(streams: Streams) -> io::Result<(HostStreams, Input, ProgramStreams)> {
    match streams {
        Streams::Terminal(size) => open_terminal(size),
        Streams::Pipes => open_pipes(),
    }
}

fn open_terminal(size: Size) -> io::Result<(HostStreams, Input, ProgramStreams)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags | OFlag::O_NONBLOCK)?;
    unlockpt(&master)?;
    let terminal = peer(&master, flags)?;
    let mut settings = tcgetattr(&terminal)?;
    // Erasing erases whole characters.
    settings.input_flags |= InputFlags::IUTF8;
    tcsetattr(&terminal, SetArg::TCSANOW, &settings)?;
    resize(terminal.as_fd(), size)?;
    // SAFETY: into_raw_fd gives the descriptor up.
    let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
    let master = Arc::new(watch(master, Interest::READABLE | Interest::WRITABLE)?);
    let theirs = ProgramStreams {
        input: terminal.try_clone()?,
        output: terminal.try_clone()?,
    };
    let ours = HostStreams {
        output: Arc::clone(&master),
        terminal: Some(Arc::new(terminal)),
    };
    Ok((ours, master, theirs))
}

/// TIOCGPTPEER: the program's end, wherever /dev/pts is.
fn peer(master: &PtyMaster, flags: OFlag) -> io::Result<OwnedFd> {
    // SAFETY: the call takes flags, and returns a new descriptor.
    let terminal = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    let terminal = Errno::result(terminal)?;
    // SAFETY: the call has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(terminal) })
}

fn open_pipes() -> io::Result<(HostStreams, Input, ProgramStreams)> {
    let (their_input, input) = pipe2(OFlag::O_CLOEXEC)?;
    let (output, their_output) = pipe2(OFlag::O_CLOEXEC)?;
    for ours in [&input, &output] {
        // Each end of a pipe has flags of its own.
        fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let ours = HostStreams {
        output: Arc::new(watch(output, Interest::READABLE)?),
        terminal: None,
    };
    let theirs = ProgramStreams {
        input: their_input,
        output: their_output,
    };
    let input = Arc::new(watch(input, Interest::WRITABLE)?);
    Ok((ours, input, theirs))
}

fn resize(terminal: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads one size.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

impl ProgramStreams {
    /// With their numbers in the program.
    pub(super) fn numbered(self) -> io::Result<Vec<(OwnedFd, RawFd)>> {
        let errors = self.output.try_clone()?;
        Ok(vec![(self.input, 0), (self.output, 1), (errors, 2)])
    }
}

impl HostStreams {
    /// The program's end of the pseudo-terminal, if it is one.
    pub(super) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_deref().map(AsFd::as_fd)
    }

    /// Changes the size, of which the foreground process group is told (SIGWINCH); false if there is none.
    pub(super) fn resize(&self, size: Size) -> io::Result<bool> {
        match self.terminal() {
            Some(terminal) => resize(terminal, size).map(|()| true),
            None => Ok(false),
        }
    }

    /// Sends a signal to the foreground process group; false if there is no terminal.
    pub(super) fn signal_foreground(&self, signal: i32) -> io::Result<bool> {
        if self.terminal.is_none() {
            return Ok(false);
        }
        // As a key does, which hits nobody else.
        // SAFETY: an integer.
        if unsafe { libc::ioctl(self.output.as_raw_fd(), libc::TIOCSIG, signal) } == 0 {
            return Ok(true);
        }
        // The kernel does so for the signals of keys only.
        let group = tcgetpgrp(&*self.output)?;
        match getsid(Some(group)) {
            // The number is another's by now.
            Ok(session) if session != tcgetsid(&*self.output)? => return Ok(true),
            // The group may outlive its leader.
            Ok(_) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
        // SAFETY: integers. nix has no real-time signals.
        match Errno::result(unsafe { libc::kill(-group.as_raw(), signal) }) {
            Ok(_) | Err(Errno::ESRCH) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// At least as many bytes as are on their way from the program, which can't be more than the kernel holds.
    pub(super) fn most_in_flight(&self) -> usize {
        let pipe = fcntl(&*self.output, FcntlArg::F_GETPIPE_SZ);
        // A pseudo-terminal holds some 12 KiB.
        pipe.ok()
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(64 * 1024)
    }

    /// The character that ends input when it is typed at the start of a line; `None` if there is none.
    pub(super) fn end_of_file(&self) -> io::Result<Option<u8>> {
        let Some(terminal) = self.terminal() else {
            return Ok(None);
        };
        let character = tcgetattr(terminal)?.control_chars[SpecialCharacterIndices::VEOF as usize];
        Ok((character != libc::_POSIX_VDISABLE).then_some(character))
    }

    /// Reads without waiting. Everything that was written before is there: the kernel delivers it first (n_tty_read).
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Chunk> {
        loop {
            return match read(&*self.output, buffer) {
                // EIO: there is no program's end any more.
                Ok(0) | Err(Errno::EIO) => Ok(Chunk::Closed),
                Ok(bytes) => Ok(Chunk::Bytes(bytes)),
                Err(Errno::EAGAIN) => Ok(Chunk::Paused),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// Writes all bytes, and waits as long as there is no room for them.
pub(super) async fn write_all(input: &Input, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = input.writable().await?;
        match write(&**input, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
