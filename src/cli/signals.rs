//! Signals that end `run` and `shell`, unless they are their shell's: the shell is in this process's group.
//!
//! What is sent to the whole group, by a key of the terminal or by `kill 0` in a command, reaches the shell without this process,
//! and ends both only in so far as it ends the shell. A signal doesn't tell whether it was sent to a group. So there is a
//! [`Witness`], a process of the same group that gets nothing else.
//!
//! SIGKILL and SIGSTOP can't be held back: sent to the group, they kill or stop this process as well. So do the other stops, as
//! they do the shell: the terminal's job is stopped and continued as a whole.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpgrp, getpid, setpgid};
use tokio::io::unix::AsyncFd;

use super::interrupts::Interrupts;

/// The last real-time signal.
const LAST: i32 = 64;

/// What stays as it is: what can't be held back, doesn't end a process, has a handler of Rust or of a
/// [question](super::approve) here, or is the C library's own.
const LEFT: [i32; 17] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCHLD,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGPIPE,
    libc::SIGIO,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    32,
    33,
];

/// The signals of this process, from the beginning on.
pub(super) struct Signals {
    held: SignalFd,
    witness: Witness,
}

impl Signals {
    /// Holds them back, in this thread and in those that it starts: call this before there are others.
    ///
    /// # Errors
    /// When the system has no room for the descriptors or the process.
    pub(super) fn hold() -> io::Result<Self> {
        let held = held_back();
        held.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self {
            held: SignalFd::with_flags(&held, flags)?,
            witness: Witness::start()?,
        })
    }

    /// Completes at the first signal that is meant for this process, and gives its number.
    ///
    /// # Errors
    /// When signals can't be read.
    pub(super) async fn sent_to_us(&self, interrupts: &Interrupts) -> io::Result<i32> {
        // SAFETY: a borrowed descriptor stays the same one for as long as it is borrowed.
        let held = unsafe { AsyncFd::register(self.held.as_fd()) }?;
        loop {
            let mut ready = held.readable().await?;
            let mut arrived = self.arrived()?;
            ready.clear_ready();
            // A second round is for those that have come during the first.
            while !arrived.is_empty() {
                let of_group = self.witness.heard();
                let is_of_group = |signal: &siginfo| of_group & bit(signal.ssi_signo.cast_signed()) != 0;
                for signal in &arrived {
                    if is_for_us(signal, is_of_group(signal), interrupts) {
                        return Ok(signal.ssi_signo.cast_signed());
                    }
                }
                // Of two that were sent to the group, the witness may have heard one.
                arrived = self.arrived()?;
                arrived.retain(|signal| !is_of_group(signal) || is_of_outsider(signal));
            }
        }
    }

    /// Those that have come.
    fn arrived(&self) -> io::Result<Vec<siginfo>> {
        let mut arrived = Vec::new();
        while let Some(signal) = self.held.read_signal()? {
            arrived.push(signal);
        }
        Ok(arrived)
    }
}

fn held_back() -> SigSet {
    let mut set = *SigSet::empty().as_ref();
    for signal in (1..=LAST).filter(|signal| !LEFT.contains(signal)) {
        // SAFETY: the set is initialized; an impossible number would be an error of that call.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: this is a set of the C library.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn is_for_us(signal: &siginfo, is_of_group: bool, interrupts: &Interrupts) -> bool {
    let number = signal.ssi_signo.cast_signed();
    let is_interrupt = matches!(number, libc::SIGINT | libc::SIGQUIT);
    if is_interrupt && interrupts.interrupt_question() {
        return false;
    }
    if signal.ssi_code > 0 {
        // The kernel's: of these, keys are the shell's as well.
        return !is_interrupt;
    }
    !is_of_group || is_of_outsider(signal)
}

/// Whether the sender is known not to be of the shell: `timeout run` and a person who kills the job mean this process, too.
fn is_of_outsider(signal: &siginfo) -> bool {
    if signal.ssi_code > 0 {
        return false;
    }
    let mut process = signal.ssi_pid.cast_signed();
    // 0 is of a pid namespace around this one.
    while process > 1 {
        if process == getpid().as_raw() {
            return false;
        }
        process = match parent(process) {
            // Also what is shown of a process that is just being reaped.
            Some(0) => return parent(process).is_some(),
            Some(parent) => parent,
            // It has ended already.
            None => return false,
        };
    }
    true
}

fn parent(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A child of this process and in its group, which keeps every signal until it is asked. It ends when its socket does.
struct Witness {
    process: Pid,
    socket: Option<UnixStream>,
}

impl Witness {
    fn start() -> io::Result<Self> {
        let (own, of_witness) = UnixStream::pair()?;
        // SAFETY: this process has one thread, so its copy may do everything.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(own);
                let status = i32::from(testify(of_witness).is_err());
                // SAFETY: ends this process, and nothing of the other's.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => Ok(Self {
                process: child,
                socket: Some(own),
            }),
        }
    }

    /// The signals that were sent to the group since this was called last, bit N-1 for signal N: none that this process has not
    /// got by now, and all that it had got before. None at all if the witness was killed: then every signal is this process's.
    fn heard(&self) -> u64 {
        self.wait_for_group_signals();
        let heard = self.ask().unwrap_or_default();
        self.wait_for_group_signals();
        heard
    }

    /// Returns when no signal is on its way to some of the group only: setpgid(2) and kill(2) of a group exclude each other.
    fn wait_for_group_signals(&self) {
        // It is in that group already. It may have been killed.
        let _ = setpgid(self.process, getpgrp());
    }

    fn ask(&self) -> io::Result<u64> {
        // SIGSTOP is the only signal that it has not blocked, and that it would not answer after.
        kill(self.process, Signal::SIGCONT)?;
        let mut socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.write_all(&[0])?;
        let mut answer = [0; 8];
        socket.read_exact(&mut answer)?;
        Ok(u64::from_ne_bytes(answer))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.socket = None;
        // Both fail if it has been killed, and then there is nothing to wait for but its status.
        let _ = kill(self.process, Signal::SIGCONT);
        let _ = waitpid(self.process, None);
    }
}

/// The witness's whole life: it answers each byte with the signals that have come.
fn testify(mut socket: UnixStream) -> io::Result<()> {
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)?;
    // No copy of this process's streams is kept open.
    let number = socket.as_raw_fd().cast_unsigned();
    for (first, last) in [(0, number - 1), (number + 1, u32::MAX)] {
        // SAFETY: this process uses no other descriptor, and leaves without dropping any.
        Errno::result(unsafe { libc::close_range(first, last, 0) })?;
    }
    prctl::set_dumpable(false)?;
    prctl::set_name(c"group-witness")?;
    let none = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    loop {
        socket.read_exact(&mut [0])?;
        let mut heard = 0;
        loop {
            // SAFETY: the set and the time are initialized, and no information is asked for.
            let signal = unsafe { libc::sigtimedwait(all.as_ref(), ptr::null_mut(), &raw const none) };
            if signal < 1 {
                break;
            }
            heard |= bit(signal);
        }
        socket.write_all(&heard.to_ne_bytes())?;
    }
}
