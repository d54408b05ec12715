//! The open requests of all sessions, and which of them gives way when there are too many.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use crate::events::lock;
use crate::faults::{Fault, broken};
use crate::ticket::Ticket;

/// Descriptors that a request may need until its child runs, with room for what else the server opens.
const OF_EACH: u64 = 8;

/// What is open, oldest first, and what has had to give way but isn't over yet.
struct Requests {
    open: Vec<Arc<Ticket>>,
    leaving: Vec<Arc<Ticket>>,
}

static REQUESTS: Mutex<Requests> = Mutex::new(Requests {
    open: Vec::new(),
    leaving: Vec::new(),
});

/// Notified when a request is over.
static ONE_IS_OVER: Condvar = Condvar::new();

/// Adds a request. If there are too many then, the oldest of the session with the most gives way, unless its child runs. Waits
/// while too many of those still hold their descriptors.
pub fn enter(ticket: &Arc<Ticket>) {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let most = usize::try_from(files / OF_EACH).unwrap_or(usize::MAX);
    // They come on top of those that are open, each with up to five descriptors.
    let leaving = most.div_ceil(4);
    let requests = ONE_IS_OVER.wait_while(lock(&REQUESTS), |requests| requests.leaving.len() >= leaving);
    let mut requests = requests.unwrap_or_else(PoisonError::into_inner);
    requests.open.push(ticket.clone());
    if broken(Fault::NoSessionGivesWay) {
        return;
    }
    while requests.open.len() > most {
        let Some(position) = first_to_give_way(&requests.open) else {
            return;
        };
        let ticket = requests.open.remove(position);
        ticket.cancel();
        requests.leaving.push(ticket);
    }
}

/// Removes a request that is over.
pub fn leave(ticket: &Arc<Ticket>) {
    let mut requests = lock(&REQUESTS);
    requests.open.retain(|other| !Arc::ptr_eq(other, ticket));
    requests.leaving.retain(|other| !Arc::ptr_eq(other, ticket));
    ONE_IS_OVER.notify_all();
}

fn first_to_give_way(open: &[Arc<Ticket>]) -> Option<usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for ticket in open {
        *counts.entry(&ticket.session).or_default() += 1;
    }
    let can = |ticket: &Arc<Ticket>| {
        let is_reading = ticket.is_reading.load(Ordering::SeqCst);
        !ticket.has_child.load(Ordering::SeqCst) && (is_reading || !broken(Fault::OnlyIdleStreamsGiveWay))
    };
    let greediest = open
        .iter()
        .filter(|ticket| can(ticket))
        .map(|ticket| counts[&*ticket.session])
        .max()?;
    open.iter()
        .position(|ticket| can(ticket) && counts[&*ticket.session] == greediest)
}

/// Threads of all sessions together that look at files, where these are bounded.
const THREADS: usize = 512;

/// How many of them look.
static LOOKING: Mutex<usize> = Mutex::new(0);

/// Notified when one is done.
static ONE_IS_FREE: Condvar = Condvar::new();

/// One of the threads that look at files, as long as this lives.
pub struct Thread(());

impl Thread {
    /// Waits for one.
    pub fn take() -> Thread {
        let looking = ONE_IS_FREE.wait_while(lock(&LOOKING), |looking| *looking >= THREADS);
        *looking.unwrap_or_else(PoisonError::into_inner) += 1;
        Thread(())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        *lock(&LOOKING) -= 1;
        ONE_IS_FREE.notify_one();
    }
}
