//! What a tree could change of its supervisor or its guardian from outside, and the next tree would inherit: by prlimit(1), renice(1), ionice(1),
//! taskset(1), chrt(1) or keyctl(1) of its parent, or a write to its files in /proc and its cgroup. What another tree changes of a
//! supervisor that waits is noticed after the next tree only.

use std::ffi::CStr;
use std::hash::{DefaultHasher, Hasher};

use crate::execution::raw;

const LIMITS: usize = 16;
/// Bytes of the longest list of processors that is compared as a whole.
const PROCESSORS: usize = 1024;

/// What children of this process inherit now.
#[derive(PartialEq, Eq)]
pub(in crate::execution) struct Circumstances {
    limits: [Option<(u64, u64)>; LIMITS],
    priorities: raw::Priorities,
    processors: [u8; PROCESSORS],
    files: [u64; FILES.len()],
    autogroup: u64,
    keyring: Option<usize>,
}

const FILES: [&CStr; 4] = [
    c"/proc/self/oom_score_adj",
    c"/proc/self/coredump_filter",
    c"/proc/self/timerslack_ns",
    c"/proc/self/cgroup",
];

impl Circumstances {
    pub(in crate::execution) fn now() -> Self {
        let mut limits = [None; LIMITS];
        for (resource, limit) in (0..).zip(&mut limits) {
            *limit = raw::limit(resource).ok();
        }
        let mut processors = [0; PROCESSORS];
        raw::processors(&mut processors);
        Self {
            limits,
            priorities: raw::priorities(),
            processors,
            files: FILES.map(digest),
            autogroup: autogroup(),
            keyring: raw::session_keyring().ok(),
        }
    }

    /// Notes that this process has left its session.
    pub(super) fn change_session(&mut self) {
        self.autogroup = autogroup();
    }
}

/// The session's share of the processors, see sched(7): its number and its niceness.
fn autogroup() -> u64 {
    digest(c"/proc/self/autogroup")
}

/// Stands for the content of a file of /proc; of one that can't be read, for nothing.
fn digest(path: &CStr) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(file) = raw::open(path, libc::O_RDONLY | libc::O_CLOEXEC) {
        let mut part = [0; 256];
        while let Ok(bytes @ 1..) = raw::read(file, &mut part) {
            hasher.write(part.get(..bytes).unwrap_or_default());
        }
        let _ = raw::close(file);
    }
    hasher.finish()
}
