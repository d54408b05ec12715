//! Writes JSON strings of any bytes, and integers.

use crate::output::{Decimal, Output};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` as a JSON string, quotation marks included.
///
/// Valid UTF-8 stays as it is, apart from what JSON requires to be escaped; every other byte becomes a lone low surrogate
/// (the *bytes* extension), so that nothing is altered on the way (`wire.bytes`).
pub fn write_string<O: Output>(output: &mut O, bytes: &[u8]) -> Result<(), O::Error> {
    output.put(b"\"")?;
    // Nearly every string needs no escape at all, and nearly all others are valid UTF-8.
    if plain_prefix(bytes, |byte| special(byte) | !byte.is_ascii()) == bytes.len() {
        output.put(bytes)?;
    } else if let Ok(text) = core::str::from_utf8(bytes) {
        write_valid(output, text)?;
    } else {
        for chunk in bytes.utf8_chunks() {
            write_valid(output, chunk.valid())?;
            for byte in chunk.invalid() {
                output.put(&[b'\\', b'u', b'd', b'c', high_digit(*byte), low_digit(*byte)])?;
            }
        }
    }
    output.put(b"\"")
}

/// Writes an integer.
pub fn write_number<O: Output>(output: &mut O, number: i64) -> Result<(), O::Error> {
    output.put(Decimal::new(number).bytes())
}

fn write_valid<O: Output>(output: &mut O, text: &str) -> Result<(), O::Error> {
    let mut rest = text.as_bytes();
    loop {
        let plain = plain_prefix(rest, special);
        let (unescaped, special) = rest.split_at(plain);
        if !unescaped.is_empty() {
            output.put(unescaped)?;
        }
        let Some((&byte, after)) = special.split_first() else {
            return Ok(());
        };
        match byte {
            b'"' | b'\\' => output.put(&[b'\\', byte])?,
            b'\n' => output.put(b"\\n")?,
            b'\t' => output.put(b"\\t")?,
            b'\r' => output.put(b"\\r")?,
            _ => output.put(&[b'\\', b'u', b'0', b'0', high_digit(byte), low_digit(byte)])?,
        }
        rest = after;
    }
}

/// How many bytes from the start aren't special. Blocks first: the compiler makes vector instructions of them.
fn plain_prefix(bytes: &[u8], special: impl Fn(u8) -> bool + Copy) -> usize {
    const BLOCK: usize = 16;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let has_special = |block: &[u8; BLOCK]| block.iter().fold(false, |found, &byte| found | special(byte));
    let clean = BLOCK * blocks.iter().take_while(|block| !has_special(block)).count();
    let tail = &bytes[clean..];
    clean + tail.iter().position(|&byte| special(byte)).unwrap_or(tail.len())
}

fn special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn high_digit(byte: u8) -> u8 {
    HEX[usize::from(byte >> 4)]
}

fn low_digit(byte: u8) -> u8 {
    HEX[usize::from(byte & 0xf)]
}
