//! The terminals of this host, and which one goes when there is no more room.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::events::lock;
use crate::faults::{Fault, broken};
use crate::terminal::Terminal;

/// How many terminals there may be.
const ROOM: usize = 64;

/// How many of those that were used last are never pruned.
const PROTECTED: usize = 8;

/// All terminals that are there.
#[derive(Default)]
pub struct Terminals {
    /// The number of the next one.
    pub next: AtomicU64,
    /// The one that was used least recently comes first.
    pub open: Mutex<Vec<Arc<Terminal>>>,
}

impl Terminals {
    /// The terminal of that id, which is used thereby.
    pub fn used(&self, id: &str) -> Option<Arc<Terminal>> {
        let mut open = lock(&self.open);
        let place = open.iter().position(|terminal| terminal.id == id)?;
        let terminal = open[place].clone();
        if !broken(Fault::UsesNotCounted) {
            open.remove(place);
            open.push(terminal.clone());
        }
        Some(terminal)
    }

    /// Makes room for one more.
    pub fn prune(&self) {
        let mut open = lock(&self.open);
        let room = if broken(Fault::RoomForThirtyTwo) {
            ROOM / 2
        } else {
            ROOM
        };
        if open.len() < room || broken(Fault::NothingPruned) {
            return;
        }
        let protected = if broken(Fault::NoTerminalProtected) {
            0
        } else {
            PROTECTED
        };
        let candidates = &open[..open.len() - protected];
        let ended = candidates
            .iter()
            .position(|terminal| terminal.has_ended() && !broken(Fault::LivingPrunedFirst));
        let mut chosen = ended.unwrap_or(0);
        if broken(Fault::LatestPrunedFirst) {
            chosen = candidates
                .iter()
                .rposition(|terminal| terminal.has_ended())
                .unwrap_or(candidates.len() - 1);
        }
        let pruned = open.remove(chosen);
        drop(open);
        if !broken(Fault::PrunedTerminalLives) {
            pruned.close();
        }
    }

    /// Closes all terminals of that session; whether there was one.
    pub fn cancel(&self, session: &str) -> bool {
        let found = lock(&self.open)
            .iter()
            .find(|terminal| terminal.name == session)
            .cloned();
        let Some(terminal) = found else { return false };
        if !broken(Fault::CancelSparesTerminals) {
            lock(&self.open).retain(|other| other.id != terminal.id);
            terminal.close();
        }
        true
    }

    /// Closes all of them.
    pub fn close(&self) {
        let open = std::mem::take(&mut *lock(&self.open));
        for terminal in open {
            if broken(Fault::ShutdownSparesTerminals) {
                terminal.release();
            } else {
                terminal.close();
            }
        }
    }
}
