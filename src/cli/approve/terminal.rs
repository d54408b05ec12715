//! The controlling terminal, for the time of a question.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::sys::termios::{
    FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, tcflush,
    tcgetattr, tcsetattr,
};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{self, SignalKind};

/// The controlling terminal. Once taken, this process is in its foreground, and its settings are the question's, until this is
/// dropped.
pub(super) struct Terminal {
    file: AsyncFd<File>,
    /// Arrives with each line of input, also if another process reads it first.
    input: unix::Signal,
    taken: Option<Taken>,
}

/// What to restore.
struct Taken {
    /// The process group to give the terminal back to.
    foreground: Option<Pid>,
    settings: Termios,
    on_output: SigHandler,
}

/// What came of waiting for a line.
pub(super) enum Input {
    Line(String),
    End,
    /// A line was typed, but is not here.
    Stolen,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        // A new open file description: O_NONBLOCK on it affects no other process.
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/tty")?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: a File holds the same open descriptor until it is dropped.
        let file = unsafe { AsyncFd::register_with_interest(options, interest) }?;
        Ok(Self {
            file,
            input: unix::signal(SignalKind::io())?,
            taken: None,
        })
    }

    /// Whether a process is known not to be in the terminal's foreground.
    pub(super) fn is_background(&self, process: Option<i32>) -> bool {
        let group = process.and_then(|process| getpgid(Some(Pid::from_raw(process))).ok());
        let foreground = tcgetpgrp(self.file.get_ref()).ok();
        matches!((group, foreground), (Some(group), Some(foreground)) if group != foreground)
    }

    /// Moves this process to the foreground, so that reading does not stop it, and prepares the terminal for a question,
    /// whatever state it is in.
    pub(super) fn take(&mut self) -> io::Result<()> {
        let terminal = self.file.get_ref();
        let settings = tcgetattr(terminal)?;
        let foreground = tcgetpgrp(terminal).ok().filter(|&group| group != getpgrp());
        // A background process is stopped if it changes the terminal, or its foreground group.
        // SAFETY: ignoring a signal needs no handler.
        let on_output = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
        // From here on, dropping this restores all.
        let taken = self.taken.insert(Taken {
            foreground,
            settings,
            on_output,
        });
        if foreground.is_some() {
            tcsetpgrp(terminal, getpgrp())?;
        }
        tcsetattr(terminal, SetArg::TCSANOW, &for_a_question(&taken.settings))?;
        self.ask_for_signals()
    }

    /// Lets the kernel announce input by SIGIO, to this process only.
    fn ask_for_signals(&self) -> io::Result<()> {
        let terminal = self.file.get_ref().as_raw_fd();
        let own = std::process::id().cast_signed();
        // SAFETY: fcntl(2) with integers, on a descriptor that lives across the calls.
        let failed = unsafe {
            libc::fcntl(terminal, libc::F_SETOWN, own) == -1
                || libc::fcntl(terminal, libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC) == -1
        };
        if failed {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Forwards an interrupt to the previous foreground group.
    pub(super) fn interrupt(&self) {
        if let Some(foreground) = self.taken.as_ref().and_then(|taken| taken.foreground) {
            // If the group no longer exists, there is nothing to interrupt.
            let _ = killpg(foreground, Signal::SIGINT);
        }
    }

    /// Discards what has been typed so far.
    pub(super) fn forget_input(&self) -> io::Result<()> {
        Ok(tcflush(self.file.get_ref(), FlushArg::TCIFLUSH)?)
    }

    /// Writes all of it, waiting while the terminal's output is stopped.
    pub(super) async fn say(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let mut ready = self.file.writable_mut().await?;
            match ready.get_inner_mut().write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next line, which ends with a newline or a carriage return.
    pub(super) async fn line(&mut self) -> io::Result<Input> {
        let mut line = Vec::new();
        loop {
            tokio::select! {
                _ = self.input.recv() => {}
                ready = self.file.ready_mut(Interest::READABLE) => {
                    let mut ready = ready?;
                    if !ready.ready().is_read_closed() {
                        // Announced by the signal as well, which tells an answer from its theft.
                        ready.clear_ready();
                        continue;
                    }
                }
            }
            let before = line.len();
            loop {
                let mut byte = [0];
                match self.file.get_mut().read(&mut byte) {
                    Ok(0) => return Ok(Input::End),
                    Ok(_) if matches!(byte, [b'\n' | b'\r']) => {
                        return Ok(Input::Line(String::from_utf8_lossy(&line).into_owned()));
                    }
                    Ok(_) if line.len() < LONGEST_ANSWER => line.push(byte[0]),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if before == line.len() {
                return Ok(Input::Stolen);
            }
        }
    }
}

/// Far longer than any answer.
const LONGEST_ANSWER: usize = 1000;

/// Lines with echo, usual keys, signals but no stop (which would stop the server), and nothing written by the background.
fn for_a_question(settings: &Termios) -> Termios {
    let mut asking = settings.clone();
    asking.local_flags |= LocalFlags::ICANON
        | LocalFlags::ECHO
        | LocalFlags::ECHOE
        | LocalFlags::ECHOK
        | LocalFlags::ISIG
        | LocalFlags::TOSTOP;
    asking.local_flags &= !(LocalFlags::ECHONL | LocalFlags::NOFLSH | LocalFlags::EXTPROC);
    asking.input_flags |= InputFlags::ICRNL;
    asking.input_flags &= !(InputFlags::INLCR | InputFlags::IGNCR | InputFlags::ISTRIP);
    asking.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
    asking.output_flags &= !(OutputFlags::OLCUC | OutputFlags::OCRNL | OutputFlags::ONLRET);
    let erase = match settings.control_chars[SpecialCharacterIndices::VERASE as usize] {
        backspace @ 8 => backspace,
        _ => 127,
    };
    let control = |letter: u8| letter & 0x1f;
    for (index, character) in [
        (SpecialCharacterIndices::VINTR, control(b'C')),
        (SpecialCharacterIndices::VQUIT, control(b'\\')),
        (SpecialCharacterIndices::VERASE, erase),
        (SpecialCharacterIndices::VKILL, control(b'U')),
        (SpecialCharacterIndices::VEOF, control(b'D')),
        (SpecialCharacterIndices::VEOL, 0),
        (SpecialCharacterIndices::VEOL2, 0),
        (SpecialCharacterIndices::VSUSP, 0),
    ] {
        asking.control_chars[index as usize] = character;
    }
    asking
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        let terminal = self.file.get_ref();
        // A shell whose job has ended in the meantime has already taken the terminal back, and set it as it likes.
        if tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()) {
            // If these fail, the terminal is gone, or the group no longer exists: the shell takes its terminal back.
            let _ = tcsetattr(terminal, SetArg::TCSANOW, &taken.settings);
            if let Some(foreground) = taken.foreground {
                let _ = tcsetpgrp(terminal.as_fd(), foreground);
            }
        }
        // SAFETY: this is what it was before; a handler of this process is still there.
        let _ = unsafe { signal(Signal::SIGTTOU, taken.on_output) };
    }
}
