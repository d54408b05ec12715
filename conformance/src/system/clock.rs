//! The clock of patience: it goes while this process looks, so what holds up the suite, or the whole machine, uses up nobody's
//! time.

use std::ops::Add;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most that the clock goes on between two looks at it. Who waits looks twice as often: [`Moment::next_wait`].
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// When it was last looked at, and what it showed then.
static CLOCK: Mutex<Option<(Instant, Moment)>> = Mutex::new(None);

/// The time that it left out.
static HELD_UP: Mutex<Duration> = Mutex::new(Duration::ZERO);

/// A moment on this clock. For deadlines; how long something took is measured with [`Instant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Looks at the clock.
    pub fn now() -> Moment {
        let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let shown = clock.map_or(Moment(Duration::ZERO), |(looked, shown)| {
            let passed = now.saturating_duration_since(looked);
            let counted = passed.min(BETWEEN_LOOKS);
            *HELD_UP.lock().unwrap_or_else(PoisonError::into_inner) += passed - counted;
            shown + counted
        });
        *clock = Some((now, shown));
        shown
    }

    /// How long it is until this moment, 0 once it is over.
    pub fn left(self) -> Duration {
        self.0.saturating_sub(Moment::now().0)
    }

    /// How long to wait in one go until this moment, so that the clock is looked at often enough to go on.
    pub fn next_wait(self) -> Duration {
        self.left().min(BETWEEN_LOOKS / 2)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

/// The time so far that was left out: in which this process, which waited, was held up, or in which it didn't wait.
pub fn held_up() -> Duration {
    *HELD_UP.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0 + time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let deadline = Moment::now() + 4 * BETWEEN_LOOKS;
        std::thread::sleep(5 * BETWEEN_LOOKS);
        assert!(deadline.left() > 2 * BETWEEN_LOOKS, "{:?}", deadline.left());
        assert!(held_up() >= 4 * BETWEEN_LOOKS, "{:?}", held_up());
        for _ in 0..10 {
            std::thread::sleep(BETWEEN_LOOKS / 2);
            if deadline.is_over() {
                return;
            }
        }
        panic!("{:?} are left though somebody looked", deadline.left());
    }
}
