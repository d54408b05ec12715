//! How two long texts differ, where both in full would hide it.

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

/// Shorter texts are seen at a glance.
const LONG: usize = 100;

/// Equal parts that are shown before and after what differs.
const AROUND: usize = 2;

/// A part of what was expected, of what was observed, or of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// `-` is expected only, `+` observed only, and a blank both. `…` stands for equal parts that are left out.
    pub sign: char,
    /// The part.
    pub text: String,
}

/// The difference of two long texts that have something in common.
pub fn of(expected: &str, observed: &str) -> Option<Vec<Part>> {
    if expected.len() < LONG || observed.len() < LONG {
        return None;
    }
    let (expected, observed) = (parts(expected), parts(observed));
    let diff = TextDiff::from_slices(&expected, &observed);
    let changes: Vec<_> = diff.iter_all_changes().collect();
    if !changes.iter().any(|change| change.tag() == ChangeTag::Equal) {
        return None;
    }
    let differs = |change: &similar::Change<&str>| change.tag() != ChangeTag::Equal;
    let mut shown: Vec<Part> = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let near = index.saturating_sub(AROUND)..(index + AROUND + 1).min(changes.len());
        let part = if changes[near].iter().any(differs) {
            Part {
                sign: match change.tag() {
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                    ChangeTag::Equal => ' ',
                },
                text: change.value().trim_end().to_owned(),
            }
        } else {
            Part {
                sign: '…',
                text: String::new(),
            }
        };
        if part.sign != '…' || shown.last().is_none_or(|last| last.sign != '…') {
            shown.push(part);
        }
    }
    Some(shown)
}

/// A text in parts: it ends one at each line end, also at an escaped one, and behind each member of a list.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = ["\n", "\\n", ", "]
            .into_iter()
            .filter_map(|end| rest.find(end).map(|at| at + end.len()))
            .min()
            .unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        parts.push(part);
        rest = behind;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expected: &str, observed: &str) -> Option<Vec<String>> {
        let parts = of(expected, observed)?;
        Some(
            parts
                .iter()
                .map(|part| format!("{}{}", part.sign, part.text))
                .collect(),
        )
    }

    #[test]
    fn of_long_lists_only_what_differs_is_shown_with_its_neighbours() {
        let list = |seventh: &str| {
            let members: Vec<String> = (0..30)
                .map(|number| {
                    if number == 7 {
                        seventh.to_owned()
                    } else {
                        format!("\"member {number}\"")
                    }
                })
                .collect();
            format!("the list: [{}]", members.join(", "))
        };
        let shown = shown(&list("\"expected\""), &list("\"observed\"")).expect("a difference");
        assert_eq!(
            shown,
            [
                "…",
                " \"member 5\",",
                " \"member 6\",",
                "-\"expected\",",
                "+\"observed\",",
                " \"member 8\",",
                " \"member 9\",",
                "…"
            ]
        );
    }

    #[test]
    fn escaped_lines_are_lines() {
        let output = |last: &str| format!("{:?}", format!("{}{last}\n", "a line of the output\n".repeat(6)));
        let shown = shown(&output("old"), &output("new")).expect("a difference");
        assert_eq!(
            shown,
            [
                "…",
                " a line of the output\\n",
                " a line of the output\\n",
                "-old\\n",
                "+new\\n",
                " \""
            ]
        );
    }

    #[test]
    fn short_texts_and_texts_without_anything_in_common_have_no_difference_to_show() {
        assert_eq!(shown("status 0", "status 1"), None);
        assert_eq!(shown(&"a".repeat(200), &"b".repeat(200)), None);
    }
}
