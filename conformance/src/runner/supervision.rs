//! The runner's side of a supervisor: starts it, waits for its result no longer than the case may take, and takes
//! nothing for a result that the supervisor has not written.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::census;
use super::channel::Lines;
use super::{Assignment, Work};
use crate::case::result::{CaseResult, Outcome};
use crate::system::clock::Moment;
use crate::system::poll::readable_until;
use crate::system::process::{self, ProcessHandle};
use crate::trial::Found;
use crate::verdict::{CaseError, violation};

/// What a supervisor may take beyond the deadline of its case or trial, before `--timeout-scale`: the census, and a loaded machine.
const OVERTIME: Duration = Duration::from_secs(30);

/// A running supervisor.
pub struct Supervision {
    child: Child,
    output: ChildStdout,
    handle: ProcessHandle,
    lines: Lines,
    what: &'static str,
    deadline: Moment,
}

impl Supervision {
    /// Starts a supervisor for `assignment`. The leash is its standard input, which ends the case when it is closed.
    ///
    /// # Errors
    /// Where the process cannot be started or told what to do.
    pub fn start(
        mut command: Command,
        assignment: &Assignment,
        deadline: Duration,
    ) -> anyhow::Result<(Supervision, ChildStdin)> {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_raw(child.id().try_into().context("a process id")?);
        // It has not been waited for, so its number is still its own.
        let handle = ProcessHandle::open(pid).map_err(|error| anyhow::anyhow!("{error}"))?;
        let handle = handle.context("the supervisor's process")?;
        let mut leash = child.stdin.take().context("the supervisor's standard input")?;
        let output = child.stdout.take().context("the supervisor's standard output")?;
        let mut line = serde_json::to_vec(assignment)?;
        line.push(b'\n');
        leash.write_all(&line)?;
        let overtime = (census::GRACE + OVERTIME).mul_f64(assignment.settings.timeout_scale);
        let supervision = Supervision {
            child,
            output,
            handle,
            lines: Lines::new(assignment.secret.clone()),
            what: match assignment.work {
                Work::Case(_) => "case",
                Work::Trial(_) => "trial",
            },
            deadline: Moment::now() + deadline + overtime,
        };
        Ok((supervision, leash))
    }

    /// A handle of its own to the supervisor.
    ///
    /// # Errors
    /// Where this process has no descriptor left.
    pub fn handle(&self) -> anyhow::Result<ProcessHandle> {
        self.handle
            .try_clone()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The result of the case `id`; none where the supervisor ended without one.
    ///
    /// # Errors
    /// A supervisor that does not end in time (it and what it has started are killed), that wrote more than one result
    /// or that of another case, or that ended with another status than its result says.
    pub fn result(self, id: &str) -> anyhow::Result<Option<CaseResult>> {
        let Some((mut result, foreign)) = self.answer::<CaseResult>()? else {
            return Ok(None);
        };
        anyhow::ensure!(result.id == id, "the result is that of {}", result.id);
        if foreign > 0 {
            tampered(&mut result, foreign);
        }
        Ok(Some(result))
    }

    /// What the trial found.
    ///
    /// # Errors
    /// As [`Supervision::result`], and a supervisor that ended without a result.
    pub fn found(self) -> anyhow::Result<Result<Found, CaseError>> {
        let answer = self.answer::<Result<Found, CaseError>>()?;
        let (found, foreign) = answer.context("the trial's supervisor ended without a result")?;
        Ok(if foreign > 0 {
            Err(foreign_bytes(foreign))
        } else {
            found
        })
    }

    /// The one result, and how many bytes something else has written beside it.
    fn answer<T: DeserializeOwned>(mut self) -> anyhow::Result<Option<(T, usize)>> {
        let what = self.what;
        let answered = self.read_results();
        if answered.is_err() {
            self.kill()?;
        }
        let mut results = answered?;
        if !self
            .handle
            .ended_within(OVERTIME)
            .map_err(|error| anyhow::anyhow!("{error}"))?
        {
            let seen = process::describe(self.handle.pid);
            self.kill()?;
            anyhow::bail!("the {what}'s supervisor closed its output and did not end: {seen}");
        }
        let status = self.child.wait()?;
        let Some(result) = results.pop() else {
            if self.lines.foreign() > 0 {
                anyhow::bail!(
                    "the {what}'s supervisor gave no result ({status}), but something else wrote into its pipe"
                );
            }
            return if status.success() {
                Ok(None)
            } else {
                Err(anyhow::anyhow!(
                    "the {what}'s supervisor ended without a result: {status}"
                ))
            };
        };
        anyhow::ensure!(results.is_empty(), "the {what} has more than one result");
        anyhow::ensure!(
            status.success(),
            "the {what}'s supervisor gave a result and then ended with {status}"
        );
        Ok(Some((result, self.lines.foreign())))
    }

    fn read_results<T: DeserializeOwned>(&mut self) -> anyhow::Result<Vec<T>> {
        let what = self.what;
        let mut results = Vec::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            let readable = readable_until(&self.output, self.deadline);
            if !readable.map_err(|error| anyhow::anyhow!("{error}"))? {
                anyhow::bail!(
                    "the {what}'s supervisor gave no result although the deadline is over: {}",
                    process::describe(self.handle.pid)
                );
            }
            let length = self.output.read(&mut bytes)?;
            if length == 0 {
                return Ok(results);
            }
            results.extend(self.lines.take::<T>(&bytes[..length]));
            anyhow::ensure!(results.len() < 2, "the {what} has more than one result");
        }
    }

    /// Kills the supervisor and everything that it watched over. It may be stopped, and can't do that itself.
    fn kill(&mut self) -> anyhow::Result<()> {
        census::kill_tree(&self.handle).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.child.wait()?;
        Ok(())
    }
}

const OWN_PIPES: &str = "nothing but the suite writes into the suite's own pipes";

fn not_written_by_the_suite(bytes: usize) -> String {
    format!("{bytes} bytes that the suite has not written, as a forged result would be")
}

/// A trial beside which foreign bytes came has found nothing: something tried to write its result.
pub fn foreign_bytes(bytes: usize) -> CaseError {
    violation(OWN_PIPES, not_written_by_the_suite(bytes))
}

/// A result that came beside foreign bytes is no pass: something tried to write one.
pub fn tampered(result: &mut CaseResult, bytes: usize) {
    result.outcome = Outcome::Fail;
    result.expected = Some(OWN_PIPES.to_owned());
    let earlier = result
        .observed
        .take()
        .map_or(String::new(), |observed| format!("; and: {observed}"));
    result.observed = Some(format!("{}{earlier}", not_written_by_the_suite(bytes)));
}
