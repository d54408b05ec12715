//! A terminal under a case's control: the master of a pseudoterminal, what is typed, and what appears.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use crate::case::context::Context;
use crate::system::clock::Moment;
use crate::system::holders::of_file;
use crate::system::poll::readable_until;
use crate::system::process::{self, ProcessHandle};
use crate::transcript::{Direction, Transcript};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The prompt that the suite's interactive shells show.
pub const PROMPT: &str = "ready> ";

/// What an interactive shell of the suite needs in its environment, so that it shows nothing but the prompt.
pub const VARIABLES: [(&str, &str); 4] = [
    ("TERM", "dumb"),
    ("PS1", PROMPT),
    ("INPUTRC", "/dev/null"),
    ("HISTFILE", "/dev/null"),
];

/// A terminal of 24 lines and 80 columns.
pub struct Terminal {
    master: File,
    /// The other side; kept until [`Self::let_go`], since the master reports end of file once no process has the other side open.
    slave: Option<OwnedFd>,
    /// Its path, such as `/dev/pts/4`.
    pub path: PathBuf,
    shown: Vec<u8>,
    seen: usize,
    transcript: Transcript,
    patience: Duration,
}

impl Terminal {
    /// A new terminal, which is not yet the controlling terminal of any session.
    pub fn open(context: &Context) -> Result<Terminal, CaseError> {
        let pair = openpty(Some(&size(24, 80)), None)?;
        for descriptor in [&pair.master, &pair.slave] {
            nix::fcntl::fcntl(
                descriptor,
                nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
            )?;
        }
        let path = nix::unistd::ttyname(&pair.slave)?;
        Ok(Terminal {
            master: File::from(pair.master),
            slave: Some(pair.slave),
            path,
            shown: Vec::new(),
            seen: 0,
            transcript: context.transcript.clone(),
            patience: context.patience(),
        })
    }

    /// A copy of the side that programs have open.
    pub fn other_side(&self) -> Result<OwnedFd, CaseError> {
        let slave = self
            .slave
            .as_ref()
            .ok_or_else(|| harness("the terminal's other side has been let go"))?;
        Ok(slave.try_clone()?)
    }

    /// From now on the terminal is at its end when no program has it open any more.
    pub fn let_go(&mut self) {
        self.slave = None;
    }

    /// Types.
    pub fn type_text(&mut self, text: &str) -> Verdict {
        self.transcript
            .message(Direction::ToImplementation, "terminal", text.as_bytes(), 0);
        self.master.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Waits until `text` appears after what has been waited for before; gives what appeared up to it.
    ///
    /// # Errors
    /// A violation where it doesn't.
    pub fn wait_for(&mut self, text: &str) -> Result<String, CaseError> {
        let deadline = Moment::now() + self.patience;
        loop {
            if let Some(start) = find(&self.shown[self.seen..], text.as_bytes()) {
                let end = self.seen + start + text.len();
                let appeared = String::from_utf8_lossy(&self.shown[self.seen..end]).into_owned();
                self.seen = end;
                return Ok(appeared);
            }
            if !self.read_some(deadline)? {
                return Err(violation(
                    format_args!("{text:?} appears on the terminal"),
                    format_args!(
                        "within {:?} only this: {:?}",
                        self.patience,
                        String::from_utf8_lossy(&self.shown[self.seen..])
                    ),
                ));
            }
        }
    }

    /// Types a line and waits for the next prompt; gives what appeared between.
    pub fn command(&mut self, line: &str) -> Result<String, CaseError> {
        self.type_text(&format!("{line}\n"))?;
        self.wait_for(PROMPT)
    }

    /// Runs `echo WORD` until what was on its way before has appeared: after this, only what is typed next does.
    pub fn synchronize(&mut self, word: &str) -> Verdict {
        self.type_text(&format!("echo {word}\n"))?;
        self.wait_for(&format!("\n{word}\r\n"))?;
        self.wait_for(PROMPT)?;
        Ok(())
    }

    /// Waits until no program has the terminal open.
    ///
    /// # Errors
    /// A violation where one keeps it.
    pub fn expect_end(&mut self) -> Verdict {
        self.let_go();
        let deadline = Moment::now() + self.patience;
        while self.read_some(deadline)? {}
        if !deadline.is_over() {
            return Ok(());
        }
        Err(violation(
            "no program keeps the terminal open",
            format_args!(
                "one still does after {:?}: {}",
                self.patience,
                of_file(&self.path)
            ),
        ))
    }

    /// Reads what appears until that process has ended, or for as long as one event may take.
    pub fn read_until_end_of(&mut self, process: &ProcessHandle) -> Verdict {
        const PIECE: Duration = Duration::from_millis(10);
        let deadline = Moment::now() + self.patience;
        while !deadline.is_over() && !process.ended_within(Duration::ZERO)? {
            self.read_some(Moment::now() + PIECE)?;
        }
        Ok(())
    }

    /// Changes the window's size, which tells the foreground process group by SIGWINCH.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Verdict {
        let size = size(rows, columns);
        // SAFETY: the ioctl reads the structure, on a descriptor that is open.
        let status = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        nix::errno::Errno::result(status)?;
        Ok(())
    }

    /// The terminal's foreground process group.
    pub fn foreground_group(&self) -> Result<i32, CaseError> {
        Ok(nix::unistd::tcgetpgrp(self.master.as_fd())?.as_raw())
    }

    /// Waits until another process group than `group` is in the foreground. The kernel has no event for it, so
    /// it is asked again and again.
    ///
    /// # Errors
    /// A violation where that doesn't happen.
    pub fn wait_until_given_away(&self, group: i32) -> Verdict {
        let deadline = Moment::now() + self.patience;
        while self.foreground_group()? == group {
            if deadline.is_over() {
                return Err(violation(
                    "the shell puts another process group in the foreground",
                    format_args!("its own, {group}, still is there after {:?}", self.patience),
                ));
            }
            process::rest();
        }
        Ok(())
    }

    /// Everything that has appeared, with line ends as they are in files.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown).replace("\r\n", "\n")
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False at the deadline and at the terminal's end.
    fn read_some(&mut self, deadline: Moment) -> Result<bool, CaseError> {
        if !readable_until(&self.master, deadline)? {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            // EIO is how Linux reports that no process has the other side open.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(false),
            Ok(0) => Ok(false),
            Ok(length) => {
                self.transcript
                    .message(Direction::FromImplementation, "terminal", &bytes[..length], 0);
                self.shown.extend_from_slice(&bytes[..length]);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
