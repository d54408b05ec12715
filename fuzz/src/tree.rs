//! JSON as serde_json reads it, with every member of an object.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value. Unlike `serde_json::Value` it keeps members that occur twice, and their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer.
    Integer(i128),
    /// A number with fraction or exponent, or beyond 64 bits.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Tree>),
    /// An object.
    Object(Vec<(String, Tree)>),
}

/// A member occurs more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice;

impl Tree {
    /// The tree of a payload, `Err(true)` if it has none, `Err(false)` if serde_json has no place for it although it may be
    /// JSON: lone surrogates, 128 levels and more, numbers that no float can have, and the integer -0.
    ///
    /// # Errors
    /// See above.
    pub fn of(payload: &[u8]) -> Result<Self, bool> {
        let tree: Self = serde_json::from_slice(payload).map_err(|error| {
            let message = error.to_string();
            let has_no_place = [
                "surrogate",
                "recursion limit",
                "out of range",
                "unexpected end of hex escape",
            ];
            !has_no_place.iter().any(|reason| message.contains(reason))
        })?;
        if tree.has_negative_zero() {
            Err(false)
        } else {
            Ok(tree)
        }
    }

    fn has_negative_zero(&self) -> bool {
        match self {
            Tree::Float(number) => *number == 0.0 && number.is_sign_negative(),
            Tree::Array(items) => items.iter().any(Tree::has_negative_zero),
            Tree::Object(members) => members.iter().any(|(_, value)| value.has_negative_zero()),
            _ => false,
        }
    }

    /// The only member of that name.
    ///
    /// # Errors
    /// When there are several.
    pub fn member(&self, name: &str) -> Result<Option<&Tree>, Twice> {
        let Tree::Object(members) = self else {
            return Ok(None);
        };
        let mut found = members
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value);
        match (found.next(), found.next()) {
            (first, None) => Ok(first),
            _ => Err(Twice),
        }
    }

    /// The string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Tree;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Integer(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Integer(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut array = Vec::new();
                while let Some(item) = items.next_element()? {
                    array.push(item);
                }
                Ok(Tree::Array(array))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
                let mut object = Vec::new();
                while let Some(member) = members.next_entry()? {
                    object.push(member);
                }
                Ok(Tree::Object(object))
            }
        }
        deserializer.deserialize_any(Values)
    }
}
