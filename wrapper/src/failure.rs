//! Why nothing was executed, and the one line on standard error that says why.

use core::convert::Infallible;

use rustix::io::Errno;

use crate::json::Malformed;
use crate::output::{Decimal, Output};
use crate::signals::Set;
use crate::{sys, text};

/// The status of a wrapper that failed, and of a file that can't be executed.
pub const CANNOT_EXECUTE: i32 = 126;
/// The status for a file that doesn't exist.
pub const NOT_FOUND: i32 = 127;

/// Something that went wrong before the command was executed or its result was known.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What happened.
    pub what: &'static str,
    /// With what.
    pub detail: Detail,
}

/// What a failure was about.
#[derive(Debug, Clone, Copy)]
pub enum Detail {
    /// Nothing further.
    None,
    /// The system's reason.
    System(Errno),
    /// A number.
    Number(i64),
    /// Text from outside.
    Bytes(&'static [u8]),
    /// What is wrong with a message.
    Message(Malformed),
}

impl Failure {
    /// A failure whose description says everything.
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            detail: Detail::None,
        }
    }

    /// A system call that failed; for `map_err`.
    pub fn system(what: &'static str) -> impl Fn(Errno) -> Self {
        move |error| Self {
            what,
            detail: Detail::System(error),
        }
    }

    /// A message that isn't what it should be; for `map_err`.
    pub fn malformed(what: &'static str) -> impl Fn(Malformed) -> Self {
        move |malformed| Self {
            what,
            detail: Detail::Message(malformed),
        }
    }

    /// Writes to standard error what went wrong with the command of that name.
    // Never inlined: the message's memory on the stack would cost every run a page.
    #[cold]
    #[inline(never)]
    pub fn report(&self, file: &[u8]) {
        let mut message = Message::new();
        message.add(b"execve-wrapper: ");
        message.add_name(file);
        message.add(b": ");
        message.add(self.what.as_bytes());
        match self.detail {
            Detail::None => {}
            Detail::System(error) => {
                message.add(b": ");
                message.add_error(error);
            }
            Detail::Number(number) => {
                message.add(b": ");
                message.add(Decimal::new(number).bytes());
            }
            Detail::Bytes(bytes) => {
                message.add(b": ");
                message.add_name(bytes);
            }
            Detail::Message(Malformed(what)) => {
                message.add(b": ");
                message.add(what.as_bytes());
            }
        }
        message.add(b"\n");
        message.send();
    }
}

/// A message for standard error, sent in as few pieces as possible so that others' output doesn't mix with it.
pub struct Message {
    bytes: [u8; 4096],
    filled: usize,
}

impl Message {
    /// An empty message. From now on the process blocks SIGPIPE, so that its status still reports what happened if
    /// standard error has no reader any more; so this is only for a process that is about to end.
    pub fn new() -> Self {
        // If this fails, the status is lost only when the message has no reader either.
        let _ = sys::block(Set::only(rustix::process::Signal::PIPE.as_raw()));
        Self {
            bytes: [0; 4096],
            filled: 0,
        }
    }

    /// Adds text as it is.
    pub fn add(&mut self, text: &[u8]) {
        let Ok(()) = self.put(text);
    }

    /// Adds a file name or other text from outside, on one line and without control characters.
    pub fn add_name(&mut self, name: &[u8]) {
        let Ok(()) = text::write_bytes(self, name);
    }

    /// Adds the description of a system error.
    pub fn add_error(&mut self, error: Errno) {
        match describe(error) {
            Some(description) => self.add(description.as_bytes()),
            None => {
                self.add(b"error ");
                self.add(Decimal::new(error.raw_os_error().into()).bytes());
            }
        }
    }

    /// Sends what has been added.
    pub fn send(&mut self) {
        let mut rest = &self.bytes[..self.filled];
        while !rest.is_empty() {
            match rustix::io::write(sys::standard_error(), rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait_for_room(),
                // Closed, or its reader has gone: the message is lost, and the status still reports the failure.
                Err(_) => break,
            }
        }
        self.filled = 0;
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

impl Output for Message {
    type Error = Infallible;

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Infallible> {
        while !bytes.is_empty() {
            if self.filled == self.bytes.len() {
                self.send();
            }
            let room = &mut self.bytes[self.filled..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }
}

/// Standard error is non-blocking and full: waits as a blocking one would.
fn wait_for_room() {
    use rustix::event::{PollFd, PollFlags, poll};
    let stderr = sys::standard_error();
    // An error here shows again at the next write.
    let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
}

/// The C library's words for the errors that are likely here.
fn describe(error: Errno) -> Option<&'static str> {
    Some(match error {
        Errno::TOOBIG => "Argument list too long",
        Errno::ACCESS => "Permission denied",
        Errno::AGAIN => "Resource temporarily unavailable",
        Errno::BADF => "Bad file descriptor",
        Errno::CONNREFUSED => "Connection refused",
        Errno::CONNRESET => "Connection reset by peer",
        Errno::INVAL => "Invalid argument",
        Errno::IO => "Input/output error",
        Errno::ISDIR => "Is a directory",
        Errno::LOOP => "Too many levels of symbolic links",
        Errno::MFILE => "Too many open files",
        Errno::NAMETOOLONG => "File name too long",
        Errno::NFILE => "Too many open files in system",
        Errno::NOBUFS => "No buffer space available",
        Errno::NOENT => "No such file or directory",
        Errno::NOEXEC => "Exec format error",
        Errno::NOMEM => "Cannot allocate memory",
        Errno::NOSYS => "Function not implemented",
        Errno::NOTCONN => "Transport endpoint is not connected",
        Errno::NOTDIR => "Not a directory",
        Errno::NOTSOCK => "Socket operation on non-socket",
        Errno::PERM => "Operation not permitted",
        Errno::PIPE => "Broken pipe",
        Errno::TXTBSY => "Text file busy",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_the_words_of_the_c_library() {
        let mut described = 0;
        for number in 1..=133 {
            if let Some(words) = describe(Errno::from_raw_os_error(number)) {
                let theirs = std::io::Error::from_raw_os_error(number).to_string();
                assert_eq!(theirs, format!("{words} (os error {number})"));
                described += 1;
            }
        }
        assert_eq!(described, 24);
    }
}
