//! Commands that go on between calls, each in a terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shell_escalation::terminal::{End, Error, TerminalId, Terminals};
use tokio::time::Instant;

use super::output::Collected;
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
        }
    }

    /// Ends all of them, and waits for that.
    pub(super) async fn end(&self) {
        for process in self.terminals.end().await {
            eprintln!("shell-escalation: cannot end {process}");
        }
    }

    pub(super) fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Started>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session, and returns what could not be killed.
    pub(super) async fn close(&self, id: TerminalId) -> Result<Vec<String>, Error> {
        self.running().remove(&id.number());
        let survivors = self.terminals.close(id).await?;
        Ok(survivors.iter().map(ToString::to_string).collect())
    }

    pub(super) fn list(&self) -> Vec<ListedSession> {
        let listed = self.terminals.list();
        let mut running = self.running();
        // Some have had to make room for others.
        running.retain(|id, _| listed.iter().any(|listed| listed.id.number() == *id));
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
        let mut collected = Collected::new(tokens);
        let mut afterwards = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let output = self.terminals.read(id, left, CHUNK).await?;
            collected.push(&output.bytes[..output.head]);
            collected.skip(output.left_out);
            collected.push(&output.bytes[output.head..]);
            if output.end.is_some() || output.bytes.is_empty() {
                return Ok((collected, output.end));
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
                return Ok((collected, None));
            }
        }
    }
}
