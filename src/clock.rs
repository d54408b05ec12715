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
    started: Instant,
    /// How many [`Stopped`] exist.
    holders: usize,
    /// Time for which it was stopped, up to the last resumption.
    stopped: Duration,
    /// When it was stopped; `None` while it runs.
    stopped_since: Option<Instant>,
}

impl State {
    /// When the clock will have run for `limit` if nothing changes, stopped no longer than `longest_stop` in all.
    fn reached_at(&self, limit: Duration, longest_stop: Duration) -> Option<Instant> {
        let stopped = match self.stopped_since {
            // It will be stopped as long as it may.
            Some(_) => longest_stop,
            None => self.stopped.min(longest_stop),
        };
        self.started.checked_add(limit)?.checked_add(stopped)
    }
}

/// Keeps the clock stopped; it resumes when the last of these is dropped.
#[derive(Debug)]
#[must_use = "the clock resumes when this is dropped"]
pub struct Stopped(Arc<Stopwatch>);

impl Stopwatch {
    pub(crate) fn start() -> Arc<Self> {
        let state = State {
            started: Instant::now(),
            holders: 0,
            stopped: Duration::ZERO,
            stopped_since: None,
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
        state.stopped_since.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_waiters();
        Stopped(Arc::clone(self))
    }

    /// Completes when the clock has run for `limit`, where it is stopped no longer than `longest_stop` in all.
    pub(crate) async fn reaches(&self, limit: Duration, longest_stop: Duration) {
        loop {
            // Registered before the state is read: no change in between is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // A bound that is beyond the end of time is none.
            let Some(end) = self.state().reached_at(limit, longest_stop) else {
                changed.await;
                continue;
            };
            tokio::select! {
                biased;
                () = &mut changed => {}
                () = tokio::time::sleep_until(end) => {
                    // If it was stopped at the last moment, the clock has not reached the limit.
                    let end = self.state().reached_at(limit, longest_stop);
                    if end.is_some_and(|end| end <= Instant::now()) {
                        return;
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
        if state.holders == 0
            && let Some(since) = state.stopped_since.take()
        {
            state.stopped += since.elapsed();
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
    const LONGEST: Duration = Duration::from_secs(600);

    async fn reached(watch: &Arc<Stopwatch>, limit: Duration) -> bool {
        timeout(Duration::ZERO, watch.reaches(limit, LONGEST))
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn it_runs() {
        let watch = Stopwatch::start();
        advance(SECOND).await;
        assert!(reached(&watch, SECOND).await);
        assert!(!reached(&watch, 2 * SECOND).await);
        let start = Instant::now();
        watch.reaches(3 * SECOND, LONGEST).await;
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
            async move { watch.reaches(SECOND, LONGEST).await }
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

    #[tokio::test(start_paused = true)]
    async fn it_is_stopped_no_longer_than_the_maximum() {
        let watch = Stopwatch::start();
        let start = Instant::now();
        let first = watch.hold();
        advance(400 * SECOND).await;
        drop(first);
        let _second = watch.hold();
        watch.reaches(2 * SECOND, LONGEST).await;
        assert_eq!(start.elapsed().as_secs(), 602);
    }

    #[tokio::test(start_paused = true)]
    async fn a_maximum_beyond_the_end_of_time_is_none() {
        let watch = Stopwatch::start();
        let held = watch.hold();
        advance(100_000 * SECOND).await;
        let waiting = watch.reaches(SECOND, Duration::MAX);
        assert!(timeout(SECOND, waiting).await.is_err());
        drop(held);
        watch.reaches(SECOND, Duration::MAX).await;
    }
}
