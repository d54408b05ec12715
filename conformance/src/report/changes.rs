//! Two runs case by case: what got better and what got worse.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::json::{CaseReport, Report};
use crate::case::result::Outcome;

/// How a case changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It passed, or did not apply, and does no longer.
    Worse,
    /// It failed, or did not apply, and does better now.
    Better,
    /// Only the later run has it.
    New,
}

/// A case that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// How.
    pub change: Change,
    /// Its id.
    pub id: String,
    /// What became of it before.
    pub before: Option<Outcome>,
    /// What became of it after.
    pub after: Option<Outcome>,
}

/// The cases that changed: what got worse first, each group by id. A case that passed and was not run again got worse:
/// a run of fewer cases must not look better.
pub fn between(before: &Report, after: &Report) -> Vec<Changed> {
    let outcomes = |report: &Report| -> BTreeMap<String, Outcome> {
        let outcome = |case: &CaseReport| (case.id.clone(), case.outcome);
        report.cases.iter().map(outcome).collect()
    };
    let (before, after) = (outcomes(before), outcomes(after));
    let mut ids: Vec<&String> = before.keys().chain(after.keys()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut changes: Vec<Changed> = ids
        .into_iter()
        .filter_map(|id| {
            let (before, after) = (before.get(id).copied(), after.get(id).copied());
            Some(Changed {
                change: change(before, after)?,
                id: id.clone(),
                before,
                after,
            })
        })
        .collect();
    changes.sort_by(|one, other| (one.change, &one.id).cmp(&(other.change, &other.id)));
    changes
}

fn change(before: Option<Outcome>, after: Option<Outcome>) -> Option<Change> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => return Some(Change::New),
        (Some(before), None) => return before.is_pass().then_some(Change::Worse),
        (Some(before), Some(after)) => (worth(before), worth(after)),
    };
    match after.cmp(&before) {
        std::cmp::Ordering::Less => Some(Change::Worse),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(Change::Better),
    }
}

/// Whether the baseline expects an outcome makes no difference.
fn worth(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Fail | Outcome::ExpectedFail | Outcome::HarnessError => 0,
        Outcome::NotApplicable => 1,
        Outcome::Pass | Outcome::UnexpectedPass => 2,
    }
}

/// The changes for a terminal.
pub fn text(changes: &[Changed]) -> String {
    let mut text = String::new();
    let shown =
        |outcome: Option<Outcome>| outcome.map_or("not run".to_owned(), |outcome| outcome.to_string());
    for changed in changes {
        let word = match changed.change {
            Change::Worse => "worse",
            Change::Better => "better",
            Change::New => "new",
        };
        let (before, after) = (shown(changed.before), shown(changed.after));
        let _ = match changed.change {
            Change::New => writeln!(text, "{word:<7} {}: {after}", changed.id),
            _ => writeln!(text, "{word:<7} {}: {before} -> {after}", changed.id),
        };
    }
    let count = |wanted: Change| changes.iter().filter(|changed| changed.change == wanted).count();
    let _ = writeln!(
        text,
        "{} worse, {} better, {} new",
        count(Change::Worse),
        count(Change::Better),
        count(Change::New)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_gets_worse_or_better_by_what_became_of_it() {
        use Change::{Better, New, Worse};
        use Outcome::{ExpectedFail, Fail, HarnessError, NotApplicable, Pass, UnexpectedPass};
        for (before, after, expected) in [
            (Some(Pass), Some(Fail), Some(Worse)),
            (Some(Pass), Some(ExpectedFail), Some(Worse)),
            (Some(Pass), Some(HarnessError), Some(Worse)),
            (Some(Pass), Some(NotApplicable), Some(Worse)),
            (Some(NotApplicable), Some(Fail), Some(Worse)),
            (Some(Pass), None, Some(Worse)),
            (Some(Fail), Some(Pass), Some(Better)),
            (Some(ExpectedFail), Some(UnexpectedPass), Some(Better)),
            (None, Some(Fail), Some(New)),
            (None, Some(Pass), Some(New)),
            (Some(Fail), Some(ExpectedFail), None),
            (Some(Fail), None, None),
            (Some(Pass), Some(Pass), None),
        ] {
            assert_eq!(change(before, after), expected, "{before:?} -> {after:?}");
        }
    }
}
