//! `conformance case ID`: one case, with its wire shown whatever comes of it.

use crate::commands::arguments::{Judged, Trying};
use clap::Args;
use std::io::Write;
use std::time::Instant;

use super::{prepare, unknown_id};
use crate::case::result::Outcome;
use crate::exit;
use crate::report::{Run, human};
use crate::runner::schedule;
use crate::spec::requirements::Role;
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
}

/// Runs one case.
///
/// # Errors
/// An unknown id, a role without an implementation, or what `prepare` refuses.
pub fn case(arguments: &CaseArguments) -> anyhow::Result<i32> {
    let case = suite::find(&arguments.id).ok_or_else(|| unknown_id(&arguments.id))?;
    let options = prepare(&arguments.judged, &arguments.trying, 1)?;
    if !options.implementations.roles().contains(&case.role) {
        let wanted = match case.role {
            Role::E2e => "--shell, --wrapper and --server".to_owned(),
            role => format!("--{role}"),
        };
        anyhow::bail!(
            "{} judges the role {}: name its implementation with {wanted}",
            case.id,
            case.role
        );
    }
    let started = Instant::now();
    let finished = schedule::run(&[case], &options, |_| {})?;
    let run = Run {
        implementations: options.implementations,
        level: case.level,
        seed: options.seed,
        shard: Shard::WHOLE.to_string(),
        results: finished.results,
        duration: started.elapsed(),
        interrupted: None,
    };
    let mut output = std::io::stdout().lock();
    for result in &run.results {
        writeln!(output, "{}", human::line(result))?;
        let green = result.outcome.is_green();
        write!(
            output,
            "{}",
            if green {
                human::trace(result)
            } else {
                human::failure(&run, result)
            }
        )?;
    }
    if let Some(kept) = finished.kept {
        writeln!(output, "kept: {}", kept.display())?;
    }
    Ok(match run.results.first().map(|result| result.outcome) {
        None => finished.interrupted.map_or(exit::HARNESS, |signal| 128 + signal),
        Some(Outcome::HarnessError) => exit::HARNESS,
        Some(Outcome::NotApplicable) => exit::NOTHING,
        Some(outcome) if outcome.is_green() => exit::EXPECTED,
        Some(_) => exit::UNEXPECTED,
    })
}
