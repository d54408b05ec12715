//! What this process and its descendants hold, as /proc shows it.

use std::fmt;
use std::fs;

/// Processes, descriptors and memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    processes: usize,
    zombies: usize,
    descriptors: usize,
    /// Anonymous memory in KiB (RssAnon).
    memory: u64,
}

impl Held {
    /// What is held now.
    pub(super) fn now() -> Self {
        let mut family = vec![std::process::id()];
        let mut next = 0;
        while let Some(&pid) = family.get(next) {
            family.extend(children(pid));
            next += 1;
        }
        let mut held = Self {
            processes: family.len(),
            zombies: 0,
            descriptors: 0,
            memory: 0,
        };
        for pid in family {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let value = |name| status.lines().find_map(|line| line.strip_prefix(name));
            held.zombies += usize::from(value("State:").is_some_and(|state| state.contains('Z')));
            held.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            let memory = value("RssAnon:").and_then(|text| text.trim().strip_suffix("kB"));
            held.memory += memory
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(0);
        }
        held
    }
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            zombies,
            descriptors,
            memory,
        } = self;
        write!(
            formatter,
            "{processes} processes, {zombies} zombies, {descriptors} descriptors, {memory} KiB"
        )
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}
