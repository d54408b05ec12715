//! Stops and continuations that cross on their way.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::faults::{Fault, broken};

/// The stops of a child, as far as its wrapper knows.
#[derive(Default)]
pub struct Stops {
    /// Those that it was told of, and not continued after, with the numbers of the messages.
    pub told: VecDeque<(i128, u64)>,
    /// How many messages told of stops.
    pub messages: i128,
    /// How often it was continued.
    pub continuations: u64,
    /// How many orders to continue the child its keeper was given.
    pub orders: u64,
}

impl Stops {
    /// What a keeper is told when the wrapper has been continued, unless that is about no stop; `read` is the number of the
    /// messages that the wrapper had read.
    pub fn continued(&mut self, read: Option<i128>) -> Option<Value> {
        self.continuations += 1;
        let (oldest, _) = *self.told.front()?;
        let in_order = read.is_none();
        let read = read.unwrap_or(oldest);
        let mut last_read = None;
        while let Some((_, stop)) = self.told.pop_front_if(|(number, _)| *number <= read) {
            last_read = Some(stop);
        }
        match self.told.back() {
            Some(&(_, unread)) if !in_order => {
                self.told.clear();
                match () {
                    () if broken(Fault::UnreadStopUndone) => Some(json!({"continue after": unread})),
                    () => Some(json!({"continue after": 0})),
                }
            }
            _ => last_read.map(|stop| json!({"continue after": stop})),
        }
    }
}
