//! The memory that a session's requests may use together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The rest of a session's memory.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// A budget of this many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// An empty share, which can grow.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

/// One request's share of the budget, which it returns when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// Takes more bytes; false if fewer are left.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let left = &self.budget.0;
        let taken = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            left.checked_sub(bytes)
        });
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Hands over the share, and leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        let empty = self.budget.share();
        std::mem::replace(self, empty)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = Budget::new(100);
        let mut first = budget.share();
        assert!(first.grow(60) && first.grow(40) && !first.grow(1));
        let mut second = budget.share();
        assert!(!second.grow(1));
        let taken = first.take();
        drop(first);
        assert!(!second.grow(1));
        drop(taken);
        assert!(second.grow(100));
    }
}
