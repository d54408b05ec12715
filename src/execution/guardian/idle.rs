//! Keepers that wait for a job: made in advance, or left over from a tree of which nothing else is left.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::execution::supervisor::Placement;

/// So many wait when nothing else is going on, as soon as there was a first command: one for the next command, and one that the last
/// command has left. Each is two small processes.
const MOST: usize = 2;

/// A keeper with its supervisor that wait for a job, or are being made.
#[derive(Debug)]
pub(crate) struct Idle {
    /// The host's end of the channel to them.
    pub(crate) channel: OwnedFd,
    /// The keeper, if it has reported itself.
    pub(crate) keeper: Option<Pid>,
    /// Whether the supervisor has left the guardian's session.
    pub(crate) has_own_session: bool,
}

impl Idle {
    /// One that is being made, whose supervisor will hold the other end of this channel.
    pub(crate) fn new(channel: OwnedFd) -> Self {
        Self {
            channel,
            keeper: None,
            has_own_session: false,
        }
    }

    fn suits(&self, placement: Placement) -> bool {
        placement == Placement::OwnGroup || !self.has_own_session
    }

    /// Whether no process holds the other end any more.
    fn is_gone(&self) -> bool {
        let mut watched = [PollFd::new(self.channel.as_fd(), PollFlags::empty())];
        let polled = poll(&mut watched, PollTimeout::ZERO);
        polled.is_err() || watched[0].any() != Some(false)
    }
}

/// Those of one guardian. They end when they are dropped.
#[derive(Debug)]
pub(super) struct IdleKeepers(Mutex<Option<Vec<Idle>>>);

impl IdleKeepers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Idle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for a tree that is placed like that, the last that came first: what it uses is still in the caches.
    pub(super) fn take(&self, placement: Placement) -> Option<Idle> {
        let mut idle = self.lock();
        let idle = idle.as_mut()?;
        idle.retain(|one| !one.is_gone());
        let of_own_session = |one: &Idle| one.has_own_session == (placement == Placement::OwnGroup);
        let place = idle.iter().rposition(of_own_session);
        let place = place.or_else(|| idle.iter().rposition(|one| one.suits(placement)))?;
        Some(idle.remove(place))
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        let idle = self.lock();
        idle.iter().flatten().all(Idle::is_gone)
    }

    /// Whether one more would be kept.
    pub(super) fn has_room(&self) -> bool {
        let mut idle = self.lock();
        idle.as_mut().is_some_and(|idle| {
            idle.retain(|one| !one.is_gone());
            idle.len() < MOST
        })
    }

    /// Keeps one for the next tree. If enough of them wait already, only one that can have trees that none of these can have takes
    /// the place of the oldest.
    pub(super) fn add(&self, one: Idle) {
        let mut idle = self.lock();
        let Some(idle) = idle.as_mut() else { return };
        if idle.len() == MOST {
            if one.has_own_session || idle.iter().any(|other| !other.has_own_session) {
                return;
            }
            idle.remove(0);
        }
        idle.push(one);
    }

    /// Ends those that wait, and all that would wait later.
    pub(super) fn dismiss(&self) {
        self.lock().take();
    }
}
