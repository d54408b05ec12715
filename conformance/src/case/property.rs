//! Property cases: random examples from a printed seed, and the smallest counter-example in the report.
//!
//! A verdict must not depend on the seed. So what is known to decide is tried in each run, by the case itself
//! ([`holds_of_these_and`]) or by other cases of its requirement; random examples look for what is not known yet.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};

use crate::case::context::Context;
use crate::shown::{Shown, shown};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// How many smaller examples are tried to shrink a counter-example.
const SHRINK_ATTEMPTS: u32 = 200;

/// For how long smaller examples are tried, in milliseconds: each that fails may use up a patience.
const SHRINK_TIME: u32 = 20_000;

/// Demands that `property` holds for each of `decisive`, in this order, and then for random examples of `strategy`.
///
/// # Errors
/// A violation with the example; a harness error as it comes.
pub fn holds_of_these_and<S: Strategy>(
    context: &Context,
    decisive: impl IntoIterator<Item = S::Value>,
    strategy: &S,
    property: impl Fn(S::Value) -> Verdict,
) -> Verdict
where
    S::Value: Shown,
{
    for example in decisive {
        let text = shown(&example).to_string();
        property(example).map_err(|error| match error {
            CaseError::Violation { expected, observed } => violation(
                expected,
                format_args!("example (of those in every run): {text}\n{observed}"),
            ),
            other => other,
        })?;
    }
    holds(context, strategy, property)
}

/// Demands that `property` holds for the context's number of random examples of `strategy`.
///
/// # Errors
/// A violation with the smallest counter-example found; a harness error as it comes.
pub fn holds<S: Strategy>(context: &Context, strategy: &S, property: impl Fn(S::Value) -> Verdict) -> Verdict
where
    S::Value: Shown,
{
    let config = Config {
        cases: context.settings.property_cases,
        max_shrink_iters: SHRINK_ATTEMPTS,
        max_shrink_time: SHRINK_TIME,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(context.settings.seed),
        ..Config::default()
    };
    context.transcript.note(format_args!(
        "{} examples from seed {}",
        context.settings.property_cases, context.settings.seed
    ));
    // What went wrong with the smallest failing example so far; shrinking calls the property again and again.
    let last = std::cell::RefCell::new(None);
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(strategy, |example| match property(example) {
        Ok(()) => Ok(()),
        Err(CaseError::NotApplicable(reason)) => Err(TestCaseError::reject(reason)),
        Err(error) => {
            if last.borrow_mut().replace(error).is_none() {
                context
                    .transcript
                    .note("an example fails; from here on smaller ones are tried");
            }
            Err(TestCaseError::fail("see the case's violation"))
        }
    });
    match (outcome, last.into_inner()) {
        (Ok(()), _) => Ok(()),
        (Err(TestError::Fail(_, example)), Some(CaseError::Violation { expected, observed })) => {
            Err(violation(
                expected,
                format_args!(
                    "smallest example (seed {}): {}\n{observed}",
                    context.settings.seed,
                    shown(&example)
                ),
            ))
        }
        (Err(TestError::Fail(..)), Some(error)) => Err(error),
        (Err(error), _) => Err(harness(format_args!("property could not be tried: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::context::{Inodes, Settings};
    use crate::transcript::Transcript;

    /// The verdict on numbers below 1000, of which `wrong` are wrong, and how many notes there were.
    fn verdict_on(decisive: &[u32], wrong: impl Fn(u32) -> bool) -> (Verdict, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            implementations: Default::default(),
            seed: 1,
            property_cases: 64,
            timeout_scale: 1.0,
            impatient: false,
        };
        let (sender, notes) = std::sync::mpsc::channel();
        let transcript = Transcript::new(move |line| sender.send(line.to_owned()).expect("a reader"));
        let context = Context::new(
            settings,
            Default::default(),
            Inodes::OfTheCase,
            folder.path(),
            transcript,
        )
        .expect("a context");
        let verdict = holds_of_these_and(&context, decisive.iter().copied(), &(0_u32..1000), |number| {
            if wrong(number) {
                Err(violation("a right number", format_args!("it is {number}")))
            } else {
                Ok(())
            }
        });
        (verdict, notes.try_iter().count())
    }

    fn observed(verdict: &Verdict) -> &str {
        match verdict {
            Err(CaseError::Violation { observed, .. }) => observed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_smallest_example_is_told_first_and_the_others_are_not_listed() {
        let (verdict, notes) = verdict_on(&[], |number| number >= 17);
        assert_eq!(observed(&verdict), "smallest example (seed 1): 17\nit is 17");
        assert_eq!(notes, 2, "how many examples there are, and that one fails");
    }

    #[test]
    fn what_decides_is_tried_whatever_the_seed_draws() {
        // 64 of these numbers don't have this one.
        let rare = |number| number == 999;
        assert!(verdict_on(&[], rare).0.is_ok());
        let (verdict, _) = verdict_on(&[5, 999], rare);
        assert_eq!(
            observed(&verdict),
            "example (of those in every run): 999\nit is 999"
        );
        assert!(verdict_on(&[5, 999], |_| false).0.is_ok());
    }
}
