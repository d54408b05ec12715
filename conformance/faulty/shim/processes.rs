//! What /proc tells of processes.

use std::time::{Duration, Instant};

/// Whether a process is stopped.
pub fn is_stopped(pid: i32) -> bool {
    // A process that is gone has no state.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// Whether a process exits, or is gone: it exits before its descriptors are closed.
pub fn is_exiting(pid: i32) -> bool {
    const EXITING: u32 = 4; // PF_EXITING of the kernel
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace();
    // State, parent, group, session, terminal, its foreground group, flags.
    let flags = fields.nth(6).and_then(|flags| flags.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}

/// Whether /proc is that of this process's pid namespace, so that keepers find their descendants there.
pub fn finds_its_tree() -> bool {
    let own = std::process::id().to_string();
    std::fs::read_link("/proc/self").is_ok_and(|shown| shown.as_os_str() == own.as_str())
}

/// All processes that descend from this one. Each keeper has one thread, but what it keeps may have several.
pub fn descendants() -> Vec<i32> {
    descendants_of(std::process::id() as i32)
}

/// Waits until there is a descendant that is not on `list`, as a fault needs that is none while the list is current; for at
/// most a fifth of a second, because most trees don't change.
pub fn wait_until_outdated(list: &[i32]) {
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end && descendants().iter().all(|pid| list.contains(pid)) {}
}

/// All processes that descend from that one.
pub fn descendants_of(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// The children that the threads of a process have forked.
pub fn children(pid: i32) -> Vec<i32> {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}
