//! Property cases: random examples from a printed seed, and the smallest counter-example in the report.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};

use crate::case::context::Context;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// How many smaller examples are tried to shrink a counter-example.
const SHRINK_ATTEMPTS: u32 = 200;

/// For how long smaller examples are tried, in milliseconds: each that fails may use up a patience.
const SHRINK_TIME: u32 = 20_000;

/// Demands that `property` holds for the context's number of examples of `strategy`.
///
/// # Errors
/// A violation with the smallest counter-example found; a harness error as it comes.
pub fn holds<S: Strategy>(context: &Context, strategy: &S, property: impl Fn(S::Value) -> Verdict) -> Verdict
where
    S::Value: std::fmt::Debug,
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
                    "smallest example (seed {}): {example:?}\n{observed}",
                    context.settings.seed
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

    #[test]
    fn the_smallest_example_is_told_first_and_the_others_are_not_listed() {
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
        let verdict = holds(&context, &(0_u32..1000), |number| {
            if number < 17 {
                Ok(())
            } else {
                Err(violation("a small number", format_args!("it is {number}")))
            }
        });
        let Err(CaseError::Violation { observed, .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(observed, "smallest example (seed 1): 17\nit is 17");
        assert_eq!(
            notes.try_iter().count(),
            2,
            "how many examples there are, and that one fails"
        );
    }
}
