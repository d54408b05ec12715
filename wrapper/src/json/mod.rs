//! The JSON that the wire needs: a writer for strings of any bytes, and a reader that checks a whole payload before
//! anything in it is used. Neither allocates.
//!
//! Both know the *bytes* extension: a byte that isn't part of valid UTF-8 is written as the lone low surrogate `\udc80`
//! to `\udcff`.

mod reader;
mod writer;

pub use reader::{Malformed, Object, Text, Unit, Value, parse};
pub use writer::{write_number, write_string};

#[cfg(test)]
mod tests;
