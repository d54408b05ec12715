//! Output that waits to be read: whole up to a limit, and of more the first and the last bytes.

use std::collections::VecDeque;

use super::output::Output;

/// Unread output.
#[derive(Debug)]
pub(super) struct Buffer {
    limit: usize,
    /// All of it, or what comes before the gap.
    head: VecDeque<u8>,
    /// How many bytes are lost in the gap; 0 if there is none.
    left_out: u64,
    /// What comes behind the gap, if there is one.
    tail: VecDeque<u8>,
    /// How many bytes have ever been added.
    written: u64,
    /// How many of those have been taken or reported as lost.
    read: u64,
}

impl Buffer {
    /// An empty one for up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            head: VecDeque::new(),
            left_out: 0,
            tail: VecDeque::new(),
            written: 0,
            read: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.read
    }

    /// How many bytes have ever been added.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// How many of those have been taken or reported as lost.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Adds what came last.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        if self.left_out == 0 {
            let fits = self.head.len() + bytes.len() <= self.limit;
            if fits {
                self.head.extend(bytes);
                return;
            }
            // From here on there is a gap.
            let first = self.limit.div_ceil(2);
            let missing = first.saturating_sub(self.head.len());
            let (to_head, _) = bytes.split_at(missing);
            self.head.extend(to_head);
            self.tail = self.head.split_off(first);
            self.push_behind_gap(&bytes[missing..]);
        } else {
            self.push_behind_gap(bytes);
        }
    }

    fn push_behind_gap(&mut self, bytes: &[u8]) {
        let room = self.limit - self.head.len();
        // Of more than there is room for, only the end matters.
        let (passed, last) = bytes.split_at(bytes.len().saturating_sub(room));
        let over = (self.tail.len() + last.len()).saturating_sub(room);
        self.tail.drain(..over);
        self.left_out += (passed.len() + over) as u64;
        self.tail.extend(last);
    }

    /// Takes the first `limit` bytes. A gap is reported with the first byte behind it.
    pub(super) fn take(&mut self, limit: usize) -> Output {
        let mut bytes = take_from(&mut self.head, limit);
        let head = bytes.len();
        let mut left_out = 0;
        if self.head.is_empty() && self.left_out > 0 && (head < limit || self.tail.is_empty()) {
            left_out = std::mem::take(&mut self.left_out);
            self.head = std::mem::take(&mut self.tail);
            bytes.extend(take_from(&mut self.head, limit - head));
        }
        self.read += bytes.len() as u64 + left_out;
        Output {
            head: if left_out > 0 { head } else { bytes.len() },
            bytes,
            left_out,
            end: None,
        }
    }
}

/// The first `limit` bytes; gives memory back that is no longer used.
fn take_from(bytes: &mut VecDeque<u8>, limit: usize) -> Vec<u8> {
    if bytes.len() <= limit {
        return std::mem::take(bytes).into();
    }
    bytes.drain(..limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 60;

    /// What is added and taken, in this order.
    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Take(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..90_usize).prop_map(Step::Push),
            (0..90_usize).prop_map(Step::Take)
        ];
        proptest::collection::vec(step, 0..30)
    }

    /// Bytes by their place, so that each can be told from its neighbours.
    fn numbered(from: u64, count: usize) -> Vec<u8> {
        (from..).take(count).map(|place| (place % 251) as u8).collect()
    }

    /// Output, checked to be what follows the first `place` bytes. The place behind it.
    fn follows(output: &Output, place: u64) -> u64 {
        let (first, last) = output.bytes.split_at(output.head);
        assert_eq!(first, numbered(place, first.len()));
        let behind = place + first.len() as u64 + output.left_out;
        assert_eq!(last, numbered(behind, last.len()));
        behind + last.len() as u64
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_order_or_is_counted_as_left_out(steps in steps()) {
            let mut buffer = Buffer::new(LIMIT);
            let (mut written, mut place) = (0, 0);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        buffer.push(&numbered(written, count));
                        written += count as u64;
                    }
                    Step::Take(limit) => {
                        let output = buffer.take(limit);
                        prop_assert!(output.bytes.len() <= limit);
                        prop_assert!(output.left_out == 0 || output.bytes.len() > output.head);
                        place = follows(&output, place);
                    }
                }
                prop_assert_eq!((buffer.written(), buffer.read()), (written, place));
                prop_assert_eq!(buffer.is_empty(), written == place);
                prop_assert!(buffer.head.len() + buffer.tail.len() <= LIMIT);
            }
            while !buffer.is_empty() {
                place = follows(&buffer.take(7), place);
            }
            prop_assert_eq!(place, written);
        }

        #[test]
        fn nothing_within_the_limit_is_left_out(steps in steps()) {
            let mut buffer = Buffer::new(LIMIT);
            let mut unread = 0;
            for step in steps {
                match step {
                    Step::Push(count) if unread + count <= LIMIT => {
                        buffer.push(&vec![0; count]);
                        unread += count;
                    }
                    Step::Push(_) => {}
                    Step::Take(limit) => {
                        let output = buffer.take(limit);
                        prop_assert_eq!(output.left_out, 0);
                        prop_assert_eq!(output.bytes.len(), unread.min(limit));
                        unread -= output.bytes.len();
                    }
                }
            }
        }

        #[test]
        fn of_more_than_the_limit_the_first_and_the_last_half_are_kept(
            pushes in proptest::collection::vec(0..90_usize, 0..20),
        ) {
            let mut buffer = Buffer::new(LIMIT);
            let mut written = 0;
            for count in pushes {
                buffer.push(&numbered(written, count));
                written += count as u64;
            }
            let output = buffer.take(usize::MAX);
            let is_whole = written <= LIMIT as u64;
            prop_assert_eq!(output.left_out, written.saturating_sub(LIMIT as u64));
            prop_assert_eq!(output.head, if is_whole { output.bytes.len() } else { LIMIT / 2 });
            prop_assert_eq!(follows(&output, 0), written);
        }
    }

    #[test]
    fn a_buffer_without_room_counts() {
        let mut buffer = Buffer::new(0);
        buffer.push(b"abc");
        assert_eq!(buffer.take(10).left_out, 3);
        assert!(buffer.is_empty());
    }
}
