//! Reads JSON without allocating: [`parse`] checks the whole payload, and what it returns are views into it.

/// What is wrong with a payload: one clause for a message, without the payload's own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// How deeply arrays and objects may be nested. The specification leaves open what happens beyond 500.
const MAX_DEPTH: usize = 1024;

/// A value of a payload that has been checked as a whole.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written.
    Number(&'a str),
    /// A string.
    String(Text<'a>),
    /// An array; the wrapper reads no message that has one, so its elements can't be reached.
    Array,
    /// An object.
    Object(Object<'a>),
}

impl<'a> Value<'a> {
    /// The number, if it is an integer of at most 64 bits, written without fraction or exponent.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The object, if this is one.
    pub fn as_object(&self) -> Option<Object<'a>> {
        match self {
            Value::Object(object) => Some(*object),
            _ => None,
        }
    }
}

/// Checks that `payload` is one JSON value in UTF-8 and nothing else (`wire.malformed`).
pub fn parse(payload: &[u8]) -> Result<Value<'_>, Malformed> {
    let text = core::str::from_utf8(payload).map_err(|_| Malformed("it is not UTF-8"))?;
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_blanks();
    let value = scanner.value()?;
    scanner.skip_blanks();
    if scanner.at != text.len() {
        return Err(Malformed("something follows the JSON value"));
    }
    Ok(value)
}

/// An object of a payload that has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// From the opening to the closing brace.
    source: &'a str,
}

impl<'a> Object<'a> {
    /// The members in the order in which they are written.
    pub fn members(&self) -> impl Iterator<Item = (Text<'a>, Value<'a>)> + use<'a> {
        let mut scanner = Scanner {
            text: self.source,
            at: 1,
        };
        core::iter::from_fn(move || {
            scanner.skip_blanks();
            if scanner.peek() == Some(b',') {
                scanner.at += 1;
                scanner.skip_blanks();
            }
            // The text has been checked, so an error can only be the closing brace.
            let name = scanner.string().ok()?;
            scanner.skip_blanks();
            scanner.expect(b':').ok()?;
            scanner.skip_blanks();
            Some((name, scanner.value().ok()?))
        })
    }

    /// The member of that name. A name that occurs twice is an error: choosing one of the two would be a guess.
    pub fn member(&self, name: &str) -> Result<Option<Value<'a>>, Malformed> {
        let mut found = None;
        for (key, value) in self.members() {
            if key.is(name) && found.replace(value).is_some() {
                return Err(Malformed("a member occurs twice"));
            }
        }
        Ok(found)
    }
}

/// A string of a payload that has been checked, still escaped.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Between the quotation marks.
    source: &'a str,
}

/// One element of a decoded string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A character.
    Char(char),
    /// A byte that is not part of valid UTF-8 (the *bytes* extension).
    Byte(u8),
}

impl<'a> Text<'a> {
    /// The decoded string.
    pub fn units(&self) -> impl Iterator<Item = Unit> + use<'a> {
        let mut rest = self.source;
        core::iter::from_fn(move || {
            // The text has been checked, so the only error is its end.
            let (unit, length) = decode(rest).ok()?;
            rest = &rest[length..];
            Some(unit)
        })
    }

    /// Whether the decoded string is `other`.
    pub fn is(&self, other: &str) -> bool {
        self.units().eq(other.chars().map(Unit::Char))
    }
}

/// The first element of an escaped string, and how many bytes it takes.
fn decode(escaped: &str) -> Result<(Unit, usize), Malformed> {
    const ESCAPE: Malformed = Malformed("a string has an invalid escape");
    const SURROGATE: Malformed = Malformed("a string has half a surrogate pair");

    let first = escaped.chars().next().ok_or(ESCAPE)?;
    if first != '\\' {
        return Ok((Unit::Char(first), first.len_utf8()));
    }
    let char = match escaped.as_bytes().get(1).ok_or(ESCAPE)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let code = four_digits(escaped, 2).ok_or(ESCAPE)?;
            return match code {
                0xd800..0xdc00 => {
                    let low = match escaped.as_bytes().get(6..8) {
                        Some(b"\\u") => four_digits(escaped, 8).ok_or(ESCAPE)?,
                        _ => return Err(SURROGATE),
                    };
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(SURROGATE);
                    }
                    let code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    Ok((Unit::Char(char::from_u32(code).ok_or(SURROGATE)?), 12))
                }
                0xdc80..0xdd00 => Ok((Unit::Byte((code - 0xdc00) as u8), 6)),
                _ => Ok((Unit::Char(char::from_u32(code).ok_or(SURROGATE)?), 6)),
            };
        }
        _ => return Err(ESCAPE),
    };
    Ok((Unit::Char(char), 2))
}

fn four_digits(escaped: &str, at: usize) -> Option<u32> {
    let digits = escaped.as_bytes().get(at..at + 4)?;
    digits.iter().try_fold(0, |code, &digit| {
        Some(code << 4 | char::from(digit).to_digit(16)?)
    })
}

/// A position in a text.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed("it is not JSON"));
        }
        self.at += 1;
        Ok(())
    }

    /// A whole value. Nesting is kept in bits, not in the call stack, so no input can exhaust it.
    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => {
                self.nested()?;
                Ok(Value::Object(Object {
                    source: &self.text[start..self.at],
                }))
            }
            Some(b'[') => {
                self.nested()?;
                Ok(Value::Array)
            }
            _ => self.scalar(),
        }
    }

    /// An array or object, with everything in it.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut depth = Depth::default();
        loop {
            // Here a value begins.
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    depth.enter(open == b'{')?;
                    self.skip_blanks();
                    if self.peek() != Some(depth.closing()) {
                        if depth.in_object() {
                            self.member_name()?;
                        }
                        continue;
                    }
                }
                _ => {
                    self.scalar()?;
                }
            }
            // Here a value has ended, or an empty array or object is about to.
            loop {
                self.skip_blanks();
                if self.peek() == Some(depth.closing()) {
                    self.at += 1;
                    depth.leave();
                    if depth.levels == 0 {
                        return Ok(());
                    }
                    continue;
                }
                self.expect(b',')?;
                self.skip_blanks();
                if depth.in_object() {
                    self.member_name()?;
                }
                break;
            }
        }
    }

    fn member_name(&mut self) -> Result<(), Malformed> {
        self.string()?;
        self.skip_blanks();
        self.expect(b':')?;
        self.skip_blanks();
        Ok(())
    }

    fn scalar(&mut self) -> Result<Value<'a>, Malformed> {
        match self.peek() {
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Value::Number(self.number()?)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            _ => Err(Malformed("it is not JSON")),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Malformed("it is not JSON"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return Err(Malformed("a number has no digits"));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Text<'a>, Malformed> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek() {
                None => return Err(Malformed("a string has no end")),
                Some(b'"') => break,
                Some(b'\\') => self.at += decode(&self.text[self.at..])?.1,
                Some(0..0x20) => {
                    return Err(Malformed("a string has a control character that is not escaped"));
                }
                Some(_) => self.at += 1,
            }
        }
        let source = &self.text[start..self.at];
        self.at += 1;
        Ok(Text { source })
    }
}

/// Which of the open levels are objects, one bit each.
struct Depth {
    objects: [u64; MAX_DEPTH / 64],
    levels: usize,
}

impl Default for Depth {
    fn default() -> Self {
        Self {
            objects: [0; MAX_DEPTH / 64],
            levels: 0,
        }
    }
}

impl Depth {
    fn enter(&mut self, object: bool) -> Result<(), Malformed> {
        if self.levels == MAX_DEPTH {
            return Err(Malformed("it is nested too deeply"));
        }
        let bit = 1 << (self.levels % 64);
        let word = &mut self.objects[self.levels / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.levels += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.levels -= 1;
    }

    fn in_object(&self) -> bool {
        let level = self.levels - 1;
        self.objects[level / 64] & 1 << (level % 64) != 0
    }

    fn closing(&self) -> u8 {
        if self.in_object() { b'}' } else { b']' }
    }
}
