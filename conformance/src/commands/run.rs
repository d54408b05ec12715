//! `conformance run`: judges what is named and reports.

use anyhow::bail;
use clap::Args;

use super::judge::{ExpectationArguments, Judgement, Repeating, Reports};
use super::{Jobs, prepare};
use crate::commands::arguments::{Judged, Trying, options_that_name};
use crate::report::progress::Detail;
use crate::runner::plan::Plan;
use crate::runner::rounds::Heading;
use crate::spec::requirements::{Level, Role};
use crate::suite::selection::{Selection, Shard};

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// What is judged.
    #[command(flatten)]
    pub judged: Judged,
    /// How cases are tried.
    #[command(flatten)]
    pub trying: Trying,
    /// The highest level to judge: core, faithful or hardened
    #[arg(long, default_value_t = Level::Hardened)]
    pub level: Level,
    /// Only cases of this role: wrapper, server, shell or e2e; repeatable [default: every role that is named]
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<Role>,
    /// Only cases whose id matches this pattern; repeatable
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Leave out cases whose id matches this pattern; repeatable
    #[arg(long, value_name = "GLOB")]
    pub skip: Vec<String>,
    /// How many cases run at a time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// How often cases run.
    #[command(flatten)]
    pub repeating: Repeating,
    /// Only the I-th of N parts of the suite, chosen by a stable hash of the case id
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
    /// What is expected.
    #[command(flatten)]
    pub expected: ExpectationArguments,
    /// Where the run is reported.
    #[command(flatten)]
    pub reports: Reports,
    /// Print the wire of every case, not only of failures
    #[arg(long)]
    pub trace: bool,
}

/// Runs the selected cases.
///
/// # Errors
/// What cannot be judged, selected, read or written.
pub fn run(arguments: &RunArguments) -> anyhow::Result<i32> {
    let judged = &arguments.judged;
    if judged.shell.is_none() && judged.wrapper.is_none() && judged.server.is_none() {
        bail!("nothing to judge: name at least one of --shell PATH, --wrapper PATH, --server COMMAND");
    }
    let jobs = arguments
        .jobs
        .map_or(Jobs::Cores, |number| Jobs::Just(number.into()));
    let files = arguments.reports.create()?;
    let expectations = arguments.expected.read()?;
    let options = prepare(judged, &arguments.trying, jobs)?;
    let implementations = &options.settings.implementations;
    let selection = Selection {
        level: arguments.level,
        only: arguments.only.clone(),
        skip: arguments.skip.clone(),
        shard: arguments.shard,
        roles: wanted_roles(implementations.roles(), &arguments.role)?,
    };
    let judgement = Judgement {
        plan: Plan::of(&selection, implementations, &expectations)?,
        options,
        rounds: arguments.repeating.rounds(),
        heading: Heading {
            level: arguments.level,
            shard: arguments.shard,
        },
        baseline: &expectations.baseline,
        write_baseline: arguments.expected.write_baseline.as_deref(),
        files,
        detail: if arguments.trace {
            Detail::Wires
        } else {
            Detail::Lines
        },
    };
    judgement.pass()
}

/// The roles of what is named, or those of them that `--role` names.
fn wanted_roles(mut named: Vec<Role>, wanted: &[Role]) -> anyhow::Result<Vec<Role>> {
    for role in wanted {
        if !named.contains(role) {
            let needed = options_that_name(*role);
            bail!("--role {role}: the implementation to judge is not named; add {needed}");
        }
    }
    named.retain(|role| wanted.is_empty() || wanted.contains(role));
    Ok(named)
}
