//! `conformance case ID`: one case, with its wire shown whatever comes of it.

use std::io::Write;
use std::time::Instant;

use super::{prepare, unknown_id};
use crate::command_line::{CaseArguments, status};
use crate::outcome::Outcome;
use crate::report::{Run, human};
use crate::requirements::Role;
use crate::runner::schedule;
use crate::suite::{self, Shard};

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
        shard: Shard { index: 1, count: 1 },
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
        None => finished
            .interrupted
            .map_or(status::HARNESS, |signal| 128 + signal),
        Some(Outcome::HarnessError) => status::HARNESS,
        Some(Outcome::NotApplicable) => status::NOTHING,
        Some(outcome) if outcome.is_green() => status::EXPECTED,
        Some(_) => status::UNEXPECTED,
    })
}
