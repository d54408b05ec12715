//! A line of the harness protocol: written at once, and read with the bytes that JSON has no place for.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use crate::transcript::{Direction, Transcript};

pub(super) fn write_line(
    writer: &Mutex<File>,
    transcript: &Transcript,
    message: &Value,
) -> std::io::Result<()> {
    let mut line = message.to_string();
    transcript.message(Direction::ToImplementation, "shim", line.as_bytes(), 0);
    line.push('\n');
    lock(writer).write_all(line.as_bytes())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// First of the private characters that stand for bytes in what a shim says: U+F780 to U+F7FF for 0x80 to 0xff.
const BYTE_MARKS: u32 = 0xf700;

/// JSON with each lone surrogate of the *bytes* extension replaced by a private character, since a `String` has no
/// place for it. See [`marked`].
pub(super) fn with_byte_marks(line: &[u8]) -> Vec<u8> {
    let escape = |at: usize| {
        let digits = line.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut marked = Vec::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        let length = match (line[at], escape(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(escape(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(unit @ 0xdc80..=0xdcff)) => {
                marked.extend_from_slice(format!("\\u{:04x}", BYTE_MARKS + (unit & 0xff)).as_bytes());
                at += 6;
                continue;
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        marked.extend_from_slice(&line[at..(at + length).min(line.len())]);
        at += length;
    }
    marked
}

/// Bytes as the texts of a [`Question`] have them: valid UTF-8 as it is, each other byte as one private character.
pub fn marked(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let marks = chunk
            .invalid()
            .iter()
            .filter_map(|byte| char::from_u32(BYTE_MARKS + u32::from(*byte)));
        text.extend(marks);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{marked, with_byte_marks};

    #[test]
    fn lone_surrogates_of_the_bytes_extension_become_private_characters() {
        let line = br#"["a\udcff\\udcff\ud83d\ude00","\ud800\udc80","\\\udc80"]"#;
        let texts: Vec<String> = serde_json::from_slice(&with_byte_marks(line)).expect("JSON");
        assert_eq!(texts, ["a\u{f7ff}\\udcff\u{1f600}", "\u{10080}", "\\\u{f780}"]);
        assert_eq!(marked(b"a\xff\xc3\xa9"), "a\u{f7ff}\u{e9}");
    }
}
