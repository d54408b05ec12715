//! A probe that is connected to its case: it sends its report, then obeys orders, one line of JSON each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sendfd::SendWithFd;
use serde::{Deserialize, Serialize};

use super::own;
use super::report::{self, Report};

/// What a case can order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A new report, as things are now.
    Report,
    /// Sends a copy of this descriptor.
    SendDescriptor(i32),
    /// Closes a descriptor.
    Close(i32),
    /// Writes bytes to a descriptor.
    Write(i32, Vec<u8>),
    /// Writes so many bytes of any kind to a descriptor.
    Fill(i32, usize),
    /// Reads up to so many bytes; blocks until there are some or the end.
    Read(i32, usize),
    /// Forks; the child connects to the case as a probe of its own.
    Fork {
        /// The child starts a session of its own.
        new_session: bool,
        /// The child leads a process group of its own.
        new_group: bool,
        /// The child is a grandchild whose parent has exited.
        orphan: bool,
    },
    /// Executes a program in place of the probe.
    Execute {
        /// The file.
        file: String,
        /// The argument vector.
        arguments: Vec<String>,
    },
    /// From now on these signals are not acted on but reported, as [`Answer::Signal`].
    Watch(Vec<i32>),
    /// Ignores a signal.
    Ignore(i32),
    /// Sends a signal: to a process, a group (negative) or its own group (0).
    Kill(i32, i32),
    /// Puts a process group in the foreground of the terminal that is descriptor 0.
    Foreground(i32),
    /// Becomes another user and group, as programs with other credentials do. Needs privilege.
    ChangeUser(u32),
    /// Forks again and again and lets the parent exit, so many times; the last one stays. Answered when the
    /// first have followed each other; the connection ends when the last one has ended.
    Flee {
        /// How many processes follow each other.
        generations: u32,
        /// Each of them starts a session of its own.
        new_session: bool,
    },
    /// Forks so many children as fast as it can; all of them stay, as does the process itself. Answered when
    /// the first are there; the connection ends when the last of them has ended.
    Breed {
        /// How many children.
        children: u32,
        /// Each of them starts a session of its own.
        new_session: bool,
    },
    /// Changes the working directory.
    ChangeDirectory(String),
    /// Dies by a signal.
    Die(i32),
    /// Exits with a status.
    Exit(i32),
}

/// What a probe answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A report.
    Report(Box<Report>),
    /// Done.
    Done,
    /// The bytes that were read; empty at the end of the file.
    Bytes(Vec<u8>),
    /// The order failed with this errno.
    Failed(i32),
    /// A watched signal came. Sent at any time, between answers.
    Signal(i32),
}

/// Connects to the case at `socket` and obeys until the connection ends. Returns the exit status.
///
/// # Errors
/// Where the connection cannot be made or breaks.
pub fn obey(socket: &Path, report: Report) -> io::Result<i32> {
    let mut stream = high_descriptor(UnixStream::connect(socket)?)?;
    answer(&mut stream, &Answer::Report(Box::new(report)))?;
    let mut orders = BufReader::new(stream.try_clone().and_then(high_descriptor)?);
    let mut signals: Option<SignalFd> = None;
    loop {
        if orders.buffer().is_empty() && !wait(&stream, &mut signals)? {
            continue;
        }
        let mut line = String::new();
        if orders.read_line(&mut line)? == 0 {
            return Ok(0);
        }
        let order: Order = serde_json::from_str(&line)?;
        match order {
            Order::Exit(status) => return Ok(status),
            Order::Die(signal) => own::die_by(signal),
            Order::Flee {
                generations,
                new_session,
            } => match flee(&mut stream, generations, new_session)? {},
            Order::Breed {
                children,
                new_session,
            } => match breed(&mut stream, children, new_session)? {},
            Order::Watch(numbers) => {
                signals = Some(watch(&numbers)?);
                answer(&mut stream, &Answer::Done)?;
            }
            Order::Fork {
                new_session,
                new_group,
                orphan,
            } => {
                if fork(new_session, new_group, orphan)? {
                    stream = high_descriptor(UnixStream::connect(socket)?)?;
                    orders = BufReader::new(stream.try_clone().and_then(high_descriptor)?);
                    answer(&mut stream, &Answer::Report(Box::new(report::take())))?;
                } else {
                    answer(&mut stream, &Answer::Done)?;
                }
            }
            order => {
                let reply = carry_out(&order, &stream);
                answer(
                    &mut stream,
                    &reply.unwrap_or_else(|error| Answer::Failed(error.raw_os_error().unwrap_or(0))),
                )?;
            }
        }
    }
}

/// Moves the connection out of the way of the numbers that cases look at.
fn high_descriptor(stream: UnixStream) -> io::Result<UnixStream> {
    let high = nix::fcntl::fcntl(&stream, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(700))
        .or_else(|_| nix::fcntl::fcntl(&stream, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3)))?;
    // SAFETY: the descriptor is new and nothing else owns it.
    Ok(unsafe { UnixStream::from_raw_fd(high) })
}

fn answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Waits for an order; a watched signal is reported and gives false.
fn wait(stream: &UnixStream, signals: &mut Option<SignalFd>) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let Some(watched) = signals else { return Ok(true) };
    let mut set = [
        PollFd::new(stream.as_fd(), PollFlags::POLLIN),
        PollFd::new(watched.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut set, PollTimeout::NONE) {
        Err(nix::errno::Errno::EINTR) => return Ok(false),
        other => other?,
    };
    let signalled = set[1].any().unwrap_or(false);
    if signalled && let Some(information) = watched.read_signal()? {
        let mut stream = stream.try_clone()?;
        answer(&mut stream, &Answer::Signal(information.ssi_signo as i32))?;
        return Ok(false);
    }
    Ok(true)
}

fn watch(numbers: &[i32]) -> io::Result<SignalFd> {
    // SAFETY: an all-zero sigset_t is valid, and sigemptyset and sigaddset only write to it. Numbers rather than
    // nix's signals, which know no real-time ones.
    let set = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in numbers {
            if libc::sigaddset(&raw mut set, *number) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        SigSet::from_sigset_t_unchecked(set)
    };
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// So many processes have been forked when an order to fork on and on is answered.
const UNDER_WAY: u32 = 20;

/// So many processes one after the other; the last one stays.
fn flee(
    stream: &mut UnixStream,
    generations: u32,
    new_session: bool,
) -> io::Result<std::convert::Infallible> {
    use nix::unistd::{ForkResult, fork, setsid};
    for generation in 0..generations {
        if generation == UNDER_WAY {
            answer(stream, &Answer::Done)?;
        }
        // SAFETY: the probe has one thread, so the child may do anything; _exit takes an integer.
        unsafe {
            if let ForkResult::Parent { .. } = fork()? {
                libc::_exit(0);
            }
        }
        if new_session {
            setsid()?;
        }
    }
    loop {
        nix::unistd::pause();
    }
}

/// So many children, all of which stay.
fn breed(stream: &mut UnixStream, children: u32, new_session: bool) -> io::Result<std::convert::Infallible> {
    use nix::unistd::{ForkResult, fork, setsid};
    for child in 0..children {
        if child == UNDER_WAY {
            answer(stream, &Answer::Done)?;
        }
        // SAFETY: the probe has one thread, so the child may do anything.
        if let ForkResult::Child = unsafe { fork()? } {
            if new_session {
                setsid()?;
            }
            break;
        }
    }
    loop {
        nix::unistd::pause();
    }
}

/// True in the new process.
fn fork(new_session: bool, new_group: bool, orphan: bool) -> io::Result<bool> {
    use nix::unistd::{ForkResult, Pid, fork, setpgid, setsid};
    // SAFETY: the probe has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            if orphan {
                nix::sys::wait::waitpid(child, None)?;
            }
            Ok(false)
        }
        ForkResult::Child => {
            // SAFETY: as above.
            if orphan && let ForkResult::Parent { .. } = unsafe { fork() }? {
                // SAFETY: _exit takes an integer; the middle process ends without the handlers of its parent.
                unsafe { libc::_exit(0) }
            }
            if new_session {
                setsid()?;
            }
            if new_group {
                setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            }
            Ok(true)
        }
    }
}

fn write_all(number: i32, mut bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the number comes from the case, which says that it is open; a closed one fails with EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    while !bytes.is_empty() {
        let written = nix::unistd::write(descriptor, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

fn carry_out(order: &Order, stream: &UnixStream) -> io::Result<Answer> {
    match order {
        Order::Report => return Ok(Answer::Report(Box::new(report::take()))),
        Order::SendDescriptor(number) => {
            // A byte must carry the descriptor; the case reads it before the answer's line.
            stream.send_with_fd(b"\0", &[*number as RawFd])?;
        }
        Order::Close(number) => nix::unistd::close(*number)?,
        Order::Write(number, bytes) => write_all(*number, bytes)?,
        Order::Fill(number, length) => write_all(*number, &vec![b'.'; *length])?,
        Order::Read(number, length) => {
            // SAFETY: as above; ManuallyDrop keeps the descriptor open.
            let mut file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(*number) });
            let mut bytes = vec![0; *length];
            let read = file.read(&mut bytes)?;
            bytes.truncate(read);
            return Ok(Answer::Bytes(bytes));
        }
        Order::Execute { file, arguments } => {
            let name = arguments.first().map_or(file.as_str(), String::as_str);
            return Err(Command::new(file)
                .arg0(name)
                .args(arguments.iter().skip(1))
                .exec());
        }
        Order::Ignore(signal) => {
            // SAFETY: SIG_IGN runs no code.
            if unsafe { libc::signal(*signal, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Order::Kill(pid, signal) => {
            // SAFETY: kill(2) takes two integers.
            nix::errno::Errno::result(unsafe { libc::kill(*pid, *signal) })?;
        }
        Order::Foreground(group) => {
            nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::Pid::from_raw(*group))?
        }
        Order::ChangeUser(id) => {
            nix::unistd::setgid(nix::unistd::Gid::from_raw(*id))?;
            nix::unistd::setuid(nix::unistd::Uid::from_raw(*id))?;
        }
        Order::ChangeDirectory(path) => nix::unistd::chdir(path.as_str())?,
        Order::Watch(_)
        | Order::Fork { .. }
        | Order::Flee { .. }
        | Order::Breed { .. }
        | Order::Die(_)
        | Order::Exit(_) => {
            unreachable!("handled where the connection is at hand: {}", stream.as_raw_fd())
        }
    }
    Ok(Answer::Done)
}
