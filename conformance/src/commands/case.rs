//! `conformance case ID`: one case, with its wire shown whatever comes of it.

use anyhow::bail;
use clap::Args;

use super::judge::{ExpectationArguments, Judgement, Repeating, Reports};
use super::{Jobs, prepare, unknown_id};
use crate::commands::arguments::{Judged, Trying, options_that_name};
use crate::report::progress::Detail;
use crate::runner::plan::Plan;
use crate::runner::rounds::Heading;
use crate::suite;
use crate::suite::selection::Shard;

/// Options of `case`.
#[derive(Debug, Args)]
pub struct CaseArguments {
    /// Id of the case
    pub id: String,
    /// What is judged.
    #[command(flatten)]
    pub judged: Judged,
    /// How the case is tried.
    #[command(flatten)]
    pub trying: Trying,
    /// How often it runs.
    #[command(flatten)]
    pub repeating: Repeating,
    /// What is expected.
    #[command(flatten)]
    pub expected: ExpectationArguments,
    /// Where the run is reported.
    #[command(flatten)]
    pub reports: Reports,
    /// Print the wire; this command always does
    #[arg(long)]
    pub trace: bool,
}

/// Runs one case.
///
/// # Errors
/// An unknown id, a role without an implementation, or what `prepare` refuses.
pub fn case(arguments: &CaseArguments) -> anyhow::Result<i32> {
    let case = suite::find(&arguments.id).ok_or_else(|| unknown_id(&arguments.id))?;
    let files = arguments.reports.create()?;
    let expectations = arguments.expected.read()?;
    let options = prepare(&arguments.judged, &arguments.trying, Jobs::Just(1))?;
    let implementations = &options.settings.implementations;
    if !implementations.roles().contains(&case.role) {
        bail!(
            "{} judges the role {}: name its implementation with {}",
            case.id,
            case.role,
            options_that_name(case.role)
        );
    }
    let judgement = Judgement {
        plan: Plan::with(vec![case], implementations, &expectations)?,
        options,
        rounds: arguments.repeating.rounds(),
        heading: Heading {
            level: case.level,
            shard: Shard::WHOLE,
        },
        baseline: &expectations.baseline,
        write_baseline: arguments.expected.write_baseline.as_deref(),
        files,
        detail: Detail::OneCase,
    };
    judgement.pass()
}
