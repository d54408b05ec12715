//! Deny: the message on standard error (`wrapper.deny.message`).

use crate::failure::Message;
use crate::json::Text;
use crate::text::{self, Layout};

/// The status of a denied command (`wrapper.deny.status`).
pub const STATUS: i32 = 1;

/// Writes the message of a denial. Control characters of the reason, except newline and tab, are escaped
/// (`wrapper.deny.control`).
// Never inlined: the message's memory on the stack would cost every run a page.
#[inline(never)]
pub fn report(reason: Option<Text<'_>>) {
    let mut message = Message::new();
    message.add(b"Execution denied");
    if let Some(reason) = reason {
        message.add(b": ");
        for unit in reason.units() {
            let Ok(()) = text::write_unit(&mut message, unit, Layout::Lines);
        }
    }
    message.add(b"\n");
    message.send();
}
