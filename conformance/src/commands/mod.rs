//! The subcommands, one file per command.

pub mod arguments;
pub mod bench;
pub mod case;
pub mod compare;
pub mod doctor;
pub mod explain;
pub mod join;
pub mod judge;
pub mod list;
pub mod new;
pub mod preflight;
pub mod run;
pub mod schema;

use std::path::Path;

use anyhow::Context as _;

use crate::case::context::Settings;
use crate::case::implementations::{Implementations, find_in_path};
use crate::runner::census;
use crate::runner::schedule::Options;
use crate::suite;
use arguments::{Judged, Trying};

/// Checks the implementations under test before any case runs.
///
/// # Errors
/// A usage error where something named cannot be judged, a harness failure where a shim does not answer.
fn prepare(judged: &Judged, trying: &Trying, jobs: Jobs) -> anyhow::Result<Options> {
    census::keep_to_ourselves()?;
    let (shell, wrapper, server) = (
        judged.shell.as_deref(),
        judged.wrapper.as_deref(),
        judged.server.as_deref(),
    );
    let mut implementations = Implementations::named(shell, wrapper, server)?
        .with_stock_shell(judged.stock_shell.as_deref())?
        .with_wrapper_variable(judged.wrapper_variable.as_deref())?;
    let under = match &trying.under {
        None => Vec::new(),
        Some(command) => command_to_run_under(command)?,
    };
    let in_time = preflight::check(&mut implementations, trying.timeout_scale)?;
    arguments::check_required(&implementations, &trying.require)?;
    if !in_time {
        eprintln!(
            "conformance: the wrapper was waited for in vain, so cases wait a tenth of the usual time for it"
        );
    }
    let impatient = !in_time || !preflight::serves(&implementations, trying.timeout_scale)?;
    Ok(Options {
        settings: Settings {
            implementations,
            seed: trying.seed.unwrap_or_else(random_seed),
            property_cases: trying.cases,
            timeout_scale: trying.timeout_scale,
            impatient,
        },
        jobs: jobs.number(impatient),
        keep: trying.keep,
        under,
    })
}

/// How many cases run at a time.
#[derive(Clone, Copy, Debug)]
enum Jobs {
    /// So many.
    Just(usize),
    /// As many as the machine has cores; several times that where the cases do little but wait.
    Cores,
}

/// Cases per core where they do little but wait.
const WAITING_JOBS: usize = 4;

impl Jobs {
    fn number(self, waiting: bool) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        match self {
            Jobs::Just(number) => number,
            Jobs::Cores if waiting => WAITING_JOBS * cores(),
            Jobs::Cores => cores(),
        }
    }
}

fn command_to_run_under(command: &str) -> anyhow::Result<Vec<String>> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.with_context(|| {
        format!("--under {command:?}: not a command line; a quote is open, or it is empty")
    })?;
    let program = &words[0];
    let found = program.contains('/') && Path::new(program).exists() || find_in_path(program).is_some();
    anyhow::ensure!(found, "--under {command:?}: there is no {program}");
    Ok(words)
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

/// The error of an id that does not exist, or that is a requirement's where a case is wanted.
fn unknown_id(id: &str) -> anyhow::Error {
    let cases = suite::all();
    let of_requirement: Vec<_> = cases
        .iter()
        .filter(|case| case.requirement_id() == id)
        .map(|case| case.id)
        .collect();
    if !of_requirement.is_empty() {
        return anyhow::anyhow!(
            "'{id}' is a requirement; its cases are {}",
            of_requirement.join(" ")
        );
    }
    let requirements = crate::spec::requirements::all()
        .iter()
        .map(|requirement| requirement.id.as_str());
    let known = cases.iter().map(|case| case.id).chain(requirements);
    let nearest = suite::nearest(id, known).unwrap_or("none");
    anyhow::anyhow!(
        "'{id}' is neither a requirement nor a case; the nearest id is '{nearest}' (see `conformance list`)"
    )
}
