//! The pipes between runner, supervisor and a case's process: lines that only the suite can have written.
//!
//! What is judged may run as the user of the suite and find these pipes in /proc. Each line therefore begins with a
//! secret of its case, which is told to nothing that executes another program.

use std::fs::File;
use std::io::{self, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of the longest line that is taken for the suite's own. A result with its wire is some 200 kB.
const LINE_LIMIT: usize = 4 << 20;

/// The secret of a case: 128 random bits, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// A new secret.
    ///
    /// # Errors
    /// Where the kernel gives no random bytes.
    pub fn new() -> io::Result<Secret> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Secret(format!("{:032x}", u128::from_ne_bytes(bytes))))
    }

    /// `message` as a line that [`Lines`] with this secret takes.
    ///
    /// # Errors
    /// Where the message cannot be written as JSON.
    pub fn line(&self, message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
        let mut line = format!("{} ", self.0).into_bytes();
        serde_json::to_writer(&mut line, message)?;
        line.push(b'\n');
        Ok(line)
    }

    fn opened<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        line.strip_prefix(self.0.as_bytes())?.strip_prefix(b" ")
    }
}

/// Takes a stream of bytes apart into the messages of the suite, and counts what else has come.
pub struct Lines {
    secret: Secret,
    pending: Vec<u8>,
    foreign: usize,
}

impl Lines {
    /// Lines that begin with `secret`.
    pub fn new(secret: Secret) -> Lines {
        Lines {
            secret,
            pending: Vec::new(),
            foreign: 0,
        }
    }

    /// The messages that `bytes` complete.
    pub fn take<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Vec<T> {
        self.pending.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let opened = self.secret.opened(&line);
            match opened.and_then(|message| serde_json::from_slice(message).ok()) {
                Some(message) => messages.push(message),
                None => self.foreign += line.len(),
            }
        }
        if self.pending.len() > LINE_LIMIT {
            self.foreign += self.pending.len();
            self.pending = Vec::new();
        }
        messages
    }

    /// How many bytes something else has written so far, an unfinished line included.
    pub fn foreign(&self) -> usize {
        self.foreign + self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> (Secret, Lines) {
        let secret = Secret::new().expect("random bytes");
        (secret.clone(), Lines::new(secret))
    }

    #[test]
    fn two_secrets_are_never_the_same() {
        assert_ne!(lines().0, lines().0);
    }

    #[test]
    fn messages_arrive_in_pieces_and_together() {
        let (secret, mut lines) = lines();
        let bytes = [secret.line(&1).expect("JSON"), secret.line(&2).expect("JSON")].concat();
        let (first, rest) = bytes.split_at(10);
        assert_eq!(lines.take::<i32>(first), [0; 0]);
        assert_eq!(lines.take::<i32>(rest), [1, 2]);
        assert_eq!(lines.foreign(), 0);
    }

    #[test]
    fn a_line_without_the_secret_is_no_message() {
        let (secret, mut lines) = lines();
        let another = Secret::new().expect("random bytes");
        let forged = another.line(&7).expect("JSON");
        let bytes = [b"7\n".to_vec(), forged.clone(), secret.line(&1).expect("JSON")].concat();
        assert_eq!(lines.take::<i32>(&bytes), [1]);
        assert_eq!(lines.foreign(), 2 + forged.len());
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let (secret, mut lines) = lines();
        for _ in 0..=LINE_LIMIT >> 16 {
            assert_eq!(lines.take::<i32>(&[b'x'; 1 << 16]), [0; 0]);
        }
        assert!(
            lines.pending.capacity() <= LINE_LIMIT,
            "{}",
            lines.pending.capacity()
        );
        assert!(lines.foreign() > LINE_LIMIT);
        let bytes = [b"\n".to_vec(), secret.line(&1).expect("JSON")].concat();
        assert_eq!(lines.take::<i32>(&bytes), [1]);
    }
}
