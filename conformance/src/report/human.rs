//! The report for people: a line per case while the run goes on, then the failures in full, then a summary.

use std::fmt::Write as _;
use std::time::Duration;

use crate::case::result::{CaseResult, CaseView, Outcome};
use crate::case::run::Run;
use crate::report::diff;
use crate::report::json::{CaseReport, case_report};
use crate::report::shares;
use crate::spec::requirements::{self, Level};
use crate::spec::roots::{self, Failing};

/// The line of a finished case.
pub fn line(result: &CaseResult) -> String {
    let newer = result
        .newer_than
        .as_ref()
        .map_or(String::new(), |version| format!(", newer than {version}"));
    format!(
        "{:>15}  {} ({} ms{newer})",
        result.outcome.to_string(),
        result.id,
        result.duration_ms
    )
}

/// A case that is not green, in full: requirement, expected, observed, wire, standard error, and a command.
pub fn failure(result: &CaseReport) -> String {
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
    let difference = match (&result.expected, &result.observed) {
        (Some(expected), Some(observed)) => diff::of(expected, observed),
        _ => None,
    };
    if let Some(parts) = &difference {
        block(&mut text, "difference", "- expected\n+ observed");
        for part in parts {
            block(&mut text, "", &format!("{} {}", part.sign, part.text));
        }
    }
    if let (Some(expected), None) = (&result.expected, &difference) {
        block(&mut text, "expected", expected);
    }
    if let (Some(observed), None) = (&result.observed, &difference) {
        let name = if result.outcome == Outcome::HarnessError {
            "reason"
        } else {
            "observed"
        };
        block(&mut text, name, observed);
    }
    if let Some(transcript) = &result.transcript {
        block(&mut text, "wire", &transcript.join("\n"));
    }
    if let Some(tail) = &result.stderr_tail {
        block(&mut text, "stderr", tail);
    }
    block(&mut text, "again", &result.reproduce);
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
    run.failures().fold(String::new(), |text, result| {
        text + "\n" + &failure(&case_report(run, result))
    })
}

/// From this many failures on, what failed is first told by requirement.
const MANY: usize = 11;

/// How many cases of each requirement failed, the likely root of others first.
fn by_requirement(cases: &[CaseView]) -> String {
    let failing = cases.iter().filter(|case| case.is_unexpected());
    let failing: Vec<&str> = failing.map(|case| case.requirement).collect();
    let mut text = format!("\n{} failed:\n", counted(failing.len(), "case"));
    for Failing { requirement, others } in roots::first(&failing) {
        let of_requirement = cases.iter().filter(|case| case.requirement == requirement);
        let (failed, all) = of_requirement.fold((0, 0), |(failed, all), result| {
            (failed + usize::from(result.is_unexpected()), all + 1)
        });
        let _ = write!(text, "{:>9}  {requirement}", format!("{failed}/{all}"));
        if !others.is_empty() {
            let _ = write!(text, " (likely root of {} more)", others.len());
        }
        text.push('\n');
    }
    text
}

/// The ids of what failed, one per line, to be copied from the end of the output.
pub fn failed_ids(cases: &[CaseView]) -> String {
    let mut text = String::new();
    for case in cases.iter().filter(|case| case.is_unexpected()) {
        let _ = writeln!(text, "{:>15}  {}", case.outcome.to_string(), case.id);
    }
    if !text.is_empty() {
        text.insert(0, '\n');
    }
    text
}

/// All failures and the summary.
pub fn summary(run: &Run) -> String {
    let cases: Vec<_> = run.results.iter().map(CaseResult::view).collect();
    let mut text = String::new();
    if run.failures().count() >= MANY {
        text.push_str(&by_requirement(&cases));
    }
    text.push_str(&failures(run));
    // The id of a single failure stands in sight already.
    if run.failures().count() > 1 {
        text.push_str(&failed_ids(&cases));
    }
    text.push_str(&closing(&cases, run.duration, run.level, run.seed));
    text
}

/// What a run ends with: the table of results, and a line of numbers.
pub fn closing(cases: &[CaseView], duration: Duration, level: Level, seed: u64) -> String {
    let mut text = String::new();
    table(&mut text, cases);
    let counts = [
        (Outcome::Pass, "passed"),
        (Outcome::Fail, "failed"),
        (Outcome::ExpectedFail, "failed as expected"),
        (Outcome::UnexpectedPass, "passed unexpectedly"),
        (Outcome::NotApplicable, "not applicable"),
        (Outcome::HarnessError, "harness errors"),
    ];
    let count = |wanted: Outcome| cases.iter().filter(|case| case.outcome == wanted).count();
    let words: Vec<String> = counts
        .into_iter()
        .map(|(outcome, word)| (count(outcome), outcome, word))
        .filter(|(count, outcome, _)| *count > 0 || matches!(outcome, Outcome::Pass | Outcome::Fail))
        .map(|(count, _, word)| format!("{count} {word}"))
        .chain(newer(cases))
        .collect();
    let seconds = duration.as_secs_f64();
    let number = counted(cases.len(), "case");
    let _ = writeln!(
        text,
        "\n{number} in {seconds:.1} s, level {level}, seed {seed}: {}",
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
            "{} was not as expected in {} of them, first with seed {seed}: {}",
            case.id,
            case.rounds.len(),
            numbers.join(", ")
        );
    }
    text
}

/// How many of the cases are newer than the run is held to.
fn newer(cases: &[CaseView]) -> Option<String> {
    let versions: Vec<&str> = cases.iter().filter_map(|case| case.newer_than).collect();
    let version = versions.first()?;
    Some(format!(
        "{} of these newer than {version}, which do not decide",
        versions.len()
    ))
}

/// A number of things: `1 case`, `2 cases`.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Passed of those that apply, per role and level.
fn table(text: &mut String, cases: &[CaseView]) {
    let rows = shares::table(cases);
    let width = rows
        .iter()
        .map(|row| row.name.len() + 2)
        .max()
        .unwrap_or(0)
        .max(10);
    let _ = writeln!(
        text,
        "\n{:<width$}{:>10}{:>10}{:>10}{:>10}",
        "passed", "core", "faithful", "hardened", "in all"
    );
    for row in rows {
        let _ = write!(text, "{:<width$}", row.name);
        for share in row.levels {
            let _ = write!(text, "{:>10}", share.to_string());
        }
        let _ = writeln!(text, "{:>10}", row.all.to_string());
    }
}
