//! The rounds of a run (`--repeat`, `--until-failure`) and what they come to together.

use std::time::Instant;

use super::plan::Plan;
use super::schedule::{self, Options};
use crate::case::result::CaseResult;
use crate::case::run::{Cause, CutShort, Run, RunEvent, Unexpected};
use crate::spec::requirements::Level;
use crate::suite::selection::Shard;

/// How often a run runs its cases, and what ends it early.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    /// How many rounds; none is one, or with `until_failure` any number.
    pub repeat: Option<u32>,
    /// Whether a case that is not as expected ends the run with its round.
    pub until_failure: bool,
    /// After how many cases that are not as expected no other case starts.
    pub most_failures: Option<usize>,
}

/// What a run is called in its reports.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// Up to and including this level.
    pub level: Level,
    /// The part of the suite.
    pub shard: Shard,
}

/// Runs `plan` round by round, each with the next seed; `tell` hears every event, the last of which is the whole run.
///
/// # Errors
/// Where a round cannot be run at all.
pub fn run(
    plan: &Plan,
    mut options: Options,
    rounds: Rounds,
    heading: Heading,
    tell: &mut dyn FnMut(&RunEvent),
) -> anyhow::Result<Run> {
    let started = Instant::now();
    let first_seed = options.settings.seed;
    let mut sum = Sum::default();
    let cause = loop {
        tell(&RunEvent::RoundStarted {
            round: sum.rounds + 1,
            seed: options.settings.seed,
            cases: plan.cases.len(),
        });
        let left = rounds.most_failures.map(|most| most - sum.failures);
        let round = schedule::run(plan, &options, left, tell)?;
        tell(&RunEvent::RoundFinished { kept: round.kept });
        sum.add(round.results);
        match round.cut_short {
            // Of all rounds, not of the last alone.
            Some(Cause::Failures(_)) => break Some(Cause::Failures(sum.failures)),
            Some(cause) => break Some(cause),
            None if rounds.are_over(&sum) => break None,
            None => options.settings.seed = options.settings.seed.wrapping_add(1),
        }
    };
    let run = Run {
        implementations: options.settings.implementations,
        level: heading.level,
        seed: first_seed,
        shard: heading.shard.to_string(),
        cut_short: cause.map(|cause| CutShort {
            cause,
            not_run: plan.cases.len() - sum.results.len(),
        }),
        results: sum.results,
        rounds: sum.rounds,
        unexpected: sum.unexpected,
        duration: started.elapsed(),
    };
    tell(&RunEvent::RunFinished(Box::new(run.clone())));
    Ok(run)
}

impl Rounds {
    fn are_over(self, sum: &Sum) -> bool {
        let wanted = self.repeat.or((!self.until_failure).then_some(1));
        wanted.is_some_and(|wanted| sum.rounds >= wanted)
            || (self.until_failure && sum.failures > 0)
            || self.most_failures.is_some_and(|most| sum.failures >= most)
    }
}

/// What the rounds so far came to.
#[derive(Default)]
struct Sum {
    rounds: u32,
    /// How often a case was not as expected.
    failures: usize,
    unexpected: Vec<Unexpected>,
    results: Vec<CaseResult>,
}

impl Sum {
    /// Of each case the first result other than a pass stays.
    fn add(&mut self, round: Vec<CaseResult>) {
        self.rounds += 1;
        for result in round {
            if result.is_unexpected() {
                self.failures += 1;
                self.note(&result.id);
            }
            match self.results.iter_mut().find(|earlier| earlier.id == result.id) {
                None => self.results.push(result),
                Some(earlier) if earlier.outcome.is_pass() => *earlier = result,
                Some(_) => {}
            }
        }
    }

    fn note(&mut self, id: &str) {
        match self.unexpected.iter_mut().find(|known| known.id == id) {
            Some(known) => known.rounds.push(self.rounds),
            None => self.unexpected.push(Unexpected {
                id: id.to_owned(),
                rounds: vec![self.rounds],
            }),
        }
    }
}
