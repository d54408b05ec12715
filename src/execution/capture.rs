//! Reads the output of a process tree, without waiting for processes that keep the pipe open.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The captured streams of a shell: standard output and standard error, or none.
#[derive(Debug)]
pub(crate) struct Captures(Option<(Capture, Capture)>);

impl Captures {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Captures both, each within `bound`; the descriptors are the shell's standard output and standard error.
    pub(crate) fn both(bound: Bound) -> io::Result<(Self, [OwnedFd; 2])> {
        let (stdout, stdout_end) = Capture::new("standard output", bound)?;
        let (stderr, stderr_end) = Capture::new("standard error", bound)?;
        Ok((Self(Some((stdout, stderr))), [stdout_end, stderr_end]))
    }

    /// Collects output; completes only when reading fails, or there is more than may be. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Error {
        if let Some((stdout, stderr)) = &mut self.0
            && let Err(error) = tokio::try_join!(stdout.read(), stderr.read())
        {
            return error;
        }
        // Both streams are closed, but the shell may still be running.
        std::future::pending().await
    }

    /// Reads what the pipes hold, without waiting for more. Everything that dead processes wrote is in them.
    pub(crate) fn finish(self) -> io::Result<(Captured, Captured)> {
        match self.0 {
            Some((stdout, stderr)) => Ok((stdout.finish()?, stderr.finish()?)),
            None => Ok(Default::default()),
        }
    }
}

/// How many bytes of a stream are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bound {
    /// All.
    #[default]
    None,
    /// So many, and more is an error.
    Error(usize),
    /// So many, of more the first and the last half.
    Ends(usize),
}

/// Bytes that are missing in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// How many bytes of the output come before it.
    pub at: usize,
    /// How many are missing.
    pub bytes: u64,
}

/// What was kept of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) bytes: Vec<u8>,
    pub(crate) gap: Option<Gap>,
}

#[derive(Debug)]
struct Capture {
    pipe: pipe::Receiver,
    output: Vec<u8>,
    /// What comes after a full first half.
    tail: VecDeque<u8>,
    left_out: u64,
    /// What is captured, for errors.
    stream: &'static str,
    bound: Bound,
}

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

impl Capture {
    fn new(stream: &'static str, bound: Bound) -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let pipe = pipe::Receiver::from_owned_fd(reader)?;
        Ok((
            Self {
                pipe,
                output: Vec::new(),
                tail: VecDeque::new(),
                left_out: 0,
                stream,
                bound,
            },
            writer,
        ))
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while self.pipe.read_buf(&mut chunk).await? > 0 {
            self.push(&chunk)?;
            chunk.clear();
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.bound {
            Bound::None => self.output.extend_from_slice(bytes),
            Bound::Error(limit) => {
                self.output.extend_from_slice(bytes);
                if self.output.len() > limit {
                    return Err(io::Error::new(
                        io::ErrorKind::FileTooLarge,
                        format!("the command wrote more than {limit} bytes to {}", self.stream),
                    ));
                }
            }
            Bound::Ends(limit) => {
                let half = limit / 2;
                let room = half.saturating_sub(self.output.len());
                let (first, rest) = bytes.split_at(room.min(bytes.len()));
                self.output.extend_from_slice(first);
                self.tail.extend(rest);
                let too_many = self.tail.len().saturating_sub(limit - half);
                self.tail.drain(..too_many);
                self.left_out += too_many as u64;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Captured> {
        let mut chunk = [0; CHUNK];
        loop {
            // Read directly: the reactor may not have seen readiness yet.
            match read(&self.pipe, &mut chunk) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(bytes) => self.push(&chunk[..bytes])?,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let gap = (self.left_out > 0).then_some(Gap {
            at: self.output.len(),
            bytes: self.left_out,
        });
        self.output.extend(self.tail);
        Ok(Captured {
            bytes: self.output,
            gap,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_output_is_collected_though_the_pipe_is_held_open() {
        let (captures, [stdout, stderr]) = Captures::both(Bound::None).unwrap();
        nix::unistd::write(&stdout, b"out").unwrap();
        nix::unistd::write(&stderr, b"err").unwrap();
        let (out, error) = captures.finish().unwrap();
        assert_eq!((&out.bytes[..], &error.bytes[..]), (&b"out"[..], &b"err"[..]));
        assert_eq!((out.gap, error.gap), (None, None));
    }

    #[tokio::test]
    async fn of_more_than_the_bound_the_first_and_the_last_bytes_are_kept() {
        let captured = |written: &[&str]| {
            let (captures, [stdout, _stderr]) = Captures::both(Bound::Ends(5)).unwrap();
            for part in written {
                nix::unistd::write(&stdout, part.as_bytes()).unwrap();
            }
            let (output, _) = captures.finish().unwrap();
            (String::from_utf8(output.bytes).unwrap(), output.gap)
        };
        assert_eq!(captured(&["abcde"]), ("abcde".to_owned(), None));
        let gap = |bytes| Some(Gap { at: 2, bytes });
        assert_eq!(captured(&["abcdef"]), ("abdef".to_owned(), gap(1)));
        assert_eq!(captured(&["a", "bcdefghi", "jk"]), ("abijk".to_owned(), gap(6)));
    }

    #[tokio::test]
    async fn output_over_the_limit_is_an_error_even_if_it_comes_last() {
        let captured = |bytes: usize| {
            let (captures, [stdout, _stderr]) = Captures::both(Bound::Error(10)).unwrap();
            nix::unistd::write(&stdout, &vec![b'x'; bytes]).unwrap();
            captures.finish()
        };
        assert_eq!(captured(10).unwrap().0.bytes.len(), 10);
        let error = captured(11).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the command wrote more than 10 bytes to standard output"
        );
    }
}
