//! The text of programs for a model: as it is, within bounds, with what was left out said.

use std::borrow::Cow;
use std::collections::VecDeque;

/// About how many bytes a model's token has.
const BYTES_PER_TOKEN: usize = 4;

/// Most tokens of a result where the call doesn't say.
pub(super) const DEFAULT_TOKENS: u32 = 10_000;

/// The first and the last bytes of an output.
#[derive(Debug)]
pub(super) struct Collected {
    head: Vec<u8>,
    /// Whether something was left out after `head`.
    gap: bool,
    tail: VecDeque<u8>,
    left_out: u64,
    limit: usize,
}

/// Text for a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    /// Bytes that are not in it.
    pub(super) left_out: u64,
    /// Whether bytes that are not UTF-8 were replaced.
    pub(super) replaced: bool,
}

impl Collected {
    /// Nothing yet; at most this many tokens, by a guess at their length.
    pub(super) fn new(tokens: u32) -> Self {
        Self {
            head: Vec::new(),
            gap: false,
            tail: VecDeque::new(),
            left_out: 0,
            limit: limit(tokens),
        }
    }

    /// From now on at most this many tokens, unless more were allowed already.
    pub(super) fn make_room_for(&mut self, tokens: u32) {
        self.limit = self.limit.max(limit(tokens));
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let to_head = if self.gap {
            0
        } else {
            (self.limit / 2).saturating_sub(self.head.len()).min(bytes.len())
        };
        let (first, rest) = bytes.split_at(to_head);
        self.head.extend_from_slice(first);
        let most = self.limit - self.limit / 2;
        // What would be dropped at once is not copied.
        let skipped = rest.len().saturating_sub(most);
        self.tail.extend(&rest[skipped..]);
        let dropped = self.tail.len().saturating_sub(most);
        self.tail.drain(..dropped);
        self.left_out += (skipped + dropped) as u64;
        self.gap |= skipped + dropped > 0 || !self.tail.is_empty();
    }

    /// Something that came now was left out before it got here.
    pub(super) fn skip(&mut self, bytes: u64) {
        if bytes > 0 {
            // There is one gap, so what came after the head goes into it.
            self.left_out += bytes + self.tail.len() as u64;
            self.tail.clear();
            self.gap = true;
        }
    }

    /// Adds what was collected elsewhere afterwards.
    pub(super) fn append(&mut self, later: Self) {
        self.push(&later.head);
        self.skip(later.left_out);
        self.push(&Vec::from(later.tail));
    }

    /// Takes out the first part of a character whose rest is yet to come.
    pub(super) fn split_off_incomplete(&mut self) -> Vec<u8> {
        let before_gap = if self.left_out == 0 { &self.head[..] } else { &[] };
        let mut last: Vec<u8> = before_gap
            .iter()
            .chain(&self.tail)
            .rev()
            .take(4)
            .copied()
            .collect();
        last.reverse();
        let incomplete = last.split_off(whole_end(&last).len());
        let from_tail = incomplete.len().min(self.tail.len());
        self.tail.truncate(self.tail.len() - from_tail);
        let from_head = incomplete.len() - from_tail;
        self.head.truncate(self.head.len() - from_head);
        incomplete
    }

    pub(super) fn shown(mut self) -> Shown {
        let all_tail = Vec::from(self.tail);
        if self.left_out == 0 {
            self.head.extend_from_slice(&all_tail);
            let text = String::from_utf8_lossy(&self.head);
            return Shown {
                replaced: matches!(text, Cow::Owned(_)),
                text: text.into_owned(),
                left_out: 0,
            };
        }
        // No character is cut in two.
        let head = whole_end(&self.head);
        let tail = whole_start(&all_tail);
        let left_out =
            self.left_out + (self.head.len() - head.len()) as u64 + (all_tail.len() - tail.len()) as u64;
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        let tokens = left_out.div_ceil(BYTES_PER_TOKEN as u64);
        Shown {
            text: format!("{head}\n[... {left_out} bytes left out here, about {tokens} tokens ...]\n{tail}"),
            left_out,
            replaced: matches!(head, Cow::Owned(_)) || matches!(tail, Cow::Owned(_)),
        }
    }
}

/// How many bytes they are, by a guess.
fn limit(tokens: u32) -> usize {
    usize::try_from(tokens)
        .unwrap_or(usize::MAX)
        .saturating_mul(BYTES_PER_TOKEN)
}

/// The bytes without the first part of a character that continues after them.
fn whole_end(bytes: &[u8]) -> &[u8] {
    let continued = bytes
        .iter()
        .rev()
        .take(3)
        .take_while(|&&byte| is_continuation(byte))
        .count();
    let start = bytes.len() - continued;
    let Some(&first) = bytes[..start].last() else {
        return bytes;
    };
    let length = match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    if length > continued + 1 {
        &bytes[..start - 1]
    } else {
        bytes
    }
}

/// The bytes without the last part of a character that began before them.
fn whole_start(bytes: &[u8]) -> &[u8] {
    let continued = bytes
        .iter()
        .take(3)
        .take_while(|&&byte| is_continuation(byte))
        .count();
    &bytes[continued..]
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tokens: u32, parts: &[&[u8]]) -> Shown {
        let mut collected = Collected::new(tokens);
        for part in parts {
            collected.push(part);
        }
        collected.shown()
    }

    #[test]
    fn what_fits_is_shown_as_it_is() {
        let text = "\u{1b}[31mred\u{202e}\u{7}\r\n";
        let all = shown(100, &[text.as_bytes()]);
        assert_eq!((all.text.as_str(), all.left_out, all.replaced), (text, 0, false));
        // To the last byte.
        let full = "x".repeat(40);
        assert_eq!(shown(10, &[full.as_bytes()]).text, full);
        let parts: Vec<&[u8]> = full.as_bytes().chunks(1).collect();
        assert_eq!(shown(10, &parts).text, full);
        assert_eq!(shown(10, &[]).text, "");
    }

    #[test]
    fn of_more_the_first_and_the_last_are_shown_and_the_rest_is_counted() {
        let text: Vec<u8> = (0..100).map(|number| b'a' + number % 26).collect();
        let expected = format!(
            "{}\n[... 60 bytes left out here, about 15 tokens ...]\n{}",
            String::from_utf8_lossy(&text[..20]),
            String::from_utf8_lossy(&text[80..])
        );
        for size in [1, 3, 7, 19, 20, 21, 39, 40, 41, 100] {
            let parts: Vec<&[u8]> = text.chunks(size).collect();
            let shown = shown(10, &parts);
            assert_eq!(
                (shown.text.as_str(), shown.left_out),
                (expected.as_str(), 60),
                "{size}"
            );
        }
        assert_eq!(shown(0, &[b"x"]).left_out, 1);
    }

    #[test]
    fn what_was_left_out_earlier_is_counted_as_well() {
        let mut collected = Collected::new(10);
        collected.push(&[b'a'; 30]);
        collected.skip(1000);
        collected.push(b"end");
        let shown = collected.shown();
        assert_eq!(shown.left_out, 1010);
        assert!(
            shown.text.starts_with(&"a".repeat(20)) && shown.text.ends_with("]\nend"),
            "{}",
            shown.text
        );
    }

    #[test]
    fn a_character_that_is_not_complete_is_split_off() {
        for tokens in [1, 100] {
            for (written, rest) in [
                (&b"ab\xe2\x82"[..], &b"\xe2\x82"[..]),
                (b"abc\xc3", b"\xc3"),
                (b"a\xf0\x9f\x98", b"\xf0\x9f\x98"),
                ("a€".as_bytes(), b""),
                (b"ab\xff", b""),
                (b"a\x82\x82\x82", b""),
                (b"", b""),
            ] {
                let mut collected = Collected::new(tokens);
                collected.push(written);
                assert_eq!(collected.split_off_incomplete(), rest, "{tokens}: {written:?}");
                let whole = &written[..written.len() - rest.len()];
                assert_eq!(collected.shown().text, String::from_utf8_lossy(whole));
            }
        }
    }

    #[test]
    fn no_character_is_cut_and_other_bytes_are_replaced() {
        let euros = "€".repeat(50);
        let cut = shown(10, &[euros.as_bytes()]);
        assert!(!cut.replaced, "{}", cut.text);
        assert_eq!(cut.left_out, 150 - 2 * 18);
        assert_eq!(cut.text.matches('€').count(), 12);
        let bytes = shown(10, &[b"a\xffb"]);
        assert_eq!((bytes.text.as_str(), bytes.replaced), ("a\u{fffd}b", true));
    }
}
