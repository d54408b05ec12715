//! The clock of a one-shot command's timeout: it is stopped while a person is asked for approval.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Starts when it is made; stopped while any [`Stopped`] exists.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    state: Mutex<State>,
    /// Notified whenever the clock stops or resumes.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// How many [`Stopped`] exist.
    holders: usize,
    /// Time up to the last stop.
    counted: Duration,
    /// When the clock last resumed; `None` while it is stopped.
    running_since: Option<Instant>,
}

/// Keeps the clock stopped; it resumes when the last of these is dropped.
#[derive(Debug)]
#[must_use = "the clock resumes when this is dropped"]
pub struct Stopped(Arc<Stopwatch>);

impl Stopwatch {
    pub(crate) fn start() -> Arc<Self> {
        let state = State {
            holders: 0,
            counted: Duration::ZERO,
            running_since: Some(Instant::now()),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Stops the clock, or keeps it stopped.
    pub(crate) fn hold(self: &Arc<Self>) -> Stopped {
        let mut state = self.state();
        state.holders += 1;
        if let Some(since) = state.running_since.take() {
            state.counted += since.elapsed();
        }
        drop(state);
        self.changed.notify_waiters();
        Stopped(Arc::clone(self))
    }

    /// Completes when the clock has run for `limit`; never while it is stopped.
    pub(crate) async fn reaches(&self, limit: Duration) {
        loop {
            // Registered before the state is read: no change in between is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let running_since = {
                let state = self.state();
                state
                    .running_since
                    .map(|since| (since, limit.saturating_sub(state.counted)))
            };
            match running_since {
                None => changed.await,
                Some((since, left)) => tokio::select! {
                    biased;
                    () = &mut changed => {}
                    () = tokio::time::sleep_until(since + left) => {
                        // If it was stopped at the last moment, the clock has not reached the limit.
                        let state = self.state();
                        let run = state.running_since.map(|since| state.counted + since.elapsed());
                        if run.is_some_and(|run| run >= limit) {
                            return;
                        }
                    }
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.holders -= 1;
        if state.holders == 0 {
            state.running_since = Some(Instant::now());
        }
        drop(state);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    async fn reached(watch: &Arc<Stopwatch>, limit: Duration) -> bool {
        timeout(Duration::ZERO, watch.reaches(limit)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn it_runs() {
        let watch = Stopwatch::start();
        advance(SECOND).await;
        assert!(reached(&watch, SECOND).await);
        assert!(!reached(&watch, 2 * SECOND).await);
        let start = Instant::now();
        watch.reaches(3 * SECOND).await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_stopped_while_anything_holds_it() {
        let watch = Stopwatch::start();
        advance(SECOND).await;
        let first = watch.hold();
        advance(100 * SECOND).await;
        let second = watch.hold();
        drop(first);
        advance(100 * SECOND).await;
        assert!(!reached(&watch, 2 * SECOND).await);
        drop(second);
        advance(SECOND / 2).await;
        assert!(!reached(&watch, 2 * SECOND).await);
        advance(SECOND / 2).await;
        assert!(reached(&watch, 2 * SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_it_at_the_last_moment_counts() {
        let watch = Stopwatch::start();
        let waiting = tokio::spawn({
            let watch = Arc::clone(&watch);
            async move { watch.reaches(SECOND).await }
        });
        tokio::task::yield_now().await;
        advance(SECOND - Duration::from_millis(1)).await;
        let held = watch.hold();
        advance(100 * SECOND).await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let released = Instant::now();
        drop(held);
        waiting.await.unwrap();
        assert!(
            released.elapsed() <= Duration::from_millis(2),
            "{:?}",
            released.elapsed()
        );
    }
}
