//! Comparisons that name what they compare, for cases.

use std::fmt::Debug;

use crate::outcome::{Verdict, violation};

/// Demands that `observed` equals `expected`; `what` names the thing in the report.
pub fn equal<T: PartialEq<U> + Debug, U: Debug>(what: &str, expected: T, observed: U) -> Verdict {
    if expected == observed {
        return Ok(());
    }
    Err(violation(
        format_args!("{what}: {}", debug(&expected)),
        format_args!("{what}: {}", debug(&observed)),
    ))
}

/// Demands `condition`; `expected` says what it means, `observed` what was seen instead.
pub fn that(condition: bool, expected: impl std::fmt::Display, observed: impl std::fmt::Display) -> Verdict {
    if condition {
        Ok(())
    } else {
        Err(violation(expected, observed))
    }
}

/// Demands that `text` holds `part`.
pub fn contains(what: &str, text: &str, part: &str) -> Verdict {
    that(
        text.contains(part),
        format_args!("{what} contains {part:?}"),
        format_args!("{what}: {text:?}"),
    )
}

/// Debug text, cut to a length that a report can show.
fn debug(value: &impl Debug) -> String {
    const LIMIT: usize = 2_000;
    let text = format!("{value:?}");
    match text.char_indices().nth(LIMIT) {
        None => text,
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
    }
}
