//! What the kernel says of a process in a line.

use std::fs;

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
