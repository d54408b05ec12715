//! Comparisons that name what they compare, for cases.

use std::fmt::Debug;

use crate::verdict::{Verdict, violation};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::CaseError;

    /// What a verdict says was expected and observed, where it is a violation.
    fn words(verdict: Verdict) -> Option<(String, String)> {
        match verdict {
            Ok(()) => None,
            Err(CaseError::Violation { expected, observed }) => Some((expected, observed)),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn said(expected: &str, observed: &str) -> Option<(String, String)> {
        Some((expected.to_owned(), observed.to_owned()))
    }

    #[test]
    fn what_differs_is_told_with_its_name() {
        assert_eq!(words(equal("number", 7, 7)), None);
        assert_eq!(words(equal("number", 7, 8)), said("number: 7", "number: 8"));
        assert_eq!(words(that(true, "yes", "no")), None);
        assert_eq!(words(that(false, "yes", "no")), said("yes", "no"));
        assert_eq!(words(contains("text", "abc", "b")), None);
        assert_eq!(
            words(contains("text", "abc", "x")),
            said("text contains \"x\"", "text: \"abc\"")
        );
    }

    #[test]
    fn what_is_too_long_to_be_shown_is_cut() {
        let quoted = |length: usize| debug(&"x".repeat(length));
        assert_eq!(quoted(1_998).len(), 2_000);
        assert_eq!(quoted(1_999), format!("\"{}… (2001 bytes)", "x".repeat(1_999)));
    }
}
