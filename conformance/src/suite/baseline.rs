//! Known failures: a strict list, in which a stale entry is as wrong as a missing one.

use std::path::Path;

use anyhow::{Context as _, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::result::{CaseResult, Known, Outcome};
use crate::suite;

/// A baseline file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The known failures.
    #[serde(default)]
    pub known: Vec<Known>,
}

impl Baseline {
    /// Reads a baseline and checks it against the suite.
    ///
    /// # Errors
    /// An unreadable file, an unknown member, an empty reason or issue, an id twice or unknown.
    pub fn read(path: &Path) -> anyhow::Result<Baseline> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("--baseline {shown}: cannot be read"))?;
        let baseline: Baseline = toml::from_str(&text).with_context(|| format!("--baseline {shown}"))?;
        let cases = suite::all();
        for (index, known) in baseline.known.iter().enumerate() {
            let id = &known.case;
            if !cases.iter().any(|case| case.id == id) {
                let nearest = suite::nearest(id, cases.iter().map(|case| case.id)).unwrap_or("none");
                bail!("--baseline {shown}: no case '{id}'; the nearest is '{nearest}'");
            }
            if baseline.known[..index].iter().any(|earlier| earlier.case == *id) {
                bail!("--baseline {shown}: '{id}' is listed twice; keep one entry");
            }
            for (member, value) in [("reason", &known.reason), ("issue", &known.issue)] {
                if value.trim().is_empty() {
                    bail!(
                        "--baseline {shown}: '{id}' has an empty {member}; say why it fails and where that is followed up"
                    );
                }
            }
        }
        Ok(baseline)
    }

    /// What is listed for a case.
    pub fn entry(&self, case: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.case == case)
    }

    /// This baseline as the results of a run by it say it should be: without what passes now, with what else fails, and
    /// with nothing changed that was not run.
    pub fn renewed(&self, results: &[CaseResult]) -> Baseline {
        let passes = |id: &str| {
            results
                .iter()
                .any(|result| result.id == id && result.outcome.is_pass())
        };
        let listed = |id: &str| self.entry(id).is_some();
        let new = results
            .iter()
            .filter(|result| result.outcome == Outcome::Fail && !listed(&result.id))
            .map(|result| Known {
                case: result.id.clone(),
                reason: String::new(),
                issue: String::new(),
            });
        let known = self
            .known
            .iter()
            .filter(|known| !passes(&known.case))
            .cloned()
            .chain(new);
        Baseline {
            known: known.collect(),
        }
    }

    /// The baseline as a file.
    ///
    /// # Errors
    /// Where it cannot be said in TOML.
    pub fn text(&self) -> anyhow::Result<String> {
        let head = "# Known failures. Fill in each reason and issue: an empty one is refused.\n\n";
        Ok(head.to_owned() + &toml::to_string(self)?)
    }
}

/// Changes the outcome of a listed case: a failure is expected, a pass is not.
pub fn apply(known: &Known, result: &mut CaseResult) {
    match result.outcome {
        Outcome::Fail => {
            result.outcome = Outcome::ExpectedFail;
            result.known = Some(known.clone());
        }
        Outcome::Pass => {
            result.outcome = Outcome::UnexpectedPass;
            result.expected = Some(format!("fails, as the baseline says: {}", known.reason));
            result.observed = Some("it passes; take the entry out of the baseline".to_owned());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(id: &str, outcome: Outcome) -> CaseResult {
        let some_case = crate::suite::all()[0];
        CaseResult {
            id: id.to_owned(),
            ..CaseResult::new(&some_case, outcome)
        }
    }

    fn baseline(cases: &[&str]) -> Baseline {
        let known = cases.iter().map(|case| Known {
            case: (*case).to_owned(),
            reason: "a reason".to_owned(),
            issue: "an issue".to_owned(),
        });
        Baseline {
            known: known.collect(),
        }
    }

    #[test]
    fn a_renewed_baseline_forgets_what_passes_and_learns_what_fails() {
        let results = [
            result("passes", Outcome::UnexpectedPass),
            result("fails", Outcome::ExpectedFail),
            result("does-not-apply", Outcome::NotApplicable),
            result("fails-now", Outcome::Fail),
            result("passes-as-ever", Outcome::Pass),
            result("went-wrong", Outcome::HarnessError),
        ];
        let renewed = baseline(&["passes", "fails", "does-not-apply", "was-not-run"]).renewed(&results);
        let entries: Vec<_> = renewed
            .known
            .iter()
            .map(|known| (known.case.as_str(), known.reason.as_str(), known.issue.as_str()))
            .collect();
        assert_eq!(
            entries,
            [
                ("fails", "a reason", "an issue"),
                ("does-not-apply", "a reason", "an issue"),
                ("was-not-run", "a reason", "an issue"),
                ("fails-now", "", ""),
            ]
        );
    }

    #[test]
    fn a_listed_failure_is_expected_and_a_listed_pass_is_not() {
        let baseline = baseline(&["listed"]);
        assert_eq!(baseline.entry("other"), None);
        let known = baseline.entry("listed").expect("an entry");
        for (before, after) in [
            (Outcome::Fail, Outcome::ExpectedFail),
            (Outcome::Pass, Outcome::UnexpectedPass),
            (Outcome::HarnessError, Outcome::HarnessError),
            (Outcome::NotApplicable, Outcome::NotApplicable),
        ] {
            let mut judged = result("listed", before);
            apply(known, &mut judged);
            assert_eq!(judged.outcome, after, "{before}");
        }
    }
}
