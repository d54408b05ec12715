//! The open requests of all sessions, and which of them gives way when there are too many.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use nix::sys::resource::{Resource, getrlimit};

use crate::events::lock;
use crate::faults::{Fault, broken};
use crate::ticket::Ticket;

/// Descriptors that a request may need until its child runs, with room for what else the server opens.
const OF_EACH: u64 = 8;

/// Oldest first.
static OPEN: Mutex<Vec<Arc<Ticket>>> = Mutex::new(Vec::new());

/// Adds a request. If there are too many then, the oldest of the session with the most gives way, unless its child runs.
pub fn enter(ticket: &Arc<Ticket>) {
    let mut open = lock(&OPEN);
    open.push(ticket.clone());
    if broken(Fault::NoSessionGivesWay) {
        return;
    }
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let most = usize::try_from(files / OF_EACH).unwrap_or(usize::MAX);
    while open.len() > most {
        let Some(position) = first_to_give_way(&open) else {
            return;
        };
        open.remove(position).cancel();
    }
}

/// Removes a request that is over.
pub fn leave(ticket: &Arc<Ticket>) {
    lock(&OPEN).retain(|other| !Arc::ptr_eq(other, ticket));
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
