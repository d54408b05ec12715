//! Reads the output of a process tree, without waiting for processes that keep the pipe open.

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

    /// Captures both, each up to `limit` bytes; the descriptors are the shell's standard output and standard error.
    pub(crate) fn both(limit: Option<usize>) -> io::Result<(Self, [OwnedFd; 2])> {
        let (stdout, stdout_end) = Capture::new("standard output", limit)?;
        let (stderr, stderr_end) = Capture::new("standard error", limit)?;
        Ok((Self(Some((stdout, stderr))), [stdout_end, stderr_end]))
    }

    /// Collects output; completes only when reading fails, or there is more than the limit allows. Cancel safe.
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
    pub(crate) fn finish(self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        match self.0 {
            Some((stdout, stderr)) => Ok((stdout.finish()?, stderr.finish()?)),
            None => Ok((Vec::new(), Vec::new())),
        }
    }
}

#[derive(Debug)]
struct Capture {
    pipe: pipe::Receiver,
    output: Vec<u8>,
    /// What is captured, for errors.
    stream: &'static str,
    limit: Option<usize>,
}

impl Capture {
    fn new(stream: &'static str, limit: Option<usize>) -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let pipe = pipe::Receiver::from_owned_fd(reader)?;
        Ok((
            Self {
                pipe,
                output: Vec::new(),
                stream,
                limit,
            },
            writer,
        ))
    }

    async fn read(&mut self) -> io::Result<()> {
        while self.pipe.read_buf(&mut self.output).await? > 0 {
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        match self.limit {
            Some(limit) if self.output.len() > limit => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the command wrote more than {limit} bytes to {}", self.stream),
            )),
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        let mut chunk = [0; 64 * 1024];
        loop {
            // Read directly: the reactor may not have seen readiness yet.
            match read(&self.pipe, &mut chunk) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(self.output),
                Ok(bytes) => {
                    self.output.extend_from_slice(&chunk[..bytes]);
                    self.check()?;
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_output_is_collected_though_the_pipe_is_held_open() {
        let (captures, [stdout, stderr]) = Captures::both(None).unwrap();
        nix::unistd::write(&stdout, b"out").unwrap();
        nix::unistd::write(&stderr, b"err").unwrap();
        assert_eq!(captures.finish().unwrap(), (b"out".to_vec(), b"err".to_vec()));
    }

    #[tokio::test]
    async fn output_over_the_limit_is_an_error_even_if_it_comes_last() {
        let captured = |bytes: usize| {
            let (captures, [stdout, _stderr]) = Captures::both(Some(10)).unwrap();
            nix::unistd::write(&stdout, &vec![b'x'; bytes]).unwrap();
            captures.finish()
        };
        assert_eq!(captured(10).unwrap().0.len(), 10);
        let error = captured(11).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the command wrote more than 10 bytes to standard output"
        );
    }
}
