//! The clock of a one-shot, which stands still while an approver decides.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::events::{Bell, lock};
use crate::faults::{Fault, broken};

/// The longest time in all for which a clock stands still.
const LONGEST: Duration = Duration::from_secs(600);

/// A clock that has been started.
pub struct Clock {
    state: Mutex<State>,
    /// Rung when it stops and when it goes on.
    pub bell: Bell,
}

struct State {
    started: Instant,
    holders: usize,
    since: Instant,
    stopped: Duration,
}

/// Holds the clock until it is dropped.
pub struct Held<'a>(&'a Clock);

impl Clock {
    /// Starts one.
    pub fn start() -> std::io::Result<Clock> {
        let now = Instant::now();
        Ok(Clock {
            state: Mutex::new(State {
                started: now,
                holders: 0,
                since: now,
                stopped: Duration::ZERO,
            }),
            bell: Bell::new()?,
        })
    }

    /// Holds it.
    pub fn hold(&self) -> Option<Held<'_>> {
        if broken(Fault::ClockRunsOn) {
            return None;
        }
        let mut state = lock(&self.state);
        if state.holders == 0 {
            state.since = Instant::now();
        }
        state.holders += 1;
        drop(state);
        self.bell.ring();
        Some(Held(self))
    }

    /// When it will have run for so long, as things are.
    pub fn reaches(&self, limit: Duration) -> Instant {
        let state = lock(&self.state);
        let stopped = if state.holders > 0 {
            LONGEST
        } else {
            state.stopped.min(LONGEST)
        };
        state.started + limit + stopped
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if broken(Fault::ClockNeverRunsAgain) {
            return;
        }
        let mut state = lock(&self.0.state);
        state.holders -= 1;
        if state.holders == 0 {
            let stopped = state.since.elapsed();
            state.stopped += stopped;
            if broken(Fault::ClockBeginsAgain) {
                state.started = Instant::now();
                state.stopped = Duration::ZERO;
            }
        }
        drop(state);
        self.0.bell.ring();
    }
}
