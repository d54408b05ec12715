//! Text from elsewhere on its way to a terminal: control characters are escaped.

use crate::json::Unit;
use crate::output::Output;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Which control characters may pass unescaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Newline and tab, for a text of several lines.
    Lines,
    /// Neither, for a message that must stay one line.
    OneLine,
}

/// Writes one element of a decoded JSON string.
pub fn write_unit<O: Output>(output: &mut O, unit: Unit, layout: Layout) -> Result<(), O::Error> {
    match unit {
        Unit::Byte(byte) => write_hex(output, byte),
        Unit::Char('\n' | '\t') if layout == Layout::Lines => output.put(&[char_byte(unit)]),
        // C0, DEL and C1: all of them are below U+0100.
        Unit::Char(char) if char.is_control() => write_hex(output, char_byte(unit)),
        Unit::Char(char) => output.put(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes bytes that are meant as UTF-8, a file name say, on one line.
pub fn write_bytes<O: Output>(output: &mut O, bytes: &[u8]) -> Result<(), O::Error> {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            write_unit(output, Unit::Char(char), Layout::OneLine)?;
        }
        for byte in chunk.invalid() {
            write_hex(output, *byte)?;
        }
    }
    Ok(())
}

fn char_byte(unit: Unit) -> u8 {
    match unit {
        Unit::Char(char) => char as u32 as u8,
        Unit::Byte(byte) => byte,
    }
}

fn write_hex<O: Output>(output: &mut O, byte: u8) -> Result<(), O::Error> {
    output.put(&[
        b'\\',
        b'x',
        HEX[usize::from(byte >> 4)],
        HEX[usize::from(byte & 0xf)],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> String {
        let mut output = Vec::new();
        for char in text.chars() {
            let Ok(()) = write_unit(&mut output, Unit::Char(char), Layout::Lines);
        }
        String::from_utf8(output).expect("what is escaped is ASCII")
    }

    #[test]
    fn control_characters_are_escaped_apart_from_newline_and_tab() {
        assert_eq!(
            lines("a\nb\tc\rd\x1b[31m\x07\x7f\u{9b}é漢"),
            "a\nb\tc\\x0dd\\x1b[31m\\x07\\x7f\\x9bé漢"
        );
    }

    #[test]
    fn nothing_of_c0_or_c1_passes() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let char = char::from_u32(code).expect("a scalar value");
            if !matches!(char, '\n' | '\t') {
                assert_eq!(lines(&char.to_string()), format!("\\x{code:02x}"));
            }
        }
    }

    #[test]
    fn a_file_name_stays_on_one_line() {
        let mut output = Vec::new();
        let Ok(()) = write_bytes(&mut output, b"a\nb\xff\xc3\xa9");
        assert_eq!(output, b"a\\x0ab\\xff\xc3\xa9");
    }
}
