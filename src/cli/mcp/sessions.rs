//! Commands that go on between calls, each in a terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shell_escalation::terminal::{End, Error, Listed, Output, TerminalId, Terminals};
use tokio::time::Instant;

use super::output::{Collected, DEFAULT_TOKENS};
use super::session_results::ListedSession;

/// How much is taken from a terminal at a time.
const CHUNK: usize = 64 * 1024;

/// When the time is over, what the terminal still holds is taken, but not what a busy program goes on to write.
const MOST_AFTERWARDS: usize = 1024 * 1024;

/// The terminals of a server, and what runs in them.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) terminals: Terminals,
    running: Mutex<BTreeMap<u64, Started>>,
    /// What was taken from a terminal, and not returned by the call that did.
    unreturned: Mutex<BTreeMap<u64, Collected>>,
}

/// How a command was started.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) command: String,
    pub(super) tty: bool,
}

impl Sessions {
    pub(super) fn new(terminals: Terminals) -> Self {
        Self {
            terminals,
            running: Mutex::default(),
            unreturned: Mutex::default(),
        }
    }

    /// Ends all of them, and waits for that.
    pub(super) async fn end(&self) {
        for process in self.terminals.end().await {
            eprintln!("shell-escalation: cannot end {process}");
        }
    }

    /// A session that the client knows from now on.
    pub(super) fn add(&self, id: TerminalId, started: Started) {
        self.running().insert(id.number(), started);
        // Others may have had to make room for it.
        self.forget_gone(&self.terminals.list());
    }

    fn forget_gone(&self, listed: &[Listed]) {
        let is_there = |id: &u64| listed.iter().any(|listed| listed.id.number() == *id);
        self.running().retain(|id, _| is_there(id));
        self.unreturned().retain(|id, _| is_there(id));
    }

    pub(super) fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Started>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreturned(&self) -> MutexGuard<'_, BTreeMap<u64, Collected>> {
        self.unreturned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session, and returns what could not be killed.
    pub(super) async fn close(&self, id: TerminalId) -> Result<Vec<String>, Error> {
        self.running().remove(&id.number());
        self.unreturned().remove(&id.number());
        let survivors = self.terminals.close(id).await?;
        Ok(survivors.iter().map(ToString::to_string).collect())
    }

    pub(super) fn list(&self) -> Vec<ListedSession> {
        let listed = self.terminals.list();
        self.forget_gone(&listed);
        let running = self.running();
        let sessions = listed.iter().filter_map(|listed| {
            let started = running.get(&listed.id.number())?.clone();
            Some(ListedSession {
                session_id: listed.id.number(),
                command: started.command,
                tty: started.tty,
                running: listed.end.is_none(),
            })
        });
        sessions.collect()
    }

    /// What a session writes until the time is over or it has ended; if `to_a_pause`, also until it writes no more for now.
    pub(super) async fn collect(
        &self,
        id: TerminalId,
        until: Instant,
        to_a_pause: bool,
        tokens: u32,
    ) -> Result<(Collected, Option<End>), Error> {
        let mut afterwards = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let output = self.terminals.read(id, left, CHUNK).await?;
            self.keep(id, tokens, &output);
            if output.end.is_some() || output.bytes.is_empty() {
                return Ok((self.take(id, tokens, output.end), output.end));
            }
            let more_is_there = output.bytes.len() == CHUNK;
            if left.is_zero() {
                afterwards += output.bytes.len();
            }
            let enough = if left.is_zero() {
                afterwards >= MOST_AFTERWARDS
            } else {
                false
            };
            if enough || !more_is_there && (to_a_pause || left.is_zero()) {
                return Ok((self.take(id, tokens, None), None));
            }
        }
    }

    /// Keeps what was taken from a terminal for the call that returns first: this one may be taken back.
    fn keep(&self, id: TerminalId, tokens: u32, output: &Output) {
        let mut unreturned = self.unreturned();
        let kept = unreturned
            .entry(id.number())
            .or_insert_with(|| Collected::new(tokens));
        kept.make_room_for(tokens);
        kept.push(&output.bytes[..output.head]);
        kept.skip(output.left_out);
        kept.push(&output.bytes[output.head..]);
    }

    /// What a call returns: all that was kept, but of a program that goes on not the first part of a character.
    fn take(&self, id: TerminalId, tokens: u32, end: Option<End>) -> Collected {
        let mut unreturned = self.unreturned();
        let mut returned = Collected::new(tokens);
        if let Some(mut kept) = unreturned.remove(&id.number()) {
            let incomplete = kept.split_off_incomplete();
            returned.append(kept);
            if end.is_some() {
                returned.push(&incomplete);
            } else if !incomplete.is_empty() {
                let mut kept = Collected::new(DEFAULT_TOKENS);
                kept.push(&incomplete);
                unreturned.insert(id.number(), kept);
            }
        }
        returned
    }
}
