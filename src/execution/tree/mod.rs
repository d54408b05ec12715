//! The host's handle on one process tree: starts the supervisor, hears from it, and ends it.

mod process;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use self::process::SupervisorProcess;
use super::channel::{HostEnd, Report};
use super::job::{Spawn, SpawnError};
use super::stacks::Stacks;
use super::supervisor::Job;

/// A supervised process tree. Dropping it ends the whole tree.
#[derive(Debug)]
pub(crate) struct Tree {
    channel: HostEnd,
    /// Taken when the supervisor has ended.
    supervisor: Option<SupervisorProcess>,
}

impl Tree {
    /// Starts a supervisor with its child. Must be called within a tokio runtime; blocks for some ten microseconds.
    ///
    /// # Errors
    /// When descriptors can't be mapped or no process can be made. What goes wrong later is reported.
    pub(crate) fn spawn(mut spawn: Spawn) -> Result<Self, SpawnError> {
        let (channel, theirs) = HostEnd::new()?;
        let host = pidfd_of_this_process()?;
        let stacks = Stacks::new()?;
        let job = Job::build(&mut spawn, &theirs, &host, stacks.child_top())?;
        let supervisor = SupervisorProcess::start(Box::new(job), stacks)?;
        // Only now may the descriptors go: the supervisor has its own table from here on.
        drop(spawn);
        Ok(Self {
            channel,
            supervisor: Some(supervisor),
        })
    }

    /// The next thing that happens; `None` when no process of the tree is left, and all are reaped. Cancel safe.
    pub(crate) async fn next_event(&mut self) -> Option<Report> {
        let report = match self.channel.receive().await {
            Ok(report) => report,
            // A supervisor that can't be understood has to go.
            Err(error) => {
                tracing::warn!(%error, "lost contact with a supervisor");
                self.kill();
                None
            }
        };
        match report {
            Some(Report::Started(_)) => {
                if let Some(supervisor) = &mut self.supervisor {
                    supervisor.free_job();
                }
            }
            Some(_) => {}
            None => {
                if let Some(supervisor) = self.supervisor.take() {
                    supervisor.reap().await;
                }
            }
        }
        report
    }

    /// Sends a signal to the child's process group. A child that has ended is left alone.
    pub(crate) fn signal(&self, signal: i32) {
        self.channel.signal(signal);
    }

    /// Ends every process of the tree. [`Self::next_event`] tells when that is done.
    pub(crate) fn kill(&self) {
        self.channel.end();
    }

    /// Ends the tree and waits until nothing of it is left.
    pub(crate) async fn end(mut self) {
        self.kill();
        while self.next_event().await.is_some() {}
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pidfd_of_this_process() -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    match RawFd::try_from(descriptor) {
        // SAFETY: the call has just made it.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
