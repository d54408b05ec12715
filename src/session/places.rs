//! The descriptors that the request streams of all sessions of this process hold, and who gives way when there are too many.
//!
//! A stream that waits for its client gives way first, the oldest before the others: an honest client sends at once. Then one
//! that awaits its decision, the newest first. Both are taken from the session that holds most, so that no session can take
//! what another needs. A command that runs never gives way; instead a session may not start more than it leaves room for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What a stream waits for, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for its client.
    Waiting,
    /// It awaits its decision.
    Deciding,
    /// Its command runs, or has left processes running.
    Running,
}

#[derive(Debug)]
struct Entry {
    session: u64,
    descriptors: usize,
    stage: Stage,
    evicted: CancellationToken,
}

/// The streams of all sessions, oldest first.
#[derive(Debug, Default)]
struct Streams {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    /// Descriptors of all of them.
    held: usize,
    /// How many of each session wait for their client.
    waiting: HashMap<u64, usize>,
}

/// The streams of all sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Streams>>);

/// The part of a [`Ledger`] that one session sees.
#[derive(Debug)]
pub(super) struct Places {
    ledger: Ledger,
    session: u64,
    /// Descriptors that the streams of all sessions may hold together.
    most: usize,
    /// Streams of this session that may wait for their request.
    most_waiting: usize,
}

/// A stream's place in the ledger, which it leaves when dropped.
#[derive(Debug)]
pub(super) struct Place {
    ledger: Ledger,
    number: u64,
    most: usize,
    evicted: CancellationToken,
}

impl Places {
    pub(super) fn new(ledger: &Ledger, session: u64, most: usize, most_waiting: usize) -> Self {
        Self {
            ledger: ledger.clone(),
            session,
            most,
            most_waiting,
        }
    }

    /// Whether one more stream would evict another one.
    pub(super) fn is_full(&self) -> bool {
        let streams = self.ledger.streams();
        streams.waiting_of(self.session) >= self.most_waiting || streams.held >= self.most
    }

    /// Adds a stream that waits for its request, and evicts what is too much then: perhaps itself.
    pub(super) fn enter(&self) -> Place {
        let evicted = CancellationToken::new();
        let mut streams = self.ledger.streams();
        let number = streams.next;
        streams.next += 1;
        let entry = Entry {
            session: self.session,
            descriptors: 1,
            stage: Stage::Waiting,
            evicted: evicted.clone(),
        };
        streams.insert(number, entry);
        if streams.waiting_of(self.session) > self.most_waiting {
            let own = streams.waiting().find(|(_, entry)| entry.session == self.session);
            if let Some(oldest) = own.map(|(number, _)| number) {
                streams.evict(oldest);
            }
        }
        streams.make_room(number, self.most);
        Place {
            ledger: self.ledger.clone(),
            number,
            most: self.most,
            evicted,
        }
    }
}

impl Place {
    /// Completes when the stream has to give way.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// The stream's request has arrived.
    pub(super) fn decides(&self) {
        self.change(Stage::Deciding, 1);
    }

    /// The stream waits for the rest of a message that came with that many descriptors.
    pub(super) fn waits_with(&self, descriptors: usize) {
        self.change(Stage::Waiting, 1 + descriptors);
    }

    /// The stream's command is started, which takes its channel, too; false if the session would leave less room for the
    /// running commands of others than its own have.
    #[must_use]
    pub(super) fn runs(&self) -> bool {
        const DESCRIPTORS: usize = 2;
        let mut streams = self.ledger.streams();
        let Some(session) = streams.entries.get(&self.number).map(|entry| entry.session) else {
            return false;
        };
        let (own, all) = streams.running(session);
        let fits = own + DESCRIPTORS <= self.most.saturating_sub(all + DESCRIPTORS);
        if fits {
            streams.set(self.number, Stage::Running, DESCRIPTORS);
        }
        fits
    }

    /// The command has ended and left processes running.
    pub(super) fn has_ended(&self) {
        self.change(Stage::Running, 1);
    }

    fn change(&self, stage: Stage, descriptors: usize) {
        let mut streams = self.ledger.streams();
        streams.set(self.number, stage, descriptors);
        streams.make_room(self.number, self.most);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ledger.streams().remove(self.number);
    }
}

impl Ledger {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn insert(&mut self, number: u64, entry: Entry) {
        self.held += entry.descriptors;
        if entry.stage == Stage::Waiting {
            *self.waiting.entry(entry.session).or_default() += 1;
        }
        self.entries.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.held -= entry.descriptors;
        if entry.stage == Stage::Waiting
            && let Some(waiting) = self.waiting.get_mut(&entry.session)
        {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&entry.session);
            }
        }
        Some(entry)
    }

    /// What was evicted stays so.
    fn set(&mut self, number: u64, stage: Stage, descriptors: usize) {
        if let Some(entry) = self.remove(number) {
            let changed = Entry {
                stage,
                descriptors,
                ..entry
            };
            self.insert(number, changed);
        }
    }

    fn waiting(&self) -> impl DoubleEndedIterator<Item = (u64, &Entry)> {
        let entries = self.entries.iter().map(|(&number, entry)| (number, entry));
        entries.filter(|(_, entry)| entry.stage == Stage::Waiting)
    }

    fn waiting_of(&self, session: u64) -> usize {
        self.waiting.get(&session).copied().unwrap_or(0)
    }

    /// Descriptors of running commands: of one session, and of all.
    fn running(&self, session: u64) -> (usize, usize) {
        let running = self
            .entries
            .values()
            .filter(|entry| entry.stage == Stage::Running);
        running.fold((0, 0), |(own, all), entry| {
            let its = if entry.session == session {
                entry.descriptors
            } else {
                0
            };
            (own + its, all + entry.descriptors)
        })
    }

    /// Evicts streams until all hold at most `most` descriptors. Sessions that hold less than the session of stream
    /// `newcomer` are spared, and it gives way itself if no other can.
    fn make_room(&mut self, newcomer: u64, most: usize) {
        while self.held > most {
            let Some(own) = self.entries.get(&newcomer).map(|entry| entry.session) else {
                return;
            };
            let mut held: HashMap<u64, usize> = HashMap::new();
            for entry in self.entries.values() {
                *held.entry(entry.session).or_default() += entry.descriptors;
            }
            let mine = held.get(&own).copied().unwrap_or(0);
            let mut sessions: Vec<(u64, usize)> = held
                .into_iter()
                .filter(|&(session, held)| session == own || held > mine)
                .collect();
            sessions.sort_unstable_by_key(|&(session, held)| (std::cmp::Reverse(held), session));
            let victim = sessions
                .iter()
                .find_map(|&(session, _)| self.victim_in(session, newcomer));
            self.evict(victim.unwrap_or(newcomer));
        }
    }

    /// The stream of that session that gives way first. Of the newcomer's own session, none does that awaits its decision.
    fn victim_in(&self, session: u64, newcomer: u64) -> Option<u64> {
        let own = self
            .entries
            .get(&newcomer)
            .is_some_and(|entry| entry.session == session);
        let of_session = |(_, entry): &(u64, &Entry)| entry.session == session;
        let oldest_waiting = self.waiting().find(of_session).map(|(number, _)| number);
        oldest_waiting.or_else(|| {
            let entries = self.entries.iter().rev();
            let mut deciding = entries.filter(|(_, entry)| entry.stage == Stage::Deciding && !own);
            deciding
                .find(|(_, entry)| entry.session == session)
                .map(|(&number, _)| number)
        })
    }

    fn evict(&mut self, number: u64) {
        if let Some(entry) = self.remove(number) {
            entry.evicted.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(places: &[Place]) -> Vec<bool> {
        places.iter().map(|place| place.evicted.is_cancelled()).collect()
    }

    fn deciding(places: &Places) -> Place {
        let place = places.enter();
        place.decides();
        place
    }

    #[test]
    fn one_idle_stream_too_many_evicts_the_oldest() {
        let places = Places::new(&Ledger::default(), 1, 100, 2);
        let first = places.enter();
        let second = places.enter();
        drop(second);
        let third = places.enter();
        assert!(!first.evicted.is_cancelled());
        let fourth = places.enter();
        assert!(first.evicted.is_cancelled());
        assert!(!third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
    }

    #[test]
    fn pending_decisions_of_one_session_make_room_for_another_session_and_not_for_their_own() {
        let ledger = Ledger::default();
        let (greedy, modest) = (Places::new(&ledger, 1, 4, 4), Places::new(&ledger, 2, 4, 4));
        let mut held: Vec<Place> = (0..4).map(|_| deciding(&greedy)).collect();
        let own = greedy.enter();
        assert!(own.evicted.is_cancelled());
        assert_eq!(evicted(&held), [false; 4]);
        held.push(deciding(&modest));
        held.push(deciding(&modest));
        assert_eq!(evicted(&held), [false, false, true, true, false, false]);
        // Both have their half now.
        assert!(modest.enter().evicted.is_cancelled());
        assert!(greedy.enter().evicted.is_cancelled());
        assert_eq!(evicted(&held), [false, false, true, true, false, false]);
    }

    #[test]
    fn streams_that_wait_for_their_client_give_way_before_pending_decisions() {
        let ledger = Ledger::default();
        let (greedy, modest) = (Places::new(&ledger, 1, 4, 4), Places::new(&ledger, 2, 4, 4));
        let held = [
            greedy.enter(),
            deciding(&greedy),
            greedy.enter(),
            deciding(&greedy),
        ];
        let more = [modest.enter(), modest.enter()];
        assert_eq!(evicted(&held), [true, false, true, false]);
        assert_eq!(evicted(&more), [false, false]);
    }

    #[test]
    fn half_a_message_with_descriptors_counts_what_it_holds() {
        let ledger = Ledger::default();
        let (greedy, modest) = (Places::new(&ledger, 1, 20, 20), Places::new(&ledger, 2, 20, 20));
        let half = deciding(&greedy);
        half.waits_with(16);
        let others: Vec<Place> = (0..3).map(|_| deciding(&modest)).collect();
        assert!(!half.evicted.is_cancelled());
        let last = deciding(&modest);
        assert!(half.evicted.is_cancelled());
        assert_eq!(evicted(&others), [false; 3]);
        assert!(!last.evicted.is_cancelled());
    }

    #[test]
    fn running_commands_of_one_session_leave_room_for_those_of_others() {
        let ledger = Ledger::default();
        let running = |session| {
            let places = Places::new(&ledger, session, 16, 16);
            let mut held = Vec::new();
            loop {
                let place = deciding(&places);
                if !place.runs() {
                    return held;
                }
                held.push(place);
            }
        };
        let first = running(1);
        let second = running(2);
        assert_eq!((first.len(), second.len()), (4, 2));
        for place in first.iter().chain(&second) {
            assert!(!place.evicted.is_cancelled());
        }
        first[0].has_ended();
        drop(second);
        assert_eq!(running(3).len(), 2);
    }
}
