//! The memory that requests may use: those of a session together, and those of all sessions together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The memory of several sessions. A session may take as much as stays free for the others: alone half of it, and whatever one
/// session holds, the next finds as much.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Mutex<usize>>);

impl Pool {
    /// A pool of which nothing is used.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    fn used(&self) -> MutexGuard<'_, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of a session.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pool: Pool,
    /// Bytes that all sessions may use together.
    most_of_all: usize,
    /// Bytes that this session may use.
    most: usize,
    /// Bytes that this session uses; accessed only while the pool is locked.
    used: Arc<Mutex<usize>>,
}

impl Budget {
    /// A budget of `most` bytes in a pool that may hand out `most_of_all`.
    pub(crate) fn new(most: usize, pool: &Pool, most_of_all: usize) -> Self {
        Self {
            pool: pool.clone(),
            most_of_all,
            most,
            used: Arc::default(),
        }
    }

    /// An empty share, which can grow.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Replaces `old` bytes by `new`; false, and nothing changes, if more are needed than are left.
    fn exchange(&self, old: usize, new: usize) -> bool {
        let mut of_all = self.pool.used();
        let mut own = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (all_then, own_then) = (of_all.saturating_sub(old) + new, own.saturating_sub(old) + new);
        let fits = own_then <= self.most && own_then <= self.most_of_all.saturating_sub(all_then);
        if new > old && !fits {
            return false;
        }
        (*of_all, *own) = (all_then, own_then);
        true
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
        self.resize(self.bytes.saturating_add(bytes))
    }

    /// Has that many bytes from now on; false if more are needed than are left.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let fits = self.budget.exchange(self.bytes, bytes);
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    /// The bytes of this share.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands over the share, and leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        let empty = self.budget.share();
        std::mem::replace(self, empty)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.exchange(self.bytes, 0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A budget of a session without others.
    pub(in crate::stream) fn alone(bytes: usize) -> Budget {
        Budget::new(bytes, &Pool::new(), 2 * bytes)
    }

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = alone(100);
        let mut first = budget.share();
        assert!(first.grow(60) && first.grow(40) && !first.grow(1));
        let mut second = budget.share();
        assert!(!second.grow(1));
        let taken = first.take();
        drop(first);
        assert!(!second.grow(1));
        drop(taken);
        assert!(second.grow(100));
        assert!(second.resize(30) && second.grow(70) && !second.grow(1));
    }

    #[test]
    fn no_session_takes_what_others_need() {
        let pool = Pool::new();
        let sessions: Vec<Budget> = (0..6).map(|_| Budget::new(1000, &pool, 1024)).collect();
        let mut held = Vec::new();
        for session in &sessions {
            let mut share = session.share();
            while share.grow(1) {}
            held.push(share);
        }
        let bytes: Vec<usize> = held.iter().map(Share::bytes).collect();
        assert_eq!(bytes, [512, 256, 128, 64, 32, 16]);
        held.remove(0);
        let mut again = sessions[5].share();
        assert!(again.grow(200));
    }
}
