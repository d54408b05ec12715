//! Strings on the wire, which carry any bytes except NUL (extension *bytes*).
//!
//! A byte that is not part of valid UTF-8 is written as the lone low surrogate `\udc00 + byte`, like Python's
//! surrogateescape.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, Visitor};

/// A name, argument or path from the wire: any bytes except NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WireText(OsString);

impl WireText {
    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes as the operating system takes them.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

impl From<WireText> for OsString {
    fn from(text: WireText) -> Self {
        text.0
    }
}

/// Reads a text of at most `longest` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) longest: usize,
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = WireText;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WireText, D::Error> {
        // As bytes, serde_json gives lone surrogates in the three-byte form that UTF-8 proper forbids.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Text {
    type Value = WireText;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<WireText, E> {
        // Decoding makes three bytes one at most.
        if bytes.len() / 3 > self.longest {
            return Err(E::custom(TOO_LONG));
        }
        let text = decode(bytes).map_err(E::custom)?;
        if text.len() > self.longest {
            return Err(E::custom(TOO_LONG));
        }
        Ok(WireText(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<WireText, E> {
        self.visit_bytes(text.as_bytes())
    }
}

const TOO_LONG: &str = "a path, argument or variable is longer than the kernel takes";

/// Decodes escaped bytes (`ED B2 80` to `ED B3 BF`); refuses NUL and all other surrogates.
fn decode(bytes: &[u8]) -> Result<OsString, &'static str> {
    if bytes.contains(&0) {
        return Err("a string contains NUL");
    }
    if std::str::from_utf8(bytes).is_ok() {
        return Ok(OsString::from_vec(bytes.to_vec()));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (0xED, [middle @ 0xB2..=0xB3, last @ 0x80..=0xBF, after @ ..]) => {
                decoded.push(((middle & 0x03) << 6) | (last & 0x3F));
                after
            }
            (0xED, [0xA0..=0xBF, ..]) => return Err("a lone surrogate that does not encode a byte"),
            _ => {
                decoded.push(first);
                tail
            }
        };
    }
    if decoded.contains(&0) {
        Err("a string contains NUL")
    } else {
        Ok(OsString::from_vec(decoded))
    }
}

/// Encodes bytes as a JSON string, those outside UTF-8 as lone surrogates: the wire format of names and arguments.
#[must_use]
pub fn encode_json_text(text: &OsStr) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for chunk in text.as_bytes().utf8_chunks() {
        let quoted = serde_json::Value::from(chunk.valid()).to_string();
        json.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            write!(json, "\\udc{byte:02x}").expect("writing to a string");
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> serde_json::Result<WireText> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        Text { longest: 1000 }.deserialize(&mut deserializer)
    }

    proptest! {
        #[test]
        fn any_bytes_except_nul_survive_the_wire(bytes in proptest::collection::vec(1_u8.., 0..64)) {
            let text = OsString::from_vec(bytes);
            let json = encode_json_text(&text);
            let back = read(&json).unwrap();
            prop_assert_eq!(back.as_os_str(), &*text);
        }
    }

    #[test]
    fn surrogates_outside_dc80_to_dcff_are_refused() {
        for json in [
            r#""\udc00""#,
            r#""\udc7f""#,
            r#""\udd00""#,
            r#""\ud800""#,
            r#""\udfff""#,
        ] {
            assert!(read(json).is_err(), "accepted {json}");
        }
    }

    #[test]
    fn a_surrogate_pair_is_one_character() {
        let text = read(r#""\ud83d\ude00""#).unwrap();
        assert_eq!(text.as_os_str(), "😀");
    }
}
