//! What a session hands to its shell by way of the environment.

use crate::case::expect;
use crate::peer::harness::Overlay;
use crate::verdict::{Verdict, violation};

/// Names that an overlay may have.
const NAMES: [&str; 3] = ["CODEX_ESCALATE_SOCKET", "EXEC_WRAPPER", "BASH_EXEC_WRAPPER"];

/// Demands the socket, `wrapper` as EXEC_WRAPPER, and at most the alias of that beside them.
pub fn expect_overlay(overlay: &Overlay, wrapper: &str) -> Verdict {
    for (name, value) in &overlay.variables {
        if !NAMES.contains(&name.as_str()) {
            return Err(violation(
                format_args!("an overlay of at most {NAMES:?}"),
                format_args!("{name}={value:?} in it"),
            ));
        }
    }
    overlay.socket_number()?;
    expect::equal("EXEC_WRAPPER", Some(wrapper), overlay.get("EXEC_WRAPPER"))?;
    match overlay.get("BASH_EXEC_WRAPPER") {
        None => Ok(()),
        alias => expect::equal("BASH_EXEC_WRAPPER, if the overlay has it", Some(wrapper), alias),
    }
}
