//! Whether all that a case has started is at rest: then it has done with what it was told, and what it has not done by then it
//! won't do.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::{Pid, gettid};

use crate::system::process;

/// How long to wait for something that is always busy.
const LONGEST: Duration = Duration::from_secs(3);

/// Whether something of this case was busy for so long. It is not waited for again.
static RESTLESS: AtomicBool = AtomicBool::new(false);

/// What a thread has run so far, in nanoseconds, and how often (/proc/PID/task/TID/schedstat).
type Ran = (u64, u64);

/// Waits until every other thread of this process, and of those that this case has started, sleeps or has ended.
///
/// What one of them does to another (a signal, bytes, a new process) makes that one ready to run at once, so two equal looks in
/// which all threads sleep show that there was a moment at which nothing was on its way. What is always busy can't be
/// waited for, and what a timer or another process will bring isn't seen.
pub fn wait_for_rest() {
    if RESTLESS.load(Ordering::Relaxed) {
        return;
    }
    // The supervisor is a subreaper, so what has lost its parents is below it.
    let supervisor = Pid::parent().as_raw();
    let mut last = None;
    let rested = process::eventually(LONGEST, || {
        let now = sleepers(supervisor);
        let same = now.is_some() && now == last;
        last = now;
        same
    });
    if !rested {
        RESTLESS.store(true, Ordering::Relaxed);
    }
}

/// The threads of the processes below `root`, without this one, and what they have run; none if one is running or about to.
fn sleepers(root: i32) -> Option<BTreeMap<i32, Ran>> {
    let own = gettid().as_raw();
    let mut found = BTreeMap::new();
    for process in process::descendants(root) {
        if process.state == 'Z' {
            continue;
        }
        // A process that ends meanwhile is not at rest: its parent hears of it.
        for task in fs::read_dir(format!("/proc/{}/task", process.pid)).ok()? {
            let task = task.ok()?;
            let tid: i32 = task.file_name().to_str()?.parse().ok()?;
            if tid == own {
                continue;
            }
            if !matches!(process::state(tid)?.state, 'S' | 'T' | 't' | 'Z' | 'X') {
                return None;
            }
            found.insert(tid, ran(&task.path()).unwrap_or_default());
        }
    }
    Some(found)
}

/// None where the kernel doesn't count (it was built without scheduler statistics).
fn ran(task: &std::path::Path) -> Option<Ran> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    let mut fields = text.split_whitespace();
    let used = fields.next()?.parse().ok()?;
    Some((used, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_sleeps_is_at_rest_and_what_runs_is_not() {
        let start = |script: &str| {
            Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut sleeper = start("read line");
        let own = std::process::id().cast_signed();
        let patience = Duration::from_secs(5);
        let asleep = || sleepers(own).is_some();
        assert!(process::eventually(patience, asleep), "it waits for a line");
        let mut spinner = start("echo; while :; do :; done");
        let began = Instant::now();
        let mut looks = 0;
        while looks < 20 {
            assert!(began.elapsed() < patience, "it spins");
            looks += u32::from(sleepers(own).is_none());
        }
        spinner.kill().unwrap();
        spinner.wait().unwrap();
        assert!(process::eventually(patience, asleep), "the zombie is gone");
        drop(sleeper.stdin.take());
        sleeper.wait().unwrap();
    }
}
