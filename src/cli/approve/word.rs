//! Words that can be typed, and not guessed.

use std::fs::File;
use std::io::{self, Read};

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aeio";

/// Six letters, one of 262,144 such words.
///
/// # Errors
/// When /dev/urandom can't be read.
pub(super) fn random() -> io::Result<String> {
    let mut bytes = [0; 6];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(word(bytes))
}

fn word(bytes: [u8; 6]) -> String {
    let letters = bytes.iter().enumerate().map(|(index, &byte)| {
        // Both numbers of letters divide 256: every word is equally likely.
        if index % 2 == 0 {
            CONSONANTS[usize::from(byte) % CONSONANTS.len()]
        } else {
            VOWELS[usize::from(byte) % VOWELS.len()]
        }
    });
    letters.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_can_be_pronounced_and_are_not_repeated() {
        assert_eq!(word([0, 0, 15, 3, 255, 255]), "bazozo");
        let words: HashSet<String> = (0..50).map(|_| random().unwrap()).collect();
        assert!(words.len() > 45, "{words:?}");
    }
}
