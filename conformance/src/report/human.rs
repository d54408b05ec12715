//! The report for people: a line a case while the run goes on, then the failures in full, then a summary.

use std::fmt::Write as _;

use crate::case::result::{CaseResult, Outcome};
use crate::case::run::Run;
use crate::report::shares::{self, Counted};
use crate::spec::requirements;

/// The line of a finished case.
pub fn line(result: &CaseResult) -> String {
    format!(
        "{:>15}  {} ({} ms)",
        result.outcome.to_string(),
        result.id,
        result.duration_ms
    )
}

/// A case that is not green, in full: requirement, expected, observed, wire, standard error, and a command.
pub fn failure(run: &Run, result: &CaseResult) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {}",
        result.outcome.to_string().to_uppercase(),
        result.id
    );
    if let Some(requirement) = requirements::find(&result.requirement) {
        block(
            &mut text,
            "requirement",
            &format!(
                "{} ({})\n{}",
                requirement.id, requirement.level, requirement.sentence
            ),
        );
    }
    if let Some(expected) = &result.expected {
        block(&mut text, "expected", expected);
    }
    if let Some(observed) = &result.observed {
        let name = if result.outcome == Outcome::HarnessError {
            "reason"
        } else {
            "observed"
        };
        block(&mut text, name, observed);
    }
    if !result.transcript.is_empty() {
        block(&mut text, "wire", &result.transcript.join("\n"));
    }
    if let Some(tail) = &result.stderr_tail {
        block(&mut text, "stderr", tail);
    }
    block(&mut text, "again", &run.reproduce(result));
    text
}

fn block(text: &mut String, name: &str, content: &str) {
    for (index, line) in content.lines().enumerate() {
        let head = if index == 0 { name } else { "" };
        let _ = writeln!(text, "  {head:<11}  {line}");
    }
}

/// The wire of a case, for `--trace`.
pub fn trace(result: &CaseResult) -> String {
    result.transcript.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "                 {line}");
        text
    })
}

/// All failures in full.
pub fn failures(run: &Run) -> String {
    run.failures()
        .fold(String::new(), |text, result| text + "\n" + &failure(run, result))
}

/// All failures and the summary.
pub fn summary(run: &Run) -> String {
    let mut text = failures(run);
    table(&mut text, run);
    let counts = [
        (Outcome::Pass, "passed"),
        (Outcome::Fail, "failed"),
        (Outcome::ExpectedFail, "failed as expected"),
        (Outcome::UnexpectedPass, "passed unexpectedly"),
        (Outcome::NotApplicable, "not applicable"),
        (Outcome::HarnessError, "harness errors"),
    ];
    let words: Vec<String> = counts
        .into_iter()
        .map(|(outcome, word)| (run.count(outcome), outcome, word))
        .filter(|(count, outcome, _)| *count > 0 || matches!(outcome, Outcome::Pass | Outcome::Fail))
        .map(|(count, _, word)| format!("{count} {word}"))
        .collect();
    let seconds = run.duration.as_secs_f64();
    let (cases, level, seed) = (counted(run.results.len(), "case"), run.level, run.seed);
    let _ = writeln!(
        text,
        "\n{cases} in {seconds:.1} s, level {level}, seed {seed}: {}",
        words.join(", ")
    );
    text
}

/// How many rounds there were, and of each case that was not as expected in one of them, in which and with which seed.
pub fn rounds(run: &Run) -> String {
    let mut text = format!("{} rounds\n", run.rounds);
    for case in &run.unexpected {
        let numbers: Vec<String> = case.rounds.iter().map(u32::to_string).collect();
        let seed = run.seed.wrapping_add(u64::from(case.rounds[0]) - 1);
        let _ = writeln!(
            text,
            "{} was not as expected in {} of them, with seed {seed} first: {}",
            case.id,
            case.rounds.len(),
            numbers.join(", ")
        );
    }
    text
}

/// A number of things: `1 case`, `2 cases`.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Passed of those that apply, per role and level.
fn table(text: &mut String, run: &Run) {
    let _ = writeln!(
        text,
        "\n{:<18}{:>10}{:>10}{:>10}{:>10}",
        "passed", "core", "faithful", "hardened", "in all"
    );
    let counted = run.results.iter().map(|result| Counted {
        requirement: &result.requirement,
        role: result.role,
        level: result.level,
        outcome: result.outcome,
    });
    for row in shares::table(counted) {
        let _ = write!(text, "{:<18}", row.name);
        for share in row.levels {
            let _ = write!(text, "{:>10}", share.to_string());
        }
        let _ = writeln!(text, "{:>10}", row.all.to_string());
    }
}
