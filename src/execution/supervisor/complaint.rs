//! The line about a failed start, on the standard error that the child would have had.
//!
//! Anything may be behind that descriptor: a pipe that another writer fills, a stopped terminal, a file system that does not
//! answer. No flag of write(2) keeps the writer from waiting in all these cases, so a process of its own writes the line, and
//! is killed when its time is over.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;

use crate::execution::raw::{self, Deadline};
use crate::execution::stacks::StackTop;

/// A pipe takes fewer than PIPE_BUF bytes as a whole or not at all.
const LONGEST: usize = libc::PIPE_BUF - 1;
/// What stands for the rest of a prefix that is too long.
const CUT: &[u8] = b"...: ";
/// How long a line may wait for a reader.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the writer may take to end once it is killed.
const FAREWELL: Duration = Duration::from_millis(100);

/// What the writing process needs; it lives until that process is killed.
struct Line {
    output: RawFd,
    bytes: [u8; LONGEST],
    length: usize,
}

/// Writes `prefix` and `reason` to `output` as one line, within a second. The writer runs on `stack`. It is also killed when
/// one of `owners` becomes readable; `child_changes` is readable when a child has ended.
pub(super) fn complain(
    output: RawFd,
    [prefix, reason]: [&[u8]; 2],
    stack: StackTop,
    owners: [RawFd; 2],
    child_changes: RawFd,
) {
    let line = Line::new(output, prefix, reason);
    let flags = raw::SUPERVISOR_MEMORY | libc::SIGCHLD;
    let argument = ptr::from_ref(&line).cast_mut().cast();
    // SAFETY: no child runs on the stack now. The writer reads the line only before it is killed, and a process that has
    // been killed never gets to run in user space again, even if a file system holds it up for longer than this waits.
    let Ok(writer) = (unsafe { raw::clone_process(flags, stack.as_ptr(), write_line, argument) }) else {
        return;
    };
    if !ends_within(PATIENCE, writer, owners, child_changes) {
        let _ = raw::kill(writer, libc::SIGKILL);
        ends_within(FAREWELL, writer, [-1, -1], child_changes);
    }
}

impl Line {
    fn new(output: RawFd, prefix: &[u8], reason: &[u8]) -> Self {
        let mut line = Self {
            output,
            bytes: [0; LONGEST],
            length: 0,
        };
        let room = LONGEST.saturating_sub(reason.len() + 1);
        if prefix.len() <= room {
            line.push(prefix);
        } else {
            line.push(prefix.get(..room.saturating_sub(CUT.len())).unwrap_or_default());
            line.push(CUT);
        }
        line.push(reason);
        line.push(b"\n");
        line
    }

    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
    }
}

/// Entry of the writing process; `line` is a [`Line`]. All signals are blocked, so a pipe without readers is an error.
extern "C" fn write_line(line: *mut c_void) -> c_int {
    // SAFETY: see `complain`.
    let line = unsafe { &*line.cast::<Line>() };
    let mut rest = line.bytes.get(..line.length).unwrap_or_default();
    while !rest.is_empty() {
        match raw::write(line.output, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EAGAIN) => {
                if raw::ppoll(&mut [raw::pollfd(line.output, libc::POLLOUT)]).is_err() {
                    return 1;
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
    0
}

/// Waits for the writer to end, and reaps it; false if an owner ends or the time is over first.
fn ends_within(time: Duration, writer: i32, owners: [RawFd; 2], child_changes: RawFd) -> bool {
    let deadline = Deadline::after(time);
    loop {
        match raw::wait4(writer, libc::WNOHANG) {
            Ok((0, _)) | Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return true,
        }
        let mut watched = [owners[0], owners[1], child_changes].map(|entry| raw::pollfd(entry, libc::POLLIN));
        match raw::ppoll_until(&mut watched, deadline) {
            Ok(_) | Err(Errno::EINTR) if !deadline.is_over() => {}
            _ => return false,
        }
        let [first, second, changed] = watched.map(|entry| entry.revents != 0);
        if first || second {
            return false;
        }
        if changed {
            let mut information = [0_u8; 512];
            let _ = raw::read(child_changes, &mut information);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prefix: &[u8]) -> Vec<u8> {
        let line = Line::new(2, prefix, b"No such file or directory");
        line.bytes[..line.length].to_vec()
    }

    #[test]
    fn a_line_is_whole_if_it_is_short_and_keeps_its_reason_if_it_is_not() {
        assert_eq!(
            text(b"server: tool: "),
            b"server: tool: No such file or directory\n"
        );
        let long = text(&[b'x'; 100_000]);
        assert_eq!(long.len(), LONGEST);
        assert!(long.ends_with(b"xxx...: No such file or directory\n"));
        let room = LONGEST - b"No such file or directory\n".len();
        assert!(!text(&vec![b'x'; room]).windows(3).any(|part| part == b"..."));
        assert_eq!(text(&vec![b'x'; room + 1]).len(), LONGEST);
    }
}
