//! Both ends of a terminal: a pseudo-terminal, or pipes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::faults::{Fault, Variant, broken, unusual};

/// Rows and columns of a pseudo-terminal.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The ends of a terminal: those of its process, and those that stay here.
pub struct Ends {
    /// Standard input, output and error of the process.
    pub theirs: Vec<OwnedFd>,
    /// What is written to.
    pub input: File,
    /// What is read.
    pub outputs: Vec<File>,
    /// The other end of the pseudo-terminal.
    pub master: Option<File>,
}

impl Ends {
    /// A pseudo-terminal of that size.
    pub fn of_pseudo_terminal(size: Size) -> io::Result<Ends> {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: these take integers, and the numbers that they return are new and have no other owner.
        let (master, slave) = unsafe {
            let master = Errno::result(libc::posix_openpt(flags))?;
            let master = OwnedFd::from_raw_fd(master);
            if broken(Fault::MasterInheritable) {
                libc::fcntl(master.as_raw_fd(), libc::F_SETFD, 0);
            }
            Errno::result(libc::unlockpt(master.as_raw_fd()))?;
            let slave = Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?;
            (File::from(master), OwnedFd::from_raw_fd(slave))
        };
        if !broken(Fault::SizeNotGiven) {
            set_size(&master, size)?;
        }
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut theirs = vec![slave.try_clone()?, slave.try_clone()?, slave];
        if broken(Fault::ErrorsNotOnTheTerminal) {
            theirs[2] = File::options().write(true).open("/dev/null")?.into();
        }
        Ok(Ends {
            theirs,
            input: master.try_clone()?,
            outputs: vec![master.try_clone()?],
            master: Some(master),
        })
    }

    /// A pipe for input, and one for output.
    pub fn of_pipes() -> io::Result<Ends> {
        let (input, our_input) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (our_output, output) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let mut outputs = vec![File::from(our_output)];
        let mut error = output.try_clone()?;
        if unusual(Variant::PipeForErrors) {
            let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            outputs.push(ours.into());
            error = theirs;
        }
        if broken(Fault::ErrorsNotOnTheTerminal) {
            error = File::options().write(true).open("/dev/null")?.into();
        }
        for ours in &outputs {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        fcntl(&our_input, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Ends {
            theirs: vec![input, output, error],
            input: our_input.into(),
            outputs,
            master: None,
        })
    }
}

/// Changes the size of the pseudo-terminal.
pub fn set_size(master: &File, size: Size) -> io::Result<()> {
    let mut window = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    if broken(Fault::RowsForColumns) {
        (window.ws_row, window.ws_col) = (window.ws_col, window.ws_row);
    }
    // SAFETY: the ioctl reads the structure.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) })?;
    Ok(())
}
