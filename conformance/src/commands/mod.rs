//! The subcommands, a file each.

pub mod bench;
pub mod case;
pub mod compare;
pub mod doctor;
pub mod explain;
pub mod list;
pub mod run;
pub mod schema;

use std::time::Duration;

use anyhow::Context as _;

use crate::command_line::{Judged, Trying};
use crate::implementations::Implementations;
use crate::runner::schedule::Options;
use crate::{breath, suite};

/// How long a shim may take for its first breath, before `--timeout-scale`.
const INITIALIZE_PATIENCE: Duration = Duration::from_secs(10);

/// The suite or the machine failed: exit status 3, not 2.
#[derive(Debug)]
pub struct HarnessFailure(pub String);

impl std::fmt::Display for HarnessFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for HarnessFailure {}

/// Looks at what was named and at its first breath, before any case.
///
/// # Errors
/// A usage error where something named cannot be judged, a harness failure where a shim does not answer.
fn prepare(judged: &Judged, trying: &Trying, jobs: usize) -> anyhow::Result<Options> {
    let (shell, wrapper, server) = (
        judged.shell.as_deref(),
        judged.wrapper.as_deref(),
        judged.server.as_deref(),
    );
    let mut implementations =
        Implementations::named(shell, wrapper, server)?.with_stock_shell(judged.stock_shell.as_deref())?;
    implementations.ask_shell_version()?;
    breath::initialize_server(
        &mut implementations,
        INITIALIZE_PATIENCE.mul_f64(trying.timeout_scale),
    )?;
    Ok(Options {
        implementations,
        seed: trying.seed.unwrap_or_else(random_seed),
        property_cases: trying.cases,
        timeout_scale: trying.timeout_scale,
        jobs,
        keep: trying.keep,
        under: match &trying.under {
            None => Vec::new(),
            Some(command) => shlex::split(command)
                .filter(|words| !words.is_empty())
                .with_context(|| {
                    format!("--under {command:?}: not a command line; a quote is open, or it is empty")
                })?,
        },
    })
}

/// A seed that a person can type again.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library keys its hash maps from the operating system's random numbers.
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        % 1_000_000_000
}

/// The error of an id that does not exist.
fn unknown_id(id: &str) -> anyhow::Error {
    let cases = suite::all();
    let requirements = crate::requirements::all()
        .iter()
        .map(|requirement| requirement.id.as_str());
    let known = cases.iter().map(|case| case.id).chain(requirements);
    let nearest = suite::nearest(id, known).unwrap_or("none");
    anyhow::anyhow!(
        "'{id}' is no requirement and no case; the nearest id is '{nearest}' (see `conformance list`)"
    )
}
