//! The host's handle on one process tree: starts the supervisor, hears from it, and ends it.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;

use super::channel::{HostEnd, Report, Stop};
use super::guardian::{Guardian, Idle, Keeper, SessionLeader};
use super::job::{Spawn, SpawnError};
use super::procfs::check_proc;
use super::supervisor::Placement;
use super::survivor::{Survivor, descendants};

/// How long [`Tree::end`] waits for the end. The keeper has taken over from a supervisor that doesn't manage before.
pub(crate) const ENDING_TIME: Duration = Duration::from_secs(3);

/// The number of no stop.
const NO_STOP: i32 = 0;
/// How often a guardian is continued that the tree may have stopped.
const WAKING_INTERVAL: Duration = Duration::from_millis(20);

/// A supervised process tree. Dropping it ends the whole tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// `None` once nothing is left of the tree and its keeper waits for another one.
    channel: Option<HostEnd>,
    guardian: Arc<Guardian>,
    /// Whether the supervisor has left the guardian's session for it.
    has_own_session: bool,
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
        let placement = spawn.placement;
        let keeper = leader.map_or_else(|| Keeper::new(placement), |leader| leader.keeper(placement))?;
        Self::spawn_below(keeper, spawn)
    }

    /// Gives a keeper its tree. Doesn't wait. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As for [`Self::spawn_in`], but /proc isn't looked at.
    pub(crate) fn spawn_below(keeper: Keeper, mut spawn: Spawn) -> Result<Self, SpawnError> {
        let job = spawn.pack()?;
        let Keeper { guardian, idle } = keeper;
        let channel = HostEnd::new(idle.channel)?;
        channel.send_job(job.bytes, &spawn.sent(&job))?;
        guardian.make_next();
        Ok(Self {
            channel: Some(channel),
            guardian,
            has_own_session: idle.has_own_session || spawn.placement == Placement::OwnGroup,
            keeper: idle.keeper,
            has_begun: false,
        })
    }

    /// The next thing that happens; `None` when no process of the tree is left, and all are reaped. Cancel safe.
    pub(crate) async fn next_event(&mut self) -> Option<Report> {
        loop {
            match self.receive().await {
                Ok(Some(Report::Kept(keeper))) => self.keeper = Some(keeper),
                Ok(Some(Report::Emptied)) => self.give_back(),
                Ok(Some(report)) if self.is_stale(report) => {}
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

    /// Lets the keeper have another tree, unless it was ordered to end.
    fn give_back(&mut self) {
        match self.channel.take().map(HostEnd::for_next_tree) {
            Some(Ok(channel)) => self.guardian.take_back(Idle {
                channel,
                keeper: self.keeper,
                has_own_session: self.has_own_session,
            }),
            Some(Err(ending)) => self.channel = Some(ending),
            None => {}
        }
    }

    /// The next report. Until the first one of the supervisor, the guardian is continued again and again, in case that another
    /// tree has stopped it.
    async fn receive(&self) -> io::Result<Option<Report>> {
        let Some(channel) = &self.channel else {
            return Ok(None);
        };
        loop {
            let receiving = channel.receive();
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
        if let Some(channel) = &self.channel {
            channel.signal(signal);
        }
    }

    /// Continues the child if it is still in that stop, or in one that [`Self::signal`] has caused.
    pub(crate) fn continue_after(&self, stop: Option<Stop>) {
        if let Some(channel) = &self.channel {
            channel.continue_after(stop.map_or(NO_STOP, |stop| stop.number));
        }
    }

    /// Sends the child SIGCONT, unless it is in a stop that [`Self::signal`] hasn't caused.
    pub(crate) fn resume(&self) {
        if let Some(channel) = &self.channel {
            channel.resume();
        }
    }

    fn is_stale(&self, report: Report) -> bool {
        self.channel
            .as_ref()
            .is_some_and(|channel| channel.is_stale(report))
    }

    /// Ends every process of the tree. [`Self::next_event`] tells when that is done.
    pub(crate) fn kill(&self) {
        if let Some(channel) = &self.channel {
            channel.end();
            self.guardian.wake();
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
        if self.channel.is_some() {
            self.kill();
            self.guardian.make_another();
        }
    }
}
