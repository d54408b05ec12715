//! One sample: the wall time of one start to its end, by posix_spawn, which copies no page tables of ours.

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};

use super::peer::Peer;

/// The number under which a measured wrapper finds the escalation socket.
pub const ESCALATION_DESCRIPTOR: i32 = 20;

/// A command line that can be started again and again.
pub struct Start {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    actions: PosixSpawnFileActions,
    attributes: PosixSpawnAttr,
    expected_status: i32,
}

/// How large the environment and the argument vector of the command are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes of additional environment.
    pub environment: usize,
    /// Additional arguments.
    pub arguments: usize,
}

impl Size {
    /// A small command.
    pub const SMALL: Size = Size {
        environment: 1024,
        arguments: 1,
    };
}

fn c_string(path: &Path) -> anyhow::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).context("a path with a NUL")
}

impl Start {
    /// `program` started through the wrappers `via`, outermost first; with `peer`, the outermost is a wrapper.
    ///
    /// # Errors
    /// What posix_spawn(3) refuses to prepare.
    pub fn new(via: Option<&Path>, program: &Path, peer: Option<&Peer>, size: Size) -> anyhow::Result<Start> {
        let program = c_string(program)?;
        let mut arguments = Vec::new();
        let mut executed = program.clone();
        if let Some(wrapper) = via {
            executed = c_string(wrapper)?;
            arguments.push(executed.clone());
            arguments.push(program.clone());
        }
        arguments.push(program);
        arguments.extend((0..size.arguments).map(|_| c"argument".to_owned()));
        let mut environment = vec![c"PATH=/usr/bin:/bin".to_owned()];
        // Entries of 1 KiB: one entry may have 128 KiB at most.
        for index in 0..size.environment.div_ceil(1024) {
            environment.push(CString::new(format!("V{index:06}={}", "x".repeat(1015)))?);
        }
        let mut actions = PosixSpawnFileActions::init()?;
        for number in 0..=2 {
            actions.add_open(number, c"/dev/null", OFlag::O_RDWR, Mode::empty())?;
        }
        if let Some(peer) = peer {
            actions.add_dup2(peer.client_end().as_raw_fd(), ESCALATION_DESCRIPTOR)?;
            environment.push(CString::new(format!(
                "CODEX_ESCALATE_SOCKET={ESCALATION_DESCRIPTOR}"
            ))?);
            environment.push(CString::new([b"EXEC_WRAPPER=", executed.as_bytes()].concat())?);
        }
        let attributes = PosixSpawnAttr::init()?;
        Ok(Start {
            program: executed,
            arguments,
            environment,
            actions,
            attributes,
            expected_status: 0,
        })
    }

    /// Every start must end with this status.
    pub fn expecting(mut self, status: i32) -> Start {
        self.expected_status = status;
        self
    }

    /// The program, the argument vector and the environment, for who starts it in another way.
    pub fn parts(&self) -> (&CStr, &[CString], &[CString]) {
        (&self.program, &self.arguments, &self.environment)
    }

    /// Starts it, waits for its end, and returns the microseconds in between.
    ///
    /// # Errors
    /// Where it cannot be started or ends otherwise than expected: then there is nothing to measure.
    pub fn sample(&self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let pid = posix_spawn(
            &*self.program,
            &self.actions,
            &self.attributes,
            &self.arguments,
            &self.environment,
        )
        .with_context(|| format!("{}: cannot be started", self.program.to_string_lossy()))?;
        let status = waitpid(pid, None)?;
        let elapsed = started.elapsed();
        match status {
            WaitStatus::Exited(_, status) if status == self.expected_status => {
                Ok(elapsed.as_secs_f64() * 1e6)
            }
            other => bail!(
                "{}: ended with {other:?} instead of status {}: judge it with `conformance run` first",
                self.program.to_string_lossy(),
                self.expected_status
            ),
        }
    }
}
