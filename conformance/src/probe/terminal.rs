//! A probe on a terminal: taking one as its own, its size, and the signals that come with it.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Makes the terminal at `path` the controlling one of a new session, and 0, 1 and 2 of this process.
///
/// A process that leads a process group can't start a session: then a child does, goes on in its place, and
/// this process ends as the child does.
///
/// # Errors
/// Where the terminal cannot be opened or is another session's.
pub fn take(path: &Path) -> io::Result<()> {
    match setsid() {
        Ok(_) => {}
        Err(Errno::EPERM) => {
            // SAFETY: the probe has one thread, so the child may do anything.
            if let ForkResult::Parent { child } = unsafe { fork() }? {
                match waitpid(child, None)? {
                    WaitStatus::Exited(_, status) => std::process::exit(status),
                    WaitStatus::Signaled(_, signal, _) => super::own::die_by(signal as i32),
                    other => return Err(io::Error::other(format!("waitpid gave {other:?}"))),
                }
            }
            setsid()?;
        }
        Err(error) => return Err(error.into()),
    }
    let terminal = File::options().read(true).write(true).open(path)?;
    // SAFETY: TIOCSCTTY takes an integer.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)?;
    Ok(())
}

/// Rows and columns of the terminal at standard input.
pub fn size() -> io::Result<String> {
    // SAFETY: an all-zero winsize is valid; the ioctl writes to it.
    let size = unsafe {
        let mut size: nix::pty::Winsize = std::mem::zeroed();
        Errno::result(libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size))?;
        size
    };
    Ok(format!("{} {}", size.ws_row, size.ws_col))
}

/// Asks on the controlling terminal, and prints the answer to standard output.
pub fn ask(output: &mut impl Write) -> io::Result<()> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(b"question> ")?;
    let mut answer = String::new();
    io::BufReader::new(terminal).read_line(&mut answer)?;
    write!(output, "answer: {answer}")
}

/// Says `waiting`, waits for SIGWINCH, and prints the size.
pub fn wait_for_resize(output: &mut impl Write) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGWINCH);
    // Blocked first: it may come as soon as the word is out.
    signals.thread_block()?;
    writeln!(output, "waiting")?;
    output.flush()?;
    signals.wait()?;
    writeln!(output, "{}", size()?)
}

/// From now on a SIGCONT continues this process and then waits to be taken by [`pause`].
pub fn hold_continuations() -> io::Result<()> {
    continuations().thread_block()?;
    Ok(())
}

/// Sleeps until a signal ends this process; says `continued` each time that it has been continued.
pub fn pause(output: &mut impl Write) -> io::Result<()> {
    output.flush()?;
    loop {
        continuations().wait()?;
        writeln!(output, "continued")?;
        output.flush()?;
    }
}

fn continuations() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCONT);
    signals
}
