//! What a run does, decided before its first case: which cases run, which do not apply and why, and which of them are
//! known to fail.

use crate::case::Case;
use crate::case::implementations::Implementations;
use crate::case::result::{CaseResult, Known, Outcome};
use crate::suite::baseline::{self, Baseline};
use crate::suite::selection::Selection;

/// The cases of a run, in the order of the suite.
pub struct Plan {
    /// Each case, once.
    pub cases: Vec<Planned>,
}

/// A case of a run.
#[derive(Clone)]
pub struct Planned {
    /// The case.
    pub case: Case,
    /// Why it does not apply to what is judged, where it does not.
    pub not_applicable: Option<String>,
    /// What the baseline says of it.
    known: Option<Known>,
}

impl Plan {
    /// The plan of what `selection` selects.
    ///
    /// # Errors
    /// What [`Selection::apply`] refuses.
    pub fn of(
        selection: &Selection,
        implementations: &Implementations,
        baseline: &Baseline,
    ) -> anyhow::Result<Plan> {
        Ok(Plan::with(selection.apply()?, implementations, baseline))
    }

    /// The plan of these cases.
    pub fn with(cases: Vec<Case>, implementations: &Implementations, baseline: &Baseline) -> Plan {
        let cases = cases.into_iter().map(|case| Planned {
            not_applicable: missing_capability(&case, implementations)
                .map(|capability| format!("the shim does not name the capability '{capability}'")),
            known: baseline.entry(case.id).cloned(),
            case,
        });
        Plan {
            cases: cases.collect(),
        }
    }
}

impl Planned {
    /// The result of a case that does not run, or none where it has to run.
    pub fn without_running(&self) -> Option<CaseResult> {
        let reason = self.not_applicable.as_ref()?;
        Some(CaseResult {
            observed: Some(reason.clone()),
            ..CaseResult::new(&self.case, Outcome::NotApplicable)
        })
    }

    /// What the run makes of a result that has just come: its seed, and what the baseline says of it.
    pub fn settle(&self, mut result: CaseResult, seed: u64) -> CaseResult {
        result.seed = seed;
        if let Some(known) = &self.known {
            baseline::apply(known, &mut result);
        }
        result
    }
}

fn missing_capability(case: &Case, implementations: &Implementations) -> Option<&'static str> {
    let named = &implementations.capabilities;
    case.capabilities()
        .find(|needed| !named.iter().any(|name| name == needed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    fn named(capabilities: &[&str]) -> Implementations {
        Implementations {
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
            ..Implementations::default()
        }
    }

    #[test]
    fn a_case_whose_capability_is_not_named_is_not_run() {
        let case = suite::find("session.overlay/names-and-values").expect("a case");
        let plan = |capabilities: &[&str]| {
            let plan = Plan::with(vec![case], &named(capabilities), &Baseline::default());
            plan.cases[0].without_running()
        };
        assert!(plan(&["session"]).is_none());
        let result = plan(&["exec"]).expect("a result without a run");
        assert_eq!(result.outcome, Outcome::NotApplicable);
        assert_eq!(
            result.observed.as_deref(),
            Some("the shim does not name the capability 'session'")
        );
    }

    #[test]
    fn a_known_failure_is_expected_as_soon_as_its_result_comes() {
        let case = suite::find("wrapper.deny.status/is-one").expect("a case");
        let known = Known {
            case: case.id.to_owned(),
            reason: "a reason".to_owned(),
            issue: "an issue".to_owned(),
        };
        let baseline = Baseline {
            known: vec![known.clone()],
        };
        let plan = Plan::with(vec![case], &named(&[]), &baseline);
        let settled = plan.cases[0].settle(CaseResult::new(&case, Outcome::Fail), 7);
        assert_eq!(settled.outcome, Outcome::ExpectedFail);
        assert_eq!(settled.known, Some(known));
        assert_eq!(settled.seed, 7);
    }
}
