//! Looks at processes and descriptors in /proc, and waits for them to end.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// Waits until a process is gone; false if it is still alive after `time`.
pub fn gone_within(pid: i32, time: Duration) -> bool {
    // SAFETY: two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return true;
    }
    // SAFETY: just made.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor).unwrap()) };
    let timeout = PollTimeout::try_from(time).unwrap();
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

/// Pids of every process whose command line contains `marker`.
pub fn with_marker(marker: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).replace('\0', " ").contains(marker) {
            found.push(pid);
        }
    }
    found
}

/// Children of a process, zombies included.
pub fn children(pid: u32) -> Vec<i32> {
    let mut found = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for task in tasks.flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    found
}

/// What the descriptors of a process lead to.
pub fn descriptors(pid: u32) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return found;
    };
    for entry in entries.flatten() {
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        if let Ok(target) = fs::read_link(entry.path()) {
            found.push((number, target.to_string_lossy().into_owned()));
        }
    }
    found
}

/// Waits for a condition that no event announces; panics if it is not met in time.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < super::wrapper::DEADLINE,
            "never happened: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
