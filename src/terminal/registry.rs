//! Which terminals there are, in the order of their last use, and which one makes room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::handle::Terminal;
use super::id::TerminalId;

/// What there is of a terminal as far as the order of use goes.
pub(super) trait Entry {
    /// Its name.
    fn id(&self) -> TerminalId;
    /// Whether its program has ended.
    fn has_ended(&self) -> bool;
}

impl Entry for Arc<Terminal> {
    fn id(&self) -> TerminalId {
        self.id
    }

    fn has_ended(&self) -> bool {
        self.end().is_some()
    }
}

/// The terminals, the one used last at the end.
#[derive(Debug)]
pub(super) struct Registry<T = Arc<Terminal>> {
    by_use: Vec<T>,
    /// How many are being opened.
    opening: usize,
    next: u64,
    most: usize,
    protected: usize,
}

/// Locks the registry.
pub(super) fn registry(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Entry> Registry<T> {
    /// For at most so many terminals, of which at least one can always be pruned.
    pub(super) fn new(most: usize, protected: usize) -> Self {
        let most = most.max(1);
        Self {
            by_use: Vec::new(),
            opening: 0,
            next: 1,
            most,
            protected: protected.min(most - 1),
        }
    }

    /// Makes room for one more. Returns its name and those that have to end; `None` if too many are being opened.
    fn make_room(&mut self) -> Option<(TerminalId, Vec<T>)> {
        let over = (self.by_use.len() + self.opening + 1).saturating_sub(self.most);
        if over > self.by_use.len().saturating_sub(self.protected) {
            return None;
        }
        let pruned = (0..over).map(|_| self.prune()).collect();
        self.opening += 1;
        let id = TerminalId::new(self.next);
        self.next += 1;
        Some((id, pruned))
    }

    /// Takes out the one that is missed least; there is one that isn't protected.
    fn prune(&mut self) -> T {
        let candidates = &self.by_use[..self.by_use.len() - self.protected];
        let ended = candidates.iter().position(Entry::has_ended);
        self.by_use.remove(ended.unwrap_or(0))
    }

    /// Finds one, which is used now.
    pub(super) fn used(&mut self, id: TerminalId) -> Option<T>
    where
        T: Clone,
    {
        let terminal = self.remove(id)?;
        self.by_use.push(terminal.clone());
        Some(terminal)
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: TerminalId) -> Option<T> {
        let place = self.by_use.iter().position(|terminal| terminal.id() == id)?;
        Some(self.by_use.remove(place))
    }

    /// Takes any one out.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.by_use.pop()
    }

    /// All of them, the one used last at the end.
    pub(super) fn by_use(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.by_use.iter()
    }
}

/// The place of a terminal that is being opened; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Mutex<Registry>>,
    pub(super) id: TerminalId,
}

impl Place {
    /// A place, and the terminals that have to end for it.
    pub(super) fn take(of: &Arc<Mutex<Registry>>) -> Result<(Self, Vec<Arc<Terminal>>), Error> {
        let (id, pruned) = registry(of).make_room().ok_or(Error::Full)?;
        let place = Self {
            registry: Arc::clone(of),
            id,
        };
        Ok((place, pruned))
    }

    /// The terminal is there, unless all of them end.
    pub(super) fn fill(self, terminal: Terminal, all_end: &CancellationToken) -> Result<TerminalId, Error> {
        let mut registry = registry(&self.registry);
        // Looked at with the registry locked: what is there before is ended with the others.
        if all_end.is_cancelled() {
            return Err(Error::Ending);
        }
        registry.by_use.push(Arc::new(terminal));
        drop(registry);
        Ok(self.id)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        registry(&self.registry).opening -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug, PartialEq)]
    struct Known {
        id: u64,
        has_ended: bool,
    }

    impl Entry for Known {
        fn id(&self) -> TerminalId {
            TerminalId::new(self.id)
        }

        fn has_ended(&self) -> bool {
            self.has_ended
        }
    }

    /// Opens one; returns the ids of those that were pruned.
    fn open(registry: &mut Registry<Known>) -> Vec<u64> {
        let (id, pruned) = registry.make_room().unwrap();
        registry.opening -= 1;
        registry.by_use.push(Known {
            id: id.number(),
            has_ended: false,
        });
        pruned.iter().map(|terminal| terminal.id).collect()
    }

    fn full(most: usize, protected: usize) -> Registry<Known> {
        let mut registry = Registry::new(most, protected);
        for _ in 0..most {
            assert_eq!(open(&mut registry), [0; 0]);
        }
        registry
    }

    fn end(registry: &mut Registry<Known>, id: u64) {
        let found = registry.by_use.iter_mut().find(|terminal| terminal.id == id);
        found.unwrap().has_ended = true;
    }

    #[test]
    fn the_one_that_was_not_used_for_longest_makes_room() {
        let mut registry = full(64, 8);
        assert_eq!(open(&mut registry), [1]);
        registry.used(TerminalId::new(2)).unwrap();
        assert_eq!(open(&mut registry), [3]);
        assert_eq!(open(&mut registry), [4]);
    }

    #[test]
    fn ended_ones_make_room_before_live_ones_unless_they_are_protected() {
        let mut registry = full(64, 8);
        for id in [57, 40, 30] {
            end(&mut registry, id);
        }
        assert_eq!(open(&mut registry), [30]);
        assert_eq!(open(&mut registry), [40]);
        // Two have been opened since, so 57 and 58 are no longer among the last eight.
        assert_eq!(open(&mut registry), [57]);
        assert_eq!(open(&mut registry), [1]);
        registry.used(TerminalId::new(20)).unwrap();
        end(&mut registry, 20);
        assert_eq!(open(&mut registry), [2], "20 was used last but one");
    }

    #[test]
    fn the_protected_are_never_pruned_however_many_are_being_opened() {
        let mut registry = full(64, 8);
        let mut pruned = BTreeSet::new();
        while let Some((_, made_room)) = registry.make_room() {
            pruned.extend(made_room.iter().map(|terminal| terminal.id));
        }
        assert_eq!(pruned, (1..=56).collect());
        assert_eq!((registry.by_use.len(), registry.opening), (8, 56));
    }

    #[test]
    fn one_of_few_can_always_be_pruned() {
        assert_eq!(open(&mut full(1, 8)), [1]);
        assert_eq!(open(&mut full(2, 8)), [1]);
        assert_eq!(open(&mut Registry::<Known>::new(0, 0)), [0; 0]);
    }
}
