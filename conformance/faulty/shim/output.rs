//! The output of a terminal that has not been read: all of it up to a limit, and of more its beginning and its end.

use std::collections::VecDeque;
use std::time::Instant;

use crate::faults::{Fault, Variant, broken, unusual};

/// Bytes of each of the two parts.
const HALF: usize = 512 << 10;

/// What has come and has not been read.
pub struct Output {
    /// What comes first.
    head: VecDeque<u8>,
    /// What comes after what was left out.
    tail: VecDeque<u8>,
    /// How much was left out between the two.
    omitted: u64,
    /// When something came last.
    pub latest: Instant,
    /// Exit code or signal of the process, once all output before its end is here.
    pub ended: Option<(Option<i32>, Option<i32>)>,
}

/// What one read gives.
pub struct Taken {
    /// Head and tail.
    pub bytes: Vec<u8>,
    /// How many bytes are missing in it.
    pub omitted: u64,
    /// Where they are missing.
    pub head: usize,
}

/// Bytes of each part that are kept.
fn half() -> usize {
    if broken(Fault::LittleOutputKept) {
        return HALF / 4;
    }
    if unusual(Variant::RoomyTerminals) {
        return HALF * 4;
    }
    HALF
}

impl Output {
    /// None yet.
    pub fn new() -> Output {
        Output {
            head: VecDeque::new(),
            tail: VecDeque::new(),
            omitted: 0,
            latest: Instant::now(),
            ended: None,
        }
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty() && self.omitted == 0
    }

    /// How much there is to read.
    pub fn length(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether no more is kept whole.
    pub fn is_full(&self) -> bool {
        self.length() >= 2 * half()
    }

    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.latest = Instant::now();
        let mut bytes = bytes.to_vec();
        if broken(Fault::OutputAsText) {
            bytes = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
        }
        if broken(Fault::OutputWithoutNul) {
            bytes.retain(|byte| *byte != 0);
        }
        self.tail.extend(bytes);
        self.settle();
        if broken(Fault::OnlyTheEndKept) && self.omitted > 0 {
            self.omitted += self.head.len() as u64;
            self.head.clear();
        }
        if broken(Fault::OnlyTheBeginningKept) && self.omitted > 0 {
            self.omitted += self.tail.len() as u64;
            self.tail.clear();
        }
    }

    /// Moves into the head what directly follows it, and leaves out what is too much.
    fn settle(&mut self) {
        if self.omitted == 0 {
            let room = half().saturating_sub(self.head.len()).min(self.tail.len());
            self.head.extend(self.tail.drain(..room));
        }
        let surplus = self.tail.len().saturating_sub(half());
        self.tail.drain(..surplus);
        self.omitted += surplus as u64;
    }

    /// Takes up to `limit` bytes away.
    pub fn take(&mut self, limit: usize) -> Taken {
        let head = self.head.len().min(limit);
        let mut bytes: Vec<u8> = self.head.drain(..head).collect();
        let more = self.tail.len().min(limit - head);
        let reaches_the_gap = self.head.is_empty() && (more > 0 || self.tail.is_empty());
        let splits = unusual(Variant::GapsBetweenReads) && self.omitted > 0 && head > 0;
        let omitted = if reaches_the_gap && !splits {
            std::mem::take(&mut self.omitted)
        } else {
            0
        };
        if self.head.is_empty() && !splits {
            bytes.extend(self.tail.drain(..more));
        }
        if broken(Fault::RestOfAReadLost) && bytes.len() == limit {
            self.head.clear();
            self.tail.clear();
        }
        if broken(Fault::TailFirst) && omitted > 0 {
            bytes.rotate_left(head);
        }
        self.settle();
        Taken {
            bytes,
            omitted: match omitted {
                some if broken(Fault::LeftOutUncounted) => some.min(1),
                _ if broken(Fault::LeftOutUnsaid) => 0,
                all => all,
            },
            head,
        }
    }
}
