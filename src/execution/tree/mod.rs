//! The host's handle on one process tree: starts the supervisor, hears from it, and ends it.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;

use super::channel::{HostEnd, Report, Stop};
use super::guardian::{Guardian, Keeper, SessionLeader};
use super::job::{Spawn, SpawnError};
use super::procfs::check_proc;
use super::survivor::{Survivor, descendants};

/// How long [`Tree::end`] waits for the end. The keeper has taken over from a supervisor that doesn't manage before.
pub(crate) const ENDING_TIME: Duration = Duration::from_secs(3);

/// How often a guardian is continued that the tree may have stopped.
const WAKING_INTERVAL: Duration = Duration::from_millis(20);

/// A supervised process tree. Dropping it ends the whole tree.
#[derive(Debug)]
pub(crate) struct Tree {
    channel: HostEnd,
    guardian: Arc<Guardian>,
    /// Known as soon as it has reported itself.
    keeper: Option<Pid>,
    /// Whether the supervisor has reported the start, or its failure.
    has_begun: bool,
}

impl Tree {
    /// Starts a child under a supervisor. Must be called within a tokio runtime; blocks for some ten microseconds, and longer if
    /// no supervisor was made in advance.
    ///
    /// # Errors
    /// When /proc is another namespace's, descriptors can't be mapped, or no process can be made. What goes wrong later is reported.
    #[cfg(test)]
    pub(crate) fn spawn(spawn: Spawn) -> Result<Self, SpawnError> {
        Self::spawn_in(spawn, None)
    }

    /// The same in the session that `leader` leads, if there is one.
    ///
    /// # Errors
    /// The same, or the leader was killed.
    pub(crate) fn spawn_in(spawn: Spawn, leader: Option<&SessionLeader>) -> Result<Self, SpawnError> {
        check_proc()?;
        let keeper = leader.map_or_else(Keeper::new, SessionLeader::keeper)?;
        Self::spawn_below(keeper, spawn)
    }

    /// Gives a keeper its tree. Doesn't wait. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As for [`Self::spawn_in`], but /proc isn't looked at.
    pub(crate) fn spawn_below(keeper: Keeper, mut spawn: Spawn) -> Result<Self, SpawnError> {
        let job = spawn.pack()?;
        let Keeper { guardian, channel } = keeper;
        let channel = HostEnd::new(channel)?;
        channel.send_job(job.bytes, &spawn.sent(&job))?;
        Keeper::make_next();
        Ok(Self {
            channel,
            guardian,
            keeper: None,
            has_begun: false,
        })
    }

    /// The next thing that happens; `None` when no process of the tree is left, and all are reaped. Cancel safe.
    pub(crate) async fn next_event(&mut self) -> Option<Report> {
        loop {
            match self.receive().await {
                Ok(Some(Report::Kept(keeper))) => self.keeper = Some(keeper),
                Ok(report) => {
                    self.has_begun = true;
                    return report;
                }
                // A supervisor that can't be understood has to go.
                Err(error) => {
                    tracing::warn!(%error, "lost contact with a supervisor");
                    self.kill();
                    if error.kind() != io::ErrorKind::InvalidData {
                        return None;
                    }
                }
            }
        }
    }

    /// The next report. Until the first one of the supervisor, the guardian is continued again and again, in case that another
    /// tree has stopped it.
    async fn receive(&self) -> io::Result<Option<Report>> {
        loop {
            let receiving = self.channel.receive();
            if self.has_begun {
                return receiving.await;
            }
            match tokio::time::timeout(WAKING_INTERVAL, receiving).await {
                Ok(report) => return report,
                Err(_) => self.guardian.wake(),
            }
        }
    }

    /// Sends a signal to the child's process group. A child that has ended is left alone.
    pub(crate) fn signal(&self, signal: i32) {
        self.channel.signal(signal);
    }

    /// Continues the child, unless it has been continued since that stop.
    pub(crate) fn continue_after(&self, stop: Stop) {
        self.channel.continue_after(stop.number);
    }

    /// Has that stop reported again, unless the child has been continued since.
    pub(crate) fn tell_again(&self, stop: Stop) {
        self.channel.tell_again(stop.number);
    }

    /// Ends every process of the tree. [`Self::next_event`] tells when that is done.
    pub(crate) fn kill(&self) {
        self.channel.end();
        self.guardian.wake();
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
        let survivors = self.keeper.map(|keeper| descendants(keeper.as_raw()));
        let survivors = survivors.unwrap_or_default();
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
