//! The report as TAP 14, one line per case; known failures are TODO, cases that do not apply are SKIP.

use std::fmt::Write as _;

use crate::case::result::Outcome;
use crate::report::json::Report;

/// The report of a run.
pub fn report(run: &Report) -> String {
    let mut text = String::from("TAP version 14\n");
    let not_run = run.cut_short().map_or(0, |cut_short| cut_short.not_run);
    let _ = writeln!(text, "1..{}", run.cases.len() + not_run);
    for (index, result) in run.cases.iter().enumerate() {
        let ok = match result.outcome {
            Outcome::Pass | Outcome::NotApplicable => "ok",
            // TAP's own word for a known failure: not ok, with a TODO directive.
            Outcome::Fail | Outcome::ExpectedFail | Outcome::UnexpectedPass | Outcome::HarnessError => {
                "not ok"
            }
        };
        let newer = result.newer_than.as_ref().filter(|_| !result.outcome.is_green());
        let directive = match (result.outcome, &result.reason) {
            (Outcome::ExpectedFail, Some(reason)) => {
                format!(
                    " # TODO {} ({})",
                    in_a_line(reason),
                    in_a_line(result.issue.as_deref().unwrap_or_default())
                )
            }
            (Outcome::NotApplicable, _) => {
                format!(
                    " # SKIP {}",
                    in_a_line(result.observed.as_deref().unwrap_or_default())
                )
            }
            _ => newer.map_or(String::new(), |version| format!(" # TODO newer than {version}")),
        };
        let _ = writeln!(text, "{ok} {} - {}{directive}", index + 1, result.id);
        if result.outcome == Outcome::Pass {
            continue;
        }
        let _ = writeln!(text, "  ---");
        member(&mut text, "outcome", &result.outcome.to_string());
        let _ = writeln!(text, "  duration_ms: {}", result.duration_ms);
        for (name, value) in [("expected", &result.expected), ("observed", &result.observed)] {
            if let Some(value) = value {
                member(&mut text, name, value);
            }
        }
        member(&mut text, "reproduce", &result.reproduce);
        let _ = writeln!(text, "  ...");
    }
    if let Some(cut_short) = run.cut_short() {
        let _ = writeln!(text, "Bail out! {cut_short}");
    }
    text
}

/// A text behind a directive, which ends with its line.
fn in_a_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A member of the YAML block. JSON strings are YAML's double-quoted ones.
fn member(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name}: {}", serde_json::Value::from(value));
}
