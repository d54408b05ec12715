//! The host's handle on one process tree: starts the supervisor, hears from it, and ends it.

mod process;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use self::process::SupervisorProcess;
use super::channel::{HostEnd, Report};
use super::job::{Spawn, SpawnError};
use super::procfs::check_proc;
use super::stacks::Stacks;
use super::supervisor::Job;
use super::survivor::{Survivor, descendants};

/// How long [`Tree::end`] waits for the end. The keeper has taken over from a supervisor that doesn't manage before.
pub(crate) const ENDING_TIME: Duration = Duration::from_secs(3);

/// How often a keeper is continued that the tree may have stopped.
const WAKING_INTERVAL: Duration = Duration::from_millis(20);

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
    /// When /proc is another namespace's, descriptors can't be mapped, or no process can be made. What goes wrong later is reported.
    pub(crate) fn spawn(mut spawn: Spawn) -> Result<Self, SpawnError> {
        check_proc()?;
        let (channel, theirs) = HostEnd::new()?;
        let host = pidfd_of_this_process()?;
        let stacks = Stacks::new()?;
        let job = Job::build(&mut spawn, &theirs, &host, &stacks)?;
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
        if let Some(supervisor) = &self.supervisor {
            supervisor.wake();
        }
    }

    /// Ends the tree and waits until nothing of it is left, or for [`ENDING_TIME`]. What is left then is returned; it is
    /// killed as soon as that is possible.
    pub(crate) async fn end(mut self) -> Vec<Survivor> {
        let ended = async {
            loop {
                // Again and again, since it may be stopped again and again.
                self.kill();
                let event = tokio::time::timeout(WAKING_INTERVAL, self.next_event()).await;
                if event == Ok(None) {
                    return;
                }
            }
        };
        if tokio::time::timeout(ENDING_TIME, ended).await.is_ok() {
            return Vec::new();
        }
        let keeper = self.supervisor.as_ref().map(|keeper| keeper.pid.as_raw());
        let survivors = keeper.map(descendants).unwrap_or_default();
        for process in &survivors {
            tracing::error!(%process, "cannot be ended");
        }
        survivors
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
