//! What a request says and how it is spelled, bytes that are not UTF-8 included, and what a reply says.

use serde_json::Value;

use crate::faults::{Fault, Variant, broken, unusual};
use crate::process;
use crate::refusal::fail_closed;

/// The deepest nesting of a reply that is read: it must be 500 at least, and the stack has room for more.
const DEEPEST: usize = 1000;

/// Marks a byte that is not UTF-8 in strings that become JSON: this character, then the byte as U+00XX.
/// It is a private use character that no string of a case contains.
const MARK: char = '\u{10fffd}';

/// Bytes as a string for [`spelled`], with bytes that are not UTF-8 marked.
pub fn placeholder_text(bytes: &[u8]) -> String {
    if broken(Fault::BytesReplaced) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::new();
    if broken(Fault::EveryByteEscaped) {
        for byte in bytes {
            if !byte.is_ascii() {
                text.push(MARK);
            }
            text.push(char::from(*byte));
        }
        return text;
    }
    if broken(Fault::EncodedSurrogatesKept)
        && let Some(at) = bytes
            .windows(3)
            .position(|window| window[0] == 0xed && (0xb0..=0xbf).contains(&window[1]))
    {
        let low = u32::from(bytes[at + 1] & 0x0f) << 6 | u32::from(bytes[at + 2] & 0x3f);
        let mut text = placeholder_text(&bytes[..at]);
        text.push(MARK);
        text.extend(char::from_u32(low));
        return text + &placeholder_text(&bytes[at + 3..]);
    }
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            if unusual(Variant::CoreOnly) || unusual(Variant::NoBytes) {
                fail_closed("bytes that are not UTF-8 cannot be sent");
            }
            if broken(Fault::BytesDropped) {
                continue;
            }
            text.push(MARK);
            let byte = if broken(Fault::BytesAsLatin1) {
                *byte & 0x7f | 0x80
            } else {
                *byte
            };
            text.push(char::from(byte));
        }
    }
    text
}

/// A request's text, with its marks as lone surrogates.
pub fn spelled(request: &Value) -> String {
    if unusual(Variant::EverythingEscaped) {
        return everything_escaped(request);
    }
    let payload = if unusual(Variant::PrettyJson) {
        format!("{request:#}\n ")
    } else {
        request.to_string()
    };
    let mut marked = String::new();
    let mut characters = payload.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK => {
                let byte = characters.next().map_or(0, u32::from);
                let base = if broken(Fault::BytesAsLatin1) { 0 } else { 0xdc00 };
                marked.push_str(&format!("\\u{:04x}", base + byte));
            }
            character if unusual(Variant::EscapedNonAscii) && !character.is_ascii() => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    marked.push_str(&format!("\\u{unit:04x}"));
                }
            }
            character => marked.push(character),
        }
    }
    marked
}

/// The JSON text of `value` in which no character of a string stands for itself.
pub fn everything_escaped(value: &Value) -> String {
    let string = |text: &str| {
        let mut escaped = String::from("\"");
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character == MARK {
                let byte = characters.next().map_or(0, u32::from);
                escaped.push_str(&format!("\\u{:04x}", 0xdc00 + byte));
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
        escaped + "\""
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(everything_escaped).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", string(name), everything_escaped(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// What a reply says.
pub fn understood(payload: &[u8]) -> Value {
    if broken(Fault::CompactRepliesOnly) && payload.contains(&b' ') {
        fail_closed("white space in a reply");
    }
    if broken(Fault::EscapesNotDecoded) {
        let doubled = String::from_utf8_lossy(payload).replace("\\u", "\\\\u");
        return serde_json::from_str(&doubled).unwrap_or_else(|_| fail_closed("a malformed reply"));
    }
    if broken(Fault::TrailingDataIgnored) {
        let mut values = serde_json::Deserializer::from_slice(payload).into_iter();
        return match values.next() {
            Some(Ok(value)) => value,
            _ => fail_closed("a malformed reply"),
        };
    }
    if broken(Fault::ReplySearchedForRun) && payload.windows(3).any(|part| part == b"Run") {
        return serde_json::json!({"action": "Run"});
    }
    if broken(Fault::SingleQuotesAccepted) && payload.contains(&b'\'') {
        let text = String::from_utf8_lossy(payload).replace('\'', "\"");
        return serde_json::from_str(&text).unwrap_or_else(|_| fail_closed("a malformed reply"));
    }
    if broken(Fault::EscapedSlashRefused) && payload.windows(2).any(|two| two == br"\/") {
        fail_closed("a malformed reply");
    }
    let blank;
    let lossy;
    let payload = if broken(Fault::WhiteSpaceOfC) {
        blank = payload
            .iter()
            .map(|byte| if matches!(byte, 0x0b | 0x0c) { b' ' } else { *byte })
            .collect::<Vec<u8>>();
        &blank
    } else if broken(Fault::UndecodableRepliesMended) {
        lossy = String::from_utf8_lossy(payload).into_owned();
        lossy.as_bytes()
    } else if broken(Fault::PaddingCutOff) {
        payload.trim_ascii_end().strip_suffix(b"\0").unwrap_or(payload)
    } else {
        payload
    };
    let read = read_value(payload, broken(Fault::NestingOf128AtMost)).map(|value| {
        if broken(Fault::TextsEndAtNul) {
            ended_at_nul(value)
        } else {
            value
        }
    });
    match read {
        Ok(value) if value.is_object() => value,
        Ok(Value::Array(values)) if broken(Fault::ArraysReadAsMessages) && !values.is_empty() => {
            serde_json::json!({"action": values[0], "exit_code": values[0]})
        }
        _ if broken(Fault::MalformedReplyDenies) => {
            serde_json::json!({"action": {"Deny": {"reason": null}}})
        }
        _ if broken(Fault::MalformedReplyPanics) => process::abort(),
        _ => fail_closed("a malformed reply"),
    }
}

/// The value as a reader sees it that takes texts for C strings.
fn ended_at_nul(value: Value) -> Value {
    let cut = |text: String| text.split('\0').next().unwrap_or_default().to_owned();
    match value {
        Value::String(text) => Value::String(cut(text)),
        Value::Array(values) => values.into_iter().map(ended_at_nul).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (cut(name), ended_at_nul(value)))
            .collect(),
        other => other,
    }
}

/// How deep brackets are open outside of strings, at the deepest place.
fn depth(payload: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => open += 1,
            b']' | b'}' if !in_text => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

fn read_value(payload: &[u8], limited: bool) -> serde_json::Result<Value> {
    let limited_value = parse(serde_json::Deserializer::from_slice(payload));
    if limited_value.is_ok() || limited {
        return limited_value;
    }
    if depth(payload) > DEEPEST && !broken(Fault::NestingOverflowsTheStack) {
        return limited_value;
    }
    // Nested beyond 128, which serde_json stops at.
    let mut reader = serde_json::Deserializer::from_slice(payload);
    reader.disable_recursion_limit();
    parse(reader)
}

fn parse(mut reader: serde_json::Deserializer<serde_json::de::SliceRead<'_>>) -> serde_json::Result<Value> {
    use serde::Deserialize;
    let value = Value::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}
