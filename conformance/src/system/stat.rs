//! What the kernel says of a process in a line.

use std::fmt;
use std::fs;

use crate::shown::Shown;

/// A line of /proc/PID/stat that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The letter of its state: R, S, D, T, Z …
    pub state: char,
}

impl Shown for ProcessState {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {} in state {}", self.pid, self.state)
    }
}

/// Whether the main thread of `pid` is exiting or has exited: that is so before any of its descriptors is closed by that.
pub fn is_exiting(pid: i32) -> bool {
    // PF_EXITING of the kernel's linux/sched.h; the field is described in proc_pid_stat(5).
    const EXITING: u32 = 0x4;
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let flags = text
        .rfind(')')
        .and_then(|name| text[name + 2..].split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

/// What /proc says about `pid`, none where it is gone.
pub fn state(pid: i32) -> Option<ProcessState> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold parentheses and blanks.
    let rest = &text[text.rfind(')')? + 2..];
    let mut fields = rest.split(' ');
    Some(ProcessState {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
    })
}
