//! Processes seen from outside: waiting by pidfd, and what /proc tells about any process.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::shown::Shown;
use crate::system::clock::Moment;
use crate::system::poll::readable_until;
use crate::system::queue::Delay;
pub use crate::system::stat::{ProcessState, state};
use crate::verdict::{CaseError, Verdict, violation};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ended {
    /// What a shell shows in `$?`.
    pub fn shell_status(self) -> i32 {
        match self {
            Ended::Exited(status) => status,
            Ended::Killed(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(status) => write!(formatter, "exit status {status}"),
            Ended::Killed(signal) => write!(formatter, "killed by signal {signal}"),
        }
    }
}

impl Shown for Ended {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A pidfd: refers to this very process, also after its number has been used again.
pub struct ProcessHandle {
    /// Its number.
    pub pid: Pid,
    descriptor: OwnedFd,
}

impl ProcessHandle {
    /// A handle of a living (or not yet reaped) process; none where it is gone.
    pub fn open(pid: Pid) -> Result<Option<ProcessHandle>, CaseError> {
        // SAFETY: pidfd_open(2) takes two integers and returns a new descriptor (close-on-exec) or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        match Errno::result(descriptor) {
            Ok(descriptor) => {
                // SAFETY: the descriptor is new and nothing else owns it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
                Ok(Some(ProcessHandle { pid, descriptor }))
            }
            Err(Errno::ESRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Another handle of the same process.
    pub fn try_clone(&self) -> Result<ProcessHandle, CaseError> {
        Ok(ProcessHandle {
            pid: self.pid,
            descriptor: self.descriptor.try_clone()?,
        })
    }

    /// Waits for the end of the process (not for its reaping); false at the deadline.
    pub fn ended_within(&self, patience: Duration) -> Result<bool, CaseError> {
        readable_until(&self.descriptor, Moment::now() + patience)
    }

    /// Demands that the process ends within `patience`; `what` names it. Time for which it, or what it may wait for, was ready
    /// to run while others had the processors is not its own, and is added, up to [`LONGEST`] times `patience` in all.
    pub fn expect_end(&self, what: &str, patience: Duration) -> Verdict {
        if self.ended_within_own(patience)? {
            return Ok(());
        }
        Err(violation(
            format_args!("{what} (process {}) ends", self.pid),
            format_args!("still running after {patience:?}: {}", describe(self.pid)),
        ))
    }

    /// Waits for the end of the process until it had so much time for itself; false if it hasn't ended then.
    pub fn ended_within_own(&self, patience: Duration) -> Result<bool, CaseError> {
        let began = Moment::now();
        let longest = began + patience * LONGEST;
        let mut delay = Delay::of(self.pid);
        loop {
            let owed = (began + patience + delay.so_far()).min(longest);
            if readable_until(&self.descriptor, owed.min(Moment::now() + LOOK))? {
                return Ok(true);
            }
            if owed.is_over() {
                return Ok(false);
            }
        }
    }

    /// Sends a signal to this very process; it is not an error if it has already ended.
    pub fn signal(&self, signal: i32) -> Result<(), CaseError> {
        // SAFETY: pidfd_send_signal(2) with a null siginfo takes no memory of ours.
        let status = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.descriptor.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(status) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How a child of ours that has ended and was not reaped has ended; none of one that lives.
    pub fn ended(&self) -> Result<Option<Ended>, CaseError> {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let waited = wait_for(libc::P_PID, self.pid.as_raw(), flags)?;
        Ok(waited.and_then(|waited| waited.ended()))
    }

    /// Reaps a child of ours that has ended.
    pub fn reap(&self) -> Result<Ended, CaseError> {
        let waited = wait_for(libc::P_PID, self.pid.as_raw(), libc::WEXITED)?;
        waited
            .and_then(|waited| waited.ended())
            .ok_or_else(|| crate::verdict::harness("waitid reported something other than an end"))
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What waitid(2) says about a child.
///
/// Without the types of `nix`, which have no real-time signals: a child that such a signal killed would be an error
/// there, and reaped all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Which child.
    pub pid: i32,
    /// CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_STOPPED …
    pub code: i32,
    /// The exit status or the signal.
    pub status: i32,
}

impl Waited {
    /// How the child ended, none where it did not.
    pub fn ended(&self) -> Option<Ended> {
        match self.code {
            libc::CLD_EXITED => Some(Ended::Exited(self.status)),
            libc::CLD_KILLED | libc::CLD_DUMPED => Some(Ended::Killed(self.status)),
            _ => None,
        }
    }
}

/// waitid(2); none where WNOHANG is among the flags and no child has changed.
///
/// # Errors
/// What waitid says, EINTR excepted.
pub fn wait_for(kind: libc::idtype_t, id: i32, flags: i32) -> nix::Result<Option<Waited>> {
    loop {
        // SAFETY: waitid writes to `information`, of which all-zero is a valid value; the two fields that are read
        // through accessors are those that it fills in for children.
        let (status, information) = unsafe {
            let mut information: libc::siginfo_t = std::mem::zeroed();
            let status = libc::waitid(kind, id as libc::id_t, &raw mut information, flags);
            (status, information)
        };
        match Errno::result(status) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                // SAFETY: as above.
                let (pid, status) = unsafe { (information.si_pid(), information.si_status()) };
                return Ok((pid != 0).then_some(Waited {
                    pid,
                    code: information.si_code,
                    status,
                }));
            }
        }
    }
}

/// How many times its patience a process gets on a machine that does other work.
const LONGEST: u32 = 6;

/// How often it is looked what a process waits for.
const LOOK: Duration = Duration::from_millis(25);

/// All processes of the machine (of this PID namespace).
pub fn all() -> Vec<ProcessState> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(state)
        .collect()
}

/// The descendants of `root`, itself not included.
pub fn descendants(root: i32) -> Vec<ProcessState> {
    let processes: BTreeMap<i32, ProcessState> =
        all().into_iter().map(|process| (process.pid, process)).collect();
    processes
        .values()
        .filter(|process| {
            let mut ancestor = process.parent;
            // A chain is never longer than the table; the bound guards against a table that changed while read.
            for _ in 0..processes.len() {
                if ancestor == root {
                    return true;
                }
                match processes.get(&ancestor) {
                    Some(next) => ancestor = next.parent,
                    None => return false,
                }
            }
            false
        })
        .cloned()
        .collect()
}

/// Looks again and again until `look` is true; false at the deadline.
///
/// Only for what the kernel tells nobody: that a zombie was reaped, that a descriptor was closed, that a process
/// stopped. Everything else has an event to wait for.
pub fn eventually(patience: Duration, mut look: impl FnMut() -> bool) -> bool {
    let deadline = Moment::now() + patience;
    loop {
        if look() {
            return true;
        }
        if deadline.is_over() {
            return false;
        }
        rest();
    }
}

/// A short rest between two looks, so that what is looked at gets the processor.
pub fn rest() {
    std::thread::sleep(Duration::from_millis(1));
}

/// A process in words, for reports.
pub fn describe(pid: Pid) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = command
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    match state(pid.as_raw()) {
        Some(state) => format!(
            "process {pid} ({}), state {}, parent {}, group {}, session {}",
            command.trim_end(),
            state.state,
            state.parent,
            state.group,
            state.session
        ),
        None => format!("process {pid}, gone"),
    }
}

/// The descriptors of a process: number and what it refers to, such as `socket:[1234]`.
pub fn descriptors(pid: i32) -> Vec<(i32, PathBuf)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let mut descriptors: Vec<(i32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                fs::read_link(entry.path()).ok()?,
            ))
        })
        .collect();
    descriptors.sort();
    descriptors
}

/// The processes that hold the socket of that inode, each with the descriptor's number.
pub fn holders_of_socket(inode: u64) -> Vec<(i32, i32)> {
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    all()
        .into_iter()
        .flat_map(|process| {
            descriptors(process.pid)
                .into_iter()
                .map(move |(number, target)| (process.pid, number, target))
        })
        .filter(|(_, _, target)| *target == wanted)
        .map(|(pid, number, _)| (pid, number))
        .collect()
}
