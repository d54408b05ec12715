//! The stops of a child that its wrapper is told of, and which of them a continuation of the wrapper is about.
//!
//! Frames cross: the wrapper may be continued before it has read of a stop, and the child may stop again before this process
//! has read of a continuation. Both count what they have read and say so (SPEC 5.4), so that neither side guesses.

use std::collections::VecDeque;

use crate::execution::Stop;

/// More are not kept: a wrapper may read of its stops and never be continued.
const MOST: usize = 64;

/// Stops that the wrapper has been told of, and not been continued after.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// With the number of the message about each; the first is 1.
    told: VecDeque<(u64, Stop)>,
    messages: u64,
    continuations: u64,
}

/// What becomes of a child whose wrapper has been continued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Continuation {
    /// It is continued if it is still in that stop.
    After(Stop),
    /// The wrapper has not read of the last stop, and will not stop for what it has been told: if the child is stopped, the wrapper
    /// is told again.
    BeforeIt,
    /// It gets the signal like any other: the wrapper has not been told of a stop.
    AnyHow,
}

impl Stops {
    /// Notes a stop that the wrapper is told of.
    pub(super) fn told_of(&mut self, stop: Stop) {
        if self.told.len() == MOST {
            self.told.pop_front();
        }
        self.messages += 1;
        self.told.push_back((self.messages, stop));
    }

    /// How many continuations of the wrapper have been read.
    pub(super) fn continuations(&self) -> u64 {
        self.continuations
    }

    /// Notes a SIGCONT of the wrapper, which came when it had read `read` messages. One that doesn't say so is taken to have been
    /// continued after the oldest.
    pub(super) fn continued(&mut self, read: Option<u64>) -> Continuation {
        self.continuations += 1;
        let Some(read) = read else {
            let oldest = self.told.pop_front();
            return oldest.map_or(Continuation::AnyHow, |(_, stop)| Continuation::After(stop));
        };
        let mut last_read = None;
        while let Some((_, stop)) = self.told.pop_front_if(|(number, _)| *number <= read) {
            last_read = Some(stop);
        }
        if !self.told.is_empty() {
            self.told.clear();
            return Continuation::BeforeIt;
        }
        last_read.map_or(Continuation::AnyHow, Continuation::After)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(number: i32) -> Stop {
        Stop { signal: 20, number }
    }

    #[test]
    fn a_continuation_is_about_the_last_stop_that_was_read() {
        let mut stops = Stops::default();
        assert_eq!(stops.continued(Some(0)), Continuation::AnyHow);
        stops.told_of(stop(1));
        stops.told_of(stop(2));
        assert_eq!(stops.continued(Some(2)), Continuation::After(stop(2)));
        assert_eq!(stops.continued(Some(2)), Continuation::AnyHow);
        assert_eq!(stops.continuations(), 3);
    }

    #[test]
    fn a_stop_that_was_not_read_is_told_again() {
        let mut stops = Stops::default();
        stops.told_of(stop(1));
        stops.told_of(stop(2));
        assert_eq!(stops.continued(Some(1)), Continuation::BeforeIt);
        stops.told_of(stop(2));
        assert_eq!(stops.continued(Some(3)), Continuation::After(stop(2)));
    }

    #[test]
    fn a_wrapper_that_does_not_count_is_continued_after_one_stop_at_a_time() {
        let mut stops = Stops::default();
        stops.told_of(stop(1));
        stops.told_of(stop(2));
        assert_eq!(stops.continued(None), Continuation::After(stop(1)));
        assert_eq!(stops.continued(None), Continuation::After(stop(2)));
        assert_eq!(stops.continued(None), Continuation::AnyHow);
    }

    #[test]
    fn stops_without_continuations_are_forgotten() {
        let mut stops = Stops::default();
        for number in 1..=100 {
            stops.told_of(stop(number));
        }
        assert_eq!(stops.told.len(), MOST);
        assert_eq!(stops.continued(Some(100)), Continuation::After(stop(100)));
    }
}
