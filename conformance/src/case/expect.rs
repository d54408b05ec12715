//! Comparisons that name what they compare, for cases.

use crate::shown::{Shown, shown};
use crate::verdict::{CaseError, Verdict, violation};

/// Demands that `observed` equals `expected`; `what` names the thing in the report.
pub fn equal<T: PartialEq<U> + Shown, U: Shown>(what: &str, expected: T, observed: U) -> Verdict {
    if expected == observed {
        return Ok(());
    }
    Err(violation(
        format_args!("{what}: {}", cut(&expected)),
        format_args!("{what}: {}", cut(&observed)),
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

/// Demands all of these, the worst first: the first that does not hold is the violation, and it tells the others too.
pub fn all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut verdicts = verdicts.into_iter();
    let Some(Err(mut first)) = verdicts.find(Result::is_err) else {
        return Ok(());
    };
    for verdict in verdicts {
        match (&mut first, verdict) {
            (_, Ok(())) => {}
            (
                CaseError::Violation { observed, .. },
                Err(CaseError::Violation {
                    expected,
                    observed: other,
                }),
            ) => {
                observed.push_str(&format!("\nand: expected {expected}, observed {other}"));
            }
            // The suite could not do its part: nothing is said about the implementation.
            (_, Err(other)) => return Err(other),
        }
    }
    Err(first)
}

/// The same verdict, which says with what input it came about.
pub fn with_input(input: impl std::fmt::Display, verdict: Verdict) -> Verdict {
    verdict.map_err(|error| match error {
        CaseError::Violation { expected, observed } => {
            violation(expected, format_args!("{observed} (with {input})"))
        }
        other => other,
    })
}

/// Demands that `text` holds `part`.
pub fn contains(what: &str, text: &str, part: &str) -> Verdict {
    that(
        text.contains(part),
        format_args!("{what} contains {part:?}"),
        format_args!("{what}: {text:?}"),
    )
}

/// A value as a person writes it, cut to a length that a report can show.
fn cut(value: &impl Shown) -> String {
    const LIMIT: usize = 2_000;
    let text = shown(value).to_string();
    match text.char_indices().nth(LIMIT) {
        None => text,
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn of_several_violations_the_first_tells_the_others() {
        assert_eq!(words(all([Ok(()), Ok(())])), None);
        assert_eq!(
            words(all([
                Ok(()),
                that(false, "a", "b"),
                Ok(()),
                that(false, "c", "d")
            ])),
            said("a", "b\nand: expected c, observed d")
        );
        assert_eq!(
            words(with_input("x", that(false, "a", "b"))),
            said("a", "b (with x)")
        );
    }

    #[test]
    fn what_is_too_long_to_be_shown_is_cut() {
        let quoted = |length: usize| cut(&"x".repeat(length));
        assert_eq!(quoted(1_998).len(), 2_000);
        assert_eq!(quoted(1_999), format!("\"{}… (2001 bytes)", "x".repeat(1_999)));
    }
}
