//! What a policy remembers about a session, for as long as the session lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::PolicyRequest;
use crate::clock::Stopwatch;

/// One `T` per session. What belongs to ended sessions is forgotten when a new one appears.
#[derive(Debug)]
pub(super) struct PerSession<T>(Mutex<HashMap<u64, Remembered<T>>>);

/// A session's clock, which ends with the session, and what is remembered about it.
type Remembered<T> = (Weak<Stopwatch>, Arc<T>);

impl<T> Default for PerSession<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> PerSession<T> {
    /// That of the request's session.
    pub(super) fn of(&self, request: &PolicyRequest) -> Arc<T> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = Arc::downgrade(&request.clock);
        match sessions.get(&request.session) {
            Some((own, found)) if own.ptr_eq(&clock) => Arc::clone(found),
            _ => {
                sessions.retain(|_, (own, _)| own.strong_count() > 0);
                let new = Arc::<T>::default();
                sessions.insert(request.session, (clock, Arc::clone(&new)));
                new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_session_share_it_and_ended_sessions_are_forgotten() {
        let all = PerSession::<Mutex<u32>>::default();
        let mut requests: Vec<_> = (0..3)
            .map(|session| {
                let mut request = PolicyRequest::new("/bin/true");
                request.session = session;
                request
            })
            .collect();
        for request in &requests {
            *all.of(request).lock().unwrap() += 1;
            *all.of(&request.clone()).lock().unwrap() += 1;
            assert_eq!(*all.of(request).lock().unwrap(), 2);
        }
        requests.truncate(1);
        let mut new = PolicyRequest::new("/bin/true");
        new.session = 7;
        all.of(&new);
        assert_eq!(all.0.lock().unwrap().len(), 2);
    }
}
