//! The streams whose request has not arrived yet: a bounded number, beyond which the oldest is evicted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The streams whose request has not arrived yet, oldest first.
#[derive(Debug)]
pub(super) struct IdleStreams {
    most: usize,
    streams: Mutex<VecDeque<(u64, CancellationToken)>>,
    next: AtomicU64,
}

/// A stream's place among the idle ones, which it leaves when dropped.
#[derive(Debug)]
pub(super) struct IdleStream {
    all: Arc<IdleStreams>,
    number: u64,
    evicted: CancellationToken,
}

impl IdleStreams {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            streams: Mutex::new(VecDeque::new()),
            next: AtomicU64::new(0),
        }
    }

    /// Whether one more would be too many.
    pub(super) fn is_full(&self) -> bool {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.len() >= self.most
    }

    /// Adds one, and evicts the oldest if that is one too many. An honest request follows its handshake at once, so it is
    /// a flooder's streams that are evicted.
    pub(super) fn enter(self: &Arc<Self>) -> IdleStream {
        let stream = IdleStream {
            all: Arc::clone(self),
            number: self.next.fetch_add(1, Ordering::Relaxed),
            evicted: CancellationToken::new(),
        };
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.push_back((stream.number, stream.evicted.clone()));
        if streams.len() > self.most
            && let Some((_, oldest)) = streams.pop_front()
        {
            oldest.cancel();
        }
        stream
    }
}

impl IdleStream {
    /// Completes when the stream is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for IdleStream {
    fn drop(&mut self) {
        let mut streams = self.all.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_idle_stream_too_many_evicts_the_oldest() {
        let idle = Arc::new(IdleStreams::new(2));
        let first = idle.enter();
        let second = idle.enter();
        drop(second);
        let third = idle.enter();
        assert!(!first.evicted.is_cancelled());
        let fourth = idle.enter();
        assert!(first.evicted.is_cancelled());
        assert!(!third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
    }
}
