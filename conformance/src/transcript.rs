//! The wire of a case, a line a frame, with direction, milliseconds and descriptors.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Characters of a payload that a line shows before it is cut.
const SHOWN_CHARACTERS: usize = 400;

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The suite sent it to the implementation.
    ToImplementation,
    /// The implementation sent it to the suite.
    FromImplementation,
    /// A remark of the suite.
    Note,
}

type Sink = Box<dyn FnMut(&str) + Send>;

/// Collects the lines of one case; clones write to the same transcript.
#[derive(Clone)]
pub struct Transcript {
    started: Instant,
    sink: Arc<Mutex<Sink>>,
}

impl Transcript {
    /// A transcript that hands each line to `sink`.
    pub fn new(sink: impl FnMut(&str) + Send + 'static) -> Transcript {
        Transcript {
            started: Instant::now(),
            sink: Arc::new(Mutex::new(Box::new(sink))),
        }
    }

    /// One message on the channel named `channel`, with the number of descriptors that came with it.
    pub fn message(&self, direction: Direction, channel: &str, payload: &[u8], descriptors: usize) {
        let arrow = match direction {
            Direction::ToImplementation => "-->",
            Direction::FromImplementation => "<--",
            Direction::Note => "---",
        };
        let mut line = format!(
            "{:>7.1} ms {arrow} {channel}: ",
            self.started.elapsed().as_secs_f64() * 1000.0
        );
        line.push_str(&shown(payload));
        if descriptors > 0 {
            let _ = write!(
                line,
                " [{descriptors} descriptor{}]",
                if descriptors == 1 { "" } else { "s" }
            );
        }
        let mut sink = self.sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sink(&line);
    }

    /// A remark between messages.
    pub fn note(&self, text: impl std::fmt::Display) {
        self.message(Direction::Note, "suite", text.to_string().as_bytes(), 0);
    }
}

/// Bytes as printable text: one line, control characters escaped, cut to a readable length.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut characters = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if characters == SHOWN_CHARACTERS {
                let _ = write!(text, "… ({} bytes)", bytes.len());
                return text;
            }
            characters += 1;
            if character.is_control() {
                text.extend(character.escape_default())
            } else {
                text.push(character)
            }
        }
        for byte in chunk.invalid() {
            if characters == SHOWN_CHARACTERS {
                let _ = write!(text, "… ({} bytes)", bytes.len());
                return text;
            }
            characters += 1;
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
