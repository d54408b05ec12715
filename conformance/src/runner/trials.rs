//! The runner's side of trials: each has a supervisor of its own, as a case has.

use std::path::PathBuf;

use anyhow::Context as _;

use super::channel::Secret;
use super::supervision::Supervision;
use super::{Assignment, Work, own_supervisor};
use crate::case::context::Settings;
use crate::case::implementations::Implementations;
use crate::trial::{DEADLINE, Found, Trial};
use crate::verdict::CaseError;

/// Tries something of `implementations` in a process of its own, in bounded time whatever is tried does.
///
/// # Errors
/// Where the suite or the machine cannot do its part: a supervisor that cannot be started, or gives no result. What the
/// trial came to is the inner result.
pub fn attempt(
    trial: Trial,
    implementations: &Implementations,
    timeout_scale: f64,
) -> anyhow::Result<Result<Found, CaseError>> {
    let directory = tempfile::Builder::new()
        .prefix("conformance-")
        .tempdir()
        .context("a directory for a trial (is TMPDIR writable?)")?;
    let assignment = Assignment {
        work: Work::Trial(trial),
        directory: directory.path().join("trial"),
        keep: false,
        // No trial links to a probe.
        probe_executable: PathBuf::new(),
        settings: Settings {
            implementations: implementations.clone(),
            seed: 0,
            property_cases: 0,
            timeout_scale,
            impatient: false,
        },
        secret: Secret::new().context("random bytes for the trial's secret")?,
    };
    let command = own_supervisor(directory.path());
    let (supervision, _leash) = Supervision::start(command, &assignment, DEADLINE.mul_f64(timeout_scale))
        .context("a process for a trial cannot be started")?;
    supervision.found()
}
