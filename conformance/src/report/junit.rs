//! The JUnit report, as the usual CI viewers read it. Its counts equal those of the JSON report.
//!
//! JUnit knows passed, failed, error and skipped: an unexpected pass is a failure, an expected failure and a
//! case that does not apply are skipped with the reason, and a harness error is an error. So is, in a suite of its own,
//! that a run ended early. A case that is newer than `--as-of` is skipped where it did not pass.

use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::case::result::Outcome;
use crate::case::run::Cause;
use crate::report::json::{CaseReport, Report};
use crate::spec::requirements::Role;

/// The report of a run, one test suite per role.
///
/// # Errors
/// Where it cannot be written as XML, which none of ours can be.
pub fn report(run: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut report = quick_junit::Report::new(env!("CARGO_PKG_NAME"));
    report.set_time(Duration::from_millis(run.duration_ms));
    for role in Role::ALL {
        let mut test_suite = TestSuite::new(role.to_string());
        test_suite.add_property(("level", run.level.to_string().as_str()));
        test_suite.add_property(("seed", run.seed.to_string().as_str()));
        for result in &run.cases {
            if result.role == role {
                test_suite.add_test_case(test_case(result));
            }
        }
        if !test_suite.test_cases.is_empty() {
            report.add_test_suite(test_suite);
        }
    }
    if let Some(cut_short) = run.cut_short() {
        // Viewers know no unfinished run; without an error they would show one as passed.
        let mut error = TestCaseStatus::non_success(NonSuccessKind::Error);
        error.set_message(cut_short.to_string());
        let name = match cut_short.cause {
            Cause::Signal(_) => "interrupted",
            Cause::Failures(_) => "stopped",
        };
        let mut test_suite = TestSuite::new("run");
        test_suite.add_test_case(TestCase::new(name, error));
        report.add_test_suite(test_suite);
    }
    report.to_string()
}

fn test_case(result: &CaseReport) -> TestCase {
    let (requirement, variation) = result.id.split_once('/').unwrap_or((&result.id, ""));
    let status = match result.outcome {
        _ if result.newer_than.is_some() && !result.outcome.is_green() => TestCaseStatus::skipped(),
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Fail | Outcome::UnexpectedPass => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::HarnessError => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::ExpectedFail | Outcome::NotApplicable => TestCaseStatus::skipped(),
    };
    let mut test_case = TestCase::new(variation, status);
    test_case.set_classname(requirement);
    test_case.set_time(Duration::from_millis(result.duration_ms));
    if result.outcome != Outcome::Pass {
        test_case.status.set_type(result.outcome.to_string());
        let observed = result.observed.clone().unwrap_or_default();
        test_case
            .status
            .set_message(match (&result.reason, &result.newer_than) {
                (Some(reason), _) => {
                    let issue = result.issue.as_deref().unwrap_or_default();
                    format!("{reason} ({issue}): {observed}")
                }
                (None, Some(version)) => format!("newer than {version}: {observed}"),
                (None, None) => observed,
            });
        if result.is_unexpected() {
            test_case.status.set_description(super::human::failure(result));
        }
    }
    if let Some(tail) = &result.stderr_tail {
        test_case.set_system_err(tail.clone());
    }
    test_case
}
