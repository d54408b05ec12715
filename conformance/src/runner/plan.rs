//! What a run does, decided before its first case: which cases run, which do not apply and why, and which of them are
//! known to fail.

use crate::case::Case;
use crate::case::implementations::{EXTENSIONS, Implementations};
use crate::case::result::{CaseResult, Known, Outcome};
use crate::printable::printable;
use crate::spec::requirements::Role;
use crate::spec::version::Version;
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
    /// The version that the run is held to, where the case is newer.
    newer_than: Option<Version>,
}

/// What a plan expects of the cases.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// The known failures.
    pub baseline: Baseline,
    /// The version of the suite of which no newer case decides.
    pub as_of: Option<Version>,
}

impl Plan {
    /// The plan of what `selection` selects.
    ///
    /// # Errors
    /// What [`Selection::apply`] refuses.
    pub fn of(
        selection: &Selection,
        implementations: &Implementations,
        expectations: &Expectations,
    ) -> anyhow::Result<Plan> {
        Plan::with(selection.apply()?, implementations, expectations)
    }

    /// The plan of these cases.
    ///
    /// # Errors
    /// A case whose `since` is not a version, which a test excludes.
    pub fn with(
        cases: Vec<Case>,
        implementations: &Implementations,
        expectations: &Expectations,
    ) -> anyhow::Result<Plan> {
        let planned = |case: Case| {
            let version = case.version().map_err(anyhow::Error::msg)?;
            Ok(Planned {
                not_applicable: lacking(implementations, &case),
                known: expectations.baseline.entry(case.id).cloned(),
                newer_than: expectations.as_of.filter(|as_of| version > *as_of),
                case,
            })
        };
        let cases = cases.into_iter().map(planned).collect::<anyhow::Result<_>>()?;
        Ok(Plan { cases })
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

    /// What the run makes of a result that has just come: its seed, what the baseline says of it, whether it decides, and
    /// text that is safe to show.
    pub fn settle(&self, mut result: CaseResult, seed: u64) -> CaseResult {
        result.seed = seed;
        result.newer_than = self.newer_than.map(|version| version.to_string());
        for text in [
            &mut result.expected,
            &mut result.observed,
            &mut result.stderr_tail,
        ] {
            *text = text.take().map(|text| printable(&text));
        }
        for line in &mut result.transcript {
            *line = printable(line);
        }
        if let Some(known) = &self.known {
            baseline::apply(known, &mut result);
        }
        result
    }
}

/// Why `case` does not apply to what is judged, where it doesn't: it needs an extension or a capability that isn't
/// there.
fn lacking(implementations: &Implementations, case: &Case) -> Option<String> {
    let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
    case.capabilities().find_map(|needed| {
        let judges_a_wrapper = matches!(case.role, Role::Wrapper | Role::E2e);
        let judges_a_server = matches!(case.role, Role::Server | Role::E2e);
        if judges_a_wrapper
            && EXTENSIONS.contains(&needed)
            && !has(&implementations.wrapper_extensions, needed)
        {
            Some(match &implementations.not_observed {
                Some(_) => format!("whether the wrapper has the extension '{needed}' could not be seen"),
                None => format!("the wrapper does not have the extension '{needed}'"),
            })
        } else if judges_a_server && !has(&implementations.capabilities, needed) {
            Some(format!("the shim does not name the capability '{needed}'"))
        } else {
            None
        }
    })
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
            let plan = Plan::with(vec![case], &named(capabilities), &Expectations::default());
            plan.expect("a plan").cases[0].without_running()
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
    fn of_several_capabilities_the_one_that_is_missing_is_named() {
        let case = suite::find("exec.shell/output-that-is-not-utf-8").expect("a case");
        let reason = |capabilities: &[&str]| {
            let plan = Plan::with(vec![case], &named(capabilities), &Expectations::default());
            let result = plan.expect("a plan").cases[0].without_running();
            result.and_then(|result| result.observed)
        };
        let lacks = |name: &str| Some(format!("the shim does not name the capability '{name}'"));
        assert_eq!(reason(&["exec", "session"]), lacks("bytes"));
        assert_eq!(reason(&["bytes", "session"]), lacks("exec"));
        assert_eq!(reason(&["bytes", "exec"]), None);
    }

    #[test]
    fn a_known_failure_is_expected_as_soon_as_its_result_comes() {
        let case = suite::find("wrapper.deny.status/is-one").expect("a case");
        let known = Known {
            case: case.id.to_owned(),
            reason: "a reason".to_owned(),
            issue: "an issue".to_owned(),
        };
        let expectations = Expectations {
            baseline: Baseline {
                known: vec![known.clone()],
            },
            as_of: None,
        };
        let plan = Plan::with(vec![case], &named(&[]), &expectations).expect("a plan");
        let settled = plan.cases[0].settle(CaseResult::new(&case, Outcome::Fail), 7);
        assert_eq!(settled.outcome, Outcome::ExpectedFail);
        assert_eq!(settled.known, Some(known));
        assert_eq!(settled.seed, 7);
    }

    #[test]
    fn a_case_that_is_newer_than_the_run_is_held_to_does_not_decide() {
        let case = Case {
            since: "0.3.0",
            ..suite::find("wrapper.deny.status/is-one").expect("a case")
        };
        for (as_of, decides) in [
            (None, true),
            (Some("0.2.9"), false),
            (Some("0.3.0"), true),
            (Some("0.10.0"), true),
        ] {
            let expectations = Expectations {
                as_of: as_of.map(|version| version.parse().expect(version)),
                ..Expectations::default()
            };
            let plan = Plan::with(vec![case], &named(&[]), &expectations).expect("a plan");
            let settled = plan.cases[0].settle(CaseResult::new(&case, Outcome::Fail), 1);
            assert_eq!(settled.outcome, Outcome::Fail, "it is reported");
            assert_eq!(settled.is_unexpected(), decides, "{as_of:?}");
        }
    }

    #[test]
    fn foreign_text_is_made_harmless_where_it_enters() {
        let case = suite::find("wrapper.deny.status/is-one").expect("a case");
        let plan = Plan::with(vec![case], &named(&[]), &Expectations::default()).expect("a plan");
        let foreign = || Some("\u{1b}[2J".to_owned());
        let result = CaseResult {
            expected: foreign(),
            observed: foreign(),
            stderr_tail: foreign(),
            transcript: foreign().into_iter().collect(),
            ..CaseResult::new(&case, Outcome::Fail)
        };
        let settled = plan.cases[0].settle(result, 1);
        let texts = [
            settled.expected,
            settled.observed,
            settled.stderr_tail,
            settled.transcript.into_iter().next(),
        ];
        for text in texts {
            assert_eq!(text.as_deref(), Some("\\u{1b}[2J"));
        }
    }
}
