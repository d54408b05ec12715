//! Requests as bytes: the strings of a request with the *bytes* extension decoded.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use crate::shown::Shown;
use crate::verdict::{CaseError, violation};

/// A request whose strings are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ByteRequest {
    /// `file`.
    pub file: Bytes,
    /// `argv`.
    pub argv: Vec<Bytes>,
    /// `workdir`.
    pub workdir: Bytes,
    /// `env`.
    pub env: BTreeMap<Bytes, Bytes>,
}

/// A string of a request, decoded: each lone surrogate U+DC80 to U+DCFF is the byte that it stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// As a JSON string: valid UTF-8 as it is, each other byte as one lone surrogate.
    pub fn json_text(&self) -> String {
        let mut text = String::from("\"");
        for chunk in self.0.utf8_chunks() {
            let valid = serde_json::Value::from(chunk.valid()).to_string();
            text.push_str(&valid[1..valid.len() - 1]);
            for byte in chunk.invalid() {
                text.push_str(&format!("\\udc{byte:02x}"));
            }
        }
        text.push('"');
        text
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

impl Shown for Bytes {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(formatter)
    }
}

impl ByteRequest {
    /// Decodes a request's payload.
    ///
    /// # Errors
    /// A violation if it is not a request in UTF-8, or has a surrogate that encodes no byte.
    pub fn decode(payload: &[u8]) -> Result<ByteRequest, CaseError> {
        // Without encoded surrogates, then, so that those which the reader below produces come from escapes.
        std::str::from_utf8(payload)
            .map_err(|error| violation("a payload in UTF-8", format_args!("{error}")))?;
        serde_json::from_slice(payload).map_err(|error| {
            violation(
                "a request with file, argv, workdir and env",
                format_args!("{error}: {}", crate::transcript::shown(payload)),
            )
        })
    }

    /// The payload of the request, by the *bytes* extension.
    pub fn encode(&self) -> String {
        let argv: Vec<String> = self.argv.iter().map(Bytes::json_text).collect();
        let env: Vec<String> = self
            .env
            .iter()
            .map(|(name, value)| format!("{}:{}", name.json_text(), value.json_text()))
            .collect();
        format!(
            r#"{{"file":{},"argv":[{}],"workdir":{},"env":{{{}}}}}"#,
            self.file.json_text(),
            argv.join(","),
            self.workdir.json_text(),
            env.join(",")
        )
    }

    /// One variable of `env`.
    pub fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.env
            .get(&Bytes(name.to_vec()))
            .map(|value| value.0.as_slice())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.as_bytes().to_vec()))
    }

    /// `text` is UTF-8 but for lone surrogates, which serde_json leaves encoded in three bytes.
    fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> Result<Bytes, E> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let [first, more @ ..] = rest {
            match (first, more) {
                (0xed, [second @ 0xa0..=0xbf, third, tail @ ..]) => {
                    let surrogate = 0xd000 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f);
                    let byte = u8::try_from(surrogate.wrapping_sub(0xdc00))
                        .ok()
                        .filter(|byte| *byte >= 0x80)
                        .ok_or_else(|| {
                            E::custom(format_args!(
                                "the lone surrogate U+{surrogate:04X} stands for no byte"
                            ))
                        })?;
                    bytes.push(byte);
                    rest = tail;
                }
                _ => {
                    bytes.push(*first);
                    rest = more;
                }
            }
        }
        Ok(Bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_the_bytes_they_stand_for() {
        let request = ByteRequest::decode(
            br#"{"file":"a\udcff","argv":["\ud83d\ude00\udc80","\n"],"workdir":"/","env":{"K\udcfe":"\u00e9"},"umask":18}"#,
        )
        .expect("a request");
        assert_eq!(request.file.0, b"a\xff");
        assert_eq!(request.argv[0].0, "😀".bytes().chain([0x80]).collect::<Vec<_>>());
        assert_eq!(request.argv[1].0, b"\n");
        assert_eq!(request.variable(b"K\xfe"), Some("é".as_bytes()));
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        let every_byte: Vec<u8> = (1..=255).collect();
        let request = ByteRequest {
            file: Bytes(b"/a\xff\"".to_vec()),
            argv: vec![Bytes(every_byte), Bytes(Vec::new()), Bytes("é\u{10ffff}".into())],
            workdir: Bytes(b"/\xed\xb2\x80".to_vec()),
            env: BTreeMap::from([(Bytes(b"K\x80".to_vec()), Bytes(b"\xc3".to_vec()))]),
        };
        let payload = request.encode();
        assert!(payload.contains("\\udced\\udcb2\\udc80"), "{payload}");
        assert_eq!(
            ByteRequest::decode(payload.as_bytes()).expect("a request"),
            request
        );
    }

    #[test]
    fn other_surrogates_stand_for_nothing() {
        for escape in ["\\udc00", "\\udc7f", "\\ud800", "\\udd00", "\\udbff"] {
            let payload = format!("{{\"file\":\"{escape}\",\"argv\":[],\"workdir\":\"/\",\"env\":{{}}}}");
            assert!(ByteRequest::decode(payload.as_bytes()).is_err(), "{escape}");
        }
    }
}
