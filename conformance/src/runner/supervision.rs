//! The runner's side of a supervisor: starts it, waits for its result no longer than the case may take, and takes
//! nothing for a result that the supervisor has not written.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::unistd::Pid;

use super::Assignment;
use super::census;
use super::channel::Lines;
use crate::case::result::{CaseResult, Outcome};
use crate::system::poll::readable_until;
use crate::system::process::{self, ProcessHandle};

/// What a supervisor may take beyond the case's deadline, before `--timeout-scale`: the census, and a loaded machine.
const OVERTIME: Duration = Duration::from_secs(30);

/// A running supervisor.
pub struct Supervision {
    child: Child,
    output: ChildStdout,
    handle: ProcessHandle,
    lines: Lines,
    case: String,
    deadline: Instant,
}

impl Supervision {
    /// Starts a supervisor for `assignment`. The leash is its standard input, which ends the case when it is closed.
    ///
    /// # Errors
    /// Where the process cannot be started or told what to do.
    pub fn start(
        mut command: Command,
        assignment: &Assignment,
        case_deadline: Duration,
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
            case: assignment.case.clone(),
            deadline: Instant::now() + case_deadline + overtime,
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

    /// The result of the case; none where the supervisor ended without one.
    ///
    /// # Errors
    /// A supervisor that does not end in time (it and what it has started are killed), that wrote more than one result
    /// or that of another case, or that ended with another status than its result says.
    pub fn result(mut self) -> anyhow::Result<Option<CaseResult>> {
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
            anyhow::bail!("the case's supervisor closed its output and did not end: {seen}");
        }
        let status = self.child.wait()?;
        let Some(mut result) = results.pop() else {
            if self.lines.foreign() > 0 {
                anyhow::bail!(
                    "the case's supervisor gave no result ({status}), but something else wrote into its pipe"
                );
            }
            return if status.success() {
                Ok(None)
            } else {
                Err(anyhow::anyhow!(
                    "the case's supervisor ended without a result: {status}"
                ))
            };
        };
        anyhow::ensure!(results.is_empty(), "the case has more than one result");
        anyhow::ensure!(result.id == self.case, "the result is that of {}", result.id);
        anyhow::ensure!(
            status.success(),
            "the case's supervisor gave a result and then ended with {status}"
        );
        if self.lines.foreign() > 0 {
            tampered(&mut result, self.lines.foreign());
        }
        Ok(Some(result))
    }

    fn read_results(&mut self) -> anyhow::Result<Vec<CaseResult>> {
        let mut results = Vec::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            let readable = readable_until(&self.output, self.deadline);
            if !readable.map_err(|error| anyhow::anyhow!("{error}"))? {
                anyhow::bail!(
                    "the case's supervisor gave no result although the deadline is over: {}",
                    process::describe(self.handle.pid)
                );
            }
            let length = self.output.read(&mut bytes)?;
            if length == 0 {
                return Ok(results);
            }
            results.extend(self.lines.take::<CaseResult>(&bytes[..length]));
            anyhow::ensure!(results.len() < 2, "the case has more than one result");
        }
    }

    /// Kills the supervisor and everything that it watched over. It may be stopped, and can't do that itself.
    fn kill(&mut self) -> anyhow::Result<()> {
        census::kill_tree(&self.handle).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.child.wait()?;
        Ok(())
    }
}

/// A result that came beside foreign bytes is no pass: something tried to write one.
pub fn tampered(result: &mut CaseResult, bytes: usize) {
    result.outcome = Outcome::Fail;
    result.expected = Some("nothing but the suite writes into the suite's own pipes".to_owned());
    let earlier = result
        .observed
        .take()
        .map_or(String::new(), |observed| format!("; and: {observed}"));
    result.observed = Some(format!(
        "{bytes} bytes that the suite has not written, as a forged result would be{earlier}"
    ));
}
