//! Values as a person writes them, for reports: no variant of the language that the suite is written in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockType};
use nix::unistd::Pid;
use serde_json::Value;

/// What a report can show.
pub trait Shown {
    /// Writes the value.
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result;

    /// Writes a list of such values; bytes are not seen as a list of numbers.
    fn show_list(list: &[Self], formatter: &mut Formatter<'_>) -> fmt::Result
    where
        Self: Sized,
    {
        sequence(formatter, ('[', ']'), list, |item, formatter| {
            item.show(formatter)
        })
    }
}

/// `value` as a person writes it.
pub fn shown<T: Shown + ?Sized>(value: &T) -> impl Display {
    fmt::from_fn(move |formatter| value.show(formatter))
}

/// Members between brackets, with commas.
fn sequence<T>(
    formatter: &mut Formatter<'_>,
    (open, close): (char, char),
    members: impl IntoIterator<Item = T>,
    show: impl Fn(T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    write!(formatter, "{open}")?;
    for (index, member) in members.into_iter().enumerate() {
        if index > 0 {
            formatter.write_str(", ")?;
        }
        show(member, formatter)?;
    }
    write!(formatter, "{close}")
}

/// Bytes between quotation marks: UTF-8 as text, everything else escaped.
fn quoted(formatter: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    formatter.write_str("\"")?;
    for chunk in bytes.utf8_chunks() {
        let escaped = format!("{:?}", chunk.valid());
        formatter.write_str(&escaped[1..escaped.len() - 1])?;
        for byte in chunk.invalid() {
            write!(formatter, "\\x{byte:02x}")?;
        }
    }
    formatter.write_str("\"")
}

/// Those that have one spelling in every language.
macro_rules! as_displayed {
    ($($kind:ty),*) => {
        $(impl Shown for $kind {
            fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                Display::fmt(self, formatter)
            }
        })*
    };
}
as_displayed!(
    bool, char, i16, i32, i64, i128, isize, u16, u32, u64, u128, usize, f64, Pid, Value
);

impl Shown for u8 {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }

    fn show_list(list: &[u8], formatter: &mut Formatter<'_>) -> fmt::Result {
        quoted(formatter, list)
    }
}

impl Shown for str {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        quoted(formatter, self.as_bytes())
    }
}

impl Shown for OsStr {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        quoted(formatter, self.as_bytes())
    }
}

impl Shown for Path {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.as_os_str().show(formatter)
    }
}

/// What owns or borrows something that can be shown.
macro_rules! as_what_it_holds {
    ($($kind:ty),*) => {
        $(impl Shown for $kind {
            fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                (**self).show(formatter)
            }
        })*
    };
}
as_what_it_holds!(String, OsString, PathBuf, Cow<'_, str>);

impl<T: Shown + ?Sized> Shown for &T {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        (**self).show(formatter)
    }
}

impl<T: Shown> Shown for [T] {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        T::show_list(self, formatter)
    }
}

impl<T: Shown, const LENGTH: usize> Shown for [T; LENGTH] {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        T::show_list(self, formatter)
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        T::show_list(self, formatter)
    }
}

impl<T: Shown> Shown for BTreeSet<T> {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        sequence(formatter, ('{', '}'), self, |member, formatter| {
            member.show(formatter)
        })
    }
}

impl<K: Shown, V: Shown> Shown for BTreeMap<K, V> {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        sequence(formatter, ('{', '}'), self, |(key, value), formatter| {
            key.show(formatter)?;
            formatter.write_str(": ")?;
            value.show(formatter)
        })
    }
}

impl<T: Shown> Shown for Option<T> {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            None => formatter.write_str("none"),
            Some(value) => value.show(formatter),
        }
    }
}

impl<T: Shown, E: Shown> Shown for Result<T, E> {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Ok(value) => value.show(formatter),
            Err(error) => {
                formatter.write_str("error: ")?;
                error.show(formatter)
            }
        }
    }
}

impl Shown for () {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing")
    }
}

impl Shown for Errno {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

impl Shown for SockType {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SockType::Stream => "SOCK_STREAM",
            SockType::Datagram => "SOCK_DGRAM",
            SockType::SeqPacket => "SOCK_SEQPACKET",
            _ => "of another type",
        })
    }
}

impl Shown for AddressFamily {
    fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            AddressFamily::Unix => formatter.write_str("AF_UNIX"),
            other => write!(formatter, "address family {}", *other as i32),
        }
    }
}

/// Several values side by side.
macro_rules! as_tuple {
    ($($kind:ident $place:tt),*) => {
        impl<$($kind: Shown),*> Shown for ($($kind,)*) {
            fn show(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                let members: &[&dyn Shown] = &[$(&self.$place),*];
                sequence(formatter, ('(', ')'), members, |member, formatter| member.show(formatter))
            }
        }
    };
}
as_tuple!(A 0, B 1);
as_tuple!(A 0, B 1, C 2);
as_tuple!(A 0, B 1, C 2, D 3);
as_tuple!(A 0, B 1, C 2, D 3, E 4);
as_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: impl Shown) -> String {
        shown(&value).to_string()
    }

    #[test]
    fn values_stand_as_a_person_writes_them() {
        assert_eq!(text(Some(77)), "77");
        assert_eq!(text(None::<i32>), "none");
        assert_eq!(text(Some(Some("x"))), "\"x\"");
        assert_eq!(text(json!(["Run", null, {"a": 1}])), r#"["Run",null,{"a":1}]"#);
        assert_eq!(text(vec![Some(1), None]), "[1, none]");
        assert_eq!(text((Some(1), "x", true)), "(1, \"x\", true)");
        assert_eq!(text(BTreeMap::from([("a", Some(1))])), "{\"a\": 1}");
        assert_eq!(text(BTreeSet::from([2, 1])), "{1, 2}");
        assert_eq!(text(Ok::<i32, Errno>(1)), "1");
        assert_eq!(
            text(Err::<i32, Errno>(Errno::EAGAIN)),
            format!("error: {}", Errno::EAGAIN)
        );
        assert_eq!(text(SockType::Datagram), "SOCK_DGRAM");
    }

    #[test]
    fn bytes_are_text_as_far_as_they_are() {
        assert_eq!(text(b"a\"\n\0".to_vec()), r#""a\"\n\0""#);
        assert_eq!(text([0xff_u8, b'x']), r#""\xffx""#);
        assert_eq!(text(vec![vec![1_u8]]), r#"["\u{1}"]"#);
    }
}
