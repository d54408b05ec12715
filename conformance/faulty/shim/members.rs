//! The members of a message: strict JSON, strings as bytes.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::faults::{Fault, Variant, broken, unusual};

/// Why a message is refused.
#[derive(Debug)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Names and values.
pub type Pairings = Vec<(Vec<u8>, Vec<u8>)>;

/// Calls `member` for each member of the one object that `payload` is.
pub fn members(
    payload: &[u8],
    member: impl FnMut(&[u8], &mut dyn MemberValue) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    // serde_json does not validate strings that are read as bytes; a payload must be UTF-8 as a whole.
    let replaced;
    let blank;
    let mut payload = payload;
    if broken(Fault::FormFeedsAreBlanks) {
        let of_c = |byte: &u8| if matches!(byte, 0x0b | 0x0c) { b' ' } else { *byte };
        blank = payload.iter().map(of_c).collect::<Vec<u8>>();
        payload = &blank;
    }
    if broken(Fault::OtherBytesReplaced) {
        replaced = String::from_utf8_lossy(payload);
        payload = replaced.as_bytes();
    }
    std::str::from_utf8(payload).map_err(|error| Malformed(error.to_string()))?;
    if has_control_character(payload) && !broken(Fault::ControlCharactersTaken) {
        return Err(Malformed("a control character that is not escaped".to_owned()));
    }
    if broken(Fault::NestingWithoutLimit) {
        descend(payload);
    }
    if refuses(payload) {
        return Err(Malformed("not as it should be spelled".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(payload);
    reader
        .deserialize_map(Members { member })
        .and_then(|()| {
            if broken(Fault::DataAfterIgnored) {
                return Ok(());
            }
            reader.end()
        })
        .map_err(|error| Malformed(error.to_string()))
}

/// Whether a string has a control character as it is; serde_json does not look for them in strings that are read as bytes.
fn has_control_character(payload: &[u8]) -> bool {
    let mut inside = false;
    let mut bytes = payload.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => inside = !inside,
            b'\\' if inside => {
                bytes.next();
            }
            0..0x20 if inside => return true,
            _ => {}
        }
    }
    false
}

/// Whether a fault refuses the spelling of a payload.
fn refuses(payload: &[u8]) -> bool {
    let deepest = || {
        payload
            .iter()
            .scan(0_i32, |depth, byte| {
                *depth += match byte {
                    b'[' | b'{' => 1,
                    b']' | b'}' => -1,
                    _ => 0,
                };
                Some(*depth)
            })
            .max()
    };
    broken(Fault::WhiteSpaceRefused) && payload.trim_ascii() != payload
        || broken(Fault::EscapesRefused) && payload.windows(2).any(|pair| pair == b"\\u")
        || broken(Fault::ShallowNesting) && deepest() > Some(64)
}

struct Members<F> {
    member: F,
}

impl<'de, F> Visitor<'de> for Members<F>
where
    F: FnMut(&[u8], &mut dyn MemberValue) -> Result<(), Malformed>,
{
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(AnyText)? {
            let mut value = Next {
                map: &mut map,
                _life: std::marker::PhantomData,
            };
            (self.member)(&name, &mut value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The value of the member at hand; exactly one of these is called.
pub trait MemberValue {
    fn text(&mut self) -> Result<Vec<u8>, Malformed>;
    fn texts(&mut self) -> Result<Vec<Vec<u8>>, Malformed>;
    fn pairs(&mut self) -> Result<Pairings, Malformed>;
    fn integer(&mut self) -> Result<i128, Malformed>;
    fn integers(&mut self) -> Result<Vec<i128>, Malformed>;
    fn boolean(&mut self) -> Result<bool, Malformed>;
    fn ignore(&mut self) -> Result<(), Malformed>;
}

struct Next<'a, 'de, A: MapAccess<'de>> {
    map: &'a mut A,
    _life: std::marker::PhantomData<&'de ()>,
}

impl<'de, A: MapAccess<'de>> Next<'_, 'de, A> {
    fn seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Malformed> {
        self.map
            .next_value_seed(seed)
            .map_err(|error| Malformed(error.to_string()))
    }

    fn value<T: serde::Deserialize<'de>>(&mut self) -> Result<T, Malformed> {
        self.seed(std::marker::PhantomData)
    }
}

impl<'de, A: MapAccess<'de>> MemberValue for Next<'_, 'de, A> {
    fn text(&mut self) -> Result<Vec<u8>, Malformed> {
        self.seed(Text)
    }
    fn texts(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        self.seed(Texts)
    }
    fn pairs(&mut self) -> Result<Pairings, Malformed> {
        self.seed(Pairs)
    }
    fn integer(&mut self) -> Result<i128, Malformed> {
        self.value()
    }
    fn integers(&mut self) -> Result<Vec<i128>, Malformed> {
        self.value()
    }
    fn boolean(&mut self) -> Result<bool, Malformed> {
        self.value()
    }
    fn ignore(&mut self) -> Result<(), Malformed> {
        self.value::<IgnoredAny>().map(drop)
    }
}

/// A member's name: any string.
struct AnyText;

/// A string of a request: bytes by the extension, without NUL.
struct Text;

/// A list of strings.
struct Texts;

/// An object of strings.
struct Pairs;

struct TextVisitor {
    strict: bool,
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        if !self.strict {
            return Ok(bytes.to_vec());
        }
        decoded(bytes).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for AnyText {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(TextVisitor { strict: false })
    }
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(TextVisitor { strict: true })
    }
}

impl<'de> DeserializeSeed<'de> for Texts {
    type Value = Vec<Vec<u8>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<Vec<u8>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        let mut room = Room(MOST_OF_EXECVE);
        while let Some(text) = list.next_element_seed(Text)? {
            room.take(text.len()).map_err(A::Error::custom)?;
            texts.push(text);
        }
        Ok(texts)
    }
}

impl<'de> DeserializeSeed<'de> for Pairs {
    type Value = Pairings;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = Pairings;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        let mut names = BTreeSet::new();
        let mut room = Room(MOST_OF_EXECVE);
        while let Some(name) = map.next_key_seed(Text)? {
            let value = map.next_value_seed(Text)?;
            if name.is_empty() || name.contains(&b'=') || !names.insert(name.clone()) {
                return Err(A::Error::custom(
                    "a name in env that no variable can have, or twice",
                ));
            }
            room.take(name.len() + 1 + value.len())
                .map_err(A::Error::custom)?;
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

/// The kernel takes no more bytes of arguments, nor of environment (execve(2)).
const MOST_OF_EXECVE: usize = 6 << 20;

/// What is left of it.
struct Room(usize);

impl Room {
    /// Takes the room of one string, with its NUL and the pointer to it.
    fn take(&mut self, length: usize) -> Result<(), &'static str> {
        match self.0.checked_sub(length + 1 + size_of::<usize>()) {
            Some(left) => self.0 = left,
            None if broken(Fault::ArgumentsWithoutBound) => {}
            None => return Err("more than any program can be given"),
        }
        Ok(())
    }
}

/// The bytes that a string stands for. Lone surrogates come as serde_json encodes them: three bytes from 0xed.
fn decoded(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (0, _) if broken(Fault::CutAtNul) => break,
            (0, _) => return Err("a NUL"),
            (0xed, [second @ 0xa0..=0xbf, third, after @ ..]) => {
                let low = (u32::from(*second & 0x3f) << 6) | u32::from(*third & 0x3f);
                let byte = (0xd000 | low).saturating_sub(0xdc00);
                match byte {
                    0x80..=0xff if !unusual(Variant::Plain) => push_byte(&mut bytes, byte as u8),
                    _ if broken(Fault::AnySurrogateIsAByte) => bytes.push(byte as u8),
                    _ if broken(Fault::OtherSurrogatesReplaced) => bytes.extend("\u{fffd}".bytes()),
                    _ => return Err("a lone surrogate that stands for no byte"),
                }
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Ok(bytes)
}

/// One byte that is not UTF-8.
fn push_byte(bytes: &mut Vec<u8>, byte: u8) {
    if broken(Fault::BytesReplaced) {
        bytes.extend("\u{fffd}".bytes());
    } else if broken(Fault::BytesReencoded) {
        bytes.extend([0xed, 0xb0 | (byte >> 6), 0x80 | (byte & 0x3f)]);
    } else if broken(Fault::BytesAsLatin1) {
        bytes.extend(char::from(byte).to_string().bytes());
    } else if !broken(Fault::BytesDropped) {
        bytes.push(byte);
    }
}

/// Recurses as deep as the brackets do and returns what follows the closing one.
fn descend(mut rest: &[u8]) -> &[u8] {
    // Enough for the levels of ordinary messages.
    let level = std::hint::black_box([0_u8; 256]);
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'[' | b'{' => descend(after),
            b']' | b'}' => return after,
            _ => after,
        };
    }
    std::hint::black_box(level);
    rest
}
