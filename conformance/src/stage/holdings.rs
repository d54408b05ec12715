//! What a server holds, seen in /proc: descriptors, processes, memory; and whether it grows with the requests.

use std::time::Duration;

use crate::case::context::Context;
use crate::peer::harness::Shim;
use crate::stage::server::Stage;
use crate::system::process;
use crate::system::quiescence::wait_for_rest;
use crate::verdict::{CaseError, Verdict, violation};

/// What a server and its helper processes hold, without the processes that the case itself had started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Processes, the server's own included.
    pub processes: usize,
    /// Children that have ended and have not been waited for.
    pub zombies: usize,
    /// Anonymous memory in bytes (RssAnon).
    pub memory: u64,
}

impl Holdings {
    /// Counts what the shim and its descendants hold, without `others` and their descendants.
    pub fn of(shim: &Shim, others: &[i32]) -> Holdings {
        let server = shim.process.pid.as_raw();
        let mut excluded = others.to_vec();
        for other in others {
            excluded.extend(process::descendants(*other).iter().map(|process| process.pid));
        }
        let mut descendants = process::descendants(server);
        descendants.retain(|process| !excluded.contains(&process.pid));
        let zombies = descendants.iter().filter(|process| process.state == 'Z').count();
        let living: Vec<i32> = descendants
            .into_iter()
            .filter(|process| process.state != 'Z')
            .map(|process| process.pid)
            .chain([server])
            .collect();
        Holdings {
            descriptors: living.iter().map(|pid| process::descriptors(*pid).len()).sum(),
            processes: living.len(),
            zombies,
            memory: living.iter().map(|pid| anonymous_memory(*pid)).sum(),
        }
    }

    /// Waits until all that the case has started is at rest, and descriptors and processes have been unchanged for a while, and
    /// counts them.
    pub fn at_rest(shim: &Shim, others: &[i32], patience: Duration) -> Holdings {
        const UNCHANGED_LOOKS: u32 = 15;
        wait_for_rest();
        let mut last = Holdings::of(shim, others);
        let mut unchanged = 0;
        process::eventually(patience, || {
            let now = Holdings::of(shim, others);
            let same = now.descriptors == last.descriptors
                && now.processes == last.processes
                && now.zombies == last.zombies;
            unchanged = if same { unchanged + 1 } else { 0 };
            last = now;
            unchanged >= UNCHANGED_LOOKS
        });
        last
    }

    /// Demands that descriptors and processes come down to what they were `before`, and that no zombie stays, once all that the
    /// case has started is at rest.
    pub fn expect_returned(
        shim: &Shim,
        others: &[i32],
        before: &Holdings,
        after_what: &str,
        patience: Duration,
    ) -> Result<Holdings, CaseError> {
        wait_for_rest();
        let mut now = Holdings::of(shim, others);
        let returned = process::eventually(patience, || {
            now = Holdings::of(shim, others);
            now.zombies == 0 && now.descriptors <= before.descriptors && now.processes <= before.processes
        });
        if returned {
            return Ok(now);
        }
        Err(violation(
            format_args!(
                "after {after_what} the server has {} descriptors and {} processes as before, and no zombie",
                before.descriptors, before.processes
            ),
            format_args!(
                "{} descriptors, {} processes, {} zombies after {patience:?}; its descriptors: {}",
                now.descriptors,
                now.processes,
                now.zombies,
                in_words(shim)
            ),
        ))
    }
}

/// The kinds of descriptors that the shim itself holds, with their numbers.
fn in_words(shim: &Shim) -> String {
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for (_, target) in process::descriptors(shim.process.pid.as_raw()) {
        let target = target.to_string_lossy().into_owned();
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
        .iter()
        .map(|(kind, count)| format!("{count} × {kind}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn anonymous_memory(pid: i32) -> u64 {
    kibibytes(pid, "RssAnon:") * 1024
}

/// A line of /proc/PID/status; 0 if the process is gone.
fn kibibytes(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
        .and_then(|kibibytes| kibibytes.trim().parse::<u64>().ok())
        .unwrap_or(0)
}

/// The largest address space, in bytes, that one of the server's processes has ever had (VmPeak).
pub fn largest_address_space(shim: &Shim, others: &[i32]) -> u64 {
    let server = shim.process.pid.as_raw();
    process::descendants(server)
        .iter()
        .map(|process| process.pid)
        .filter(|pid| !others.contains(pid))
        .chain([server])
        .map(|pid| kibibytes(pid, "VmPeak:") * 1024)
        .max()
        .unwrap_or(0)
}

/// The most memory, in bytes, that the server itself has ever had (VmHWM): files that are mapped count as well.
pub fn peak_memory(shim: &Shim) -> u64 {
    kibibytes(shim.process.pid.as_raw(), "VmHWM:") * 1024
}

/// The threads of the server itself.
pub fn threads(shim: &Shim) -> usize {
    let folder = format!("/proc/{}/task", shim.process.pid);
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// The same round of requests, repeated: what the server holds must not grow.
pub struct Rounds<'a> {
    /// What a round consists of, for the report.
    pub what: &'a str,
    /// How many requests (or sessions, or one-shots) a round has.
    pub requests: u64,
    /// How many bytes of memory may remain of each.
    pub bytes_of_each: u64,
}

impl Rounds<'_> {
    /// Runs rounds: one to warm up, then until two in a row have not grown; at most six.
    ///
    /// Allocators and garbage collectors take and return memory in steps; a leak per request grows with every round.
    ///
    /// # Errors
    /// What the rounds say, and violations of `server.leak`.
    pub fn run(
        &self,
        context: &Context,
        stage: &mut Stage,
        mut round: impl FnMut(&mut Stage) -> Verdict,
    ) -> Verdict {
        const AT_MOST: usize = 6;
        const WINDOW: usize = 2;
        let patience = context.patience();
        let shell = [stage.session.probe.report.pid];
        round(stage)?;
        let before = Holdings::at_rest(&stage.shim, &shell, patience);
        let mut memory = vec![before.memory];
        let allowed = self.bytes_of_each * self.requests * WINDOW as u64;
        for number in 1..=AT_MOST {
            round(stage)?;
            let what = format!("round {number} of {} × {}", self.requests, self.what);
            let now = Holdings::expect_returned(&stage.shim, &shell, &before, &what, patience)?;
            memory.push(now.memory);
            if let Some(earlier) = memory.len().checked_sub(WINDOW + 1)
                && now.memory.saturating_sub(memory[earlier]) <= allowed
            {
                context.transcript.note(format_args!(
                    "{}: anonymous memory in KiB after each round: {:?}",
                    self.what,
                    in_kibibytes(&memory)
                ));
                return Ok(());
            }
        }
        Err(violation(
            format_args!(
                "memory that does not grow with the number of {}: at most {} bytes of each remain",
                self.what, self.bytes_of_each
            ),
            format_args!(
                "anonymous memory in KiB after each round of {}: {:?}",
                self.requests,
                in_kibibytes(&memory)
            ),
        ))
    }
}

fn in_kibibytes(memory: &[u64]) -> Vec<u64> {
    memory.iter().map(|bytes| bytes / 1024).collect()
}
