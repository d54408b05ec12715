//! What a tree could change of its supervisor from outside, and the next tree would inherit: by prlimit(1), renice(1), ionice(1),
//! taskset(1) or chrt(1) of its parent, or a write to its files in /proc and its cgroup.

use std::ffi::CStr;

use crate::execution::raw;

const LIMITS: usize = 16;
/// Bytes of the longest list of processors and the longest file that are compared as a whole.
const PROCESSORS: usize = 1024;
const TEXT: usize = 1024;
const NUMBER: usize = 32;

/// What children of this process inherit now.
#[derive(PartialEq, Eq)]
pub(super) struct Circumstances {
    limits: [Option<(u64, u64)>; LIMITS],
    priorities: raw::Priorities,
    processors: [u8; PROCESSORS],
    numbers: [[u8; NUMBER]; NUMBERS.len()],
    cgroup: [u8; TEXT],
}

/// Files with one number each.
const NUMBERS: [&CStr; 3] = [
    c"/proc/self/oom_score_adj",
    c"/proc/self/coredump_filter",
    c"/proc/self/timerslack_ns",
];

impl Circumstances {
    pub(super) fn now() -> Self {
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
            numbers: NUMBERS.map(text),
            cgroup: text(c"/proc/self/cgroup"),
        }
    }
}

/// How a file of /proc begins; nothing of one that can't be read.
fn text<const SIZE: usize>(path: &CStr) -> [u8; SIZE] {
    let mut text = [0; SIZE];
    if let Ok(file) = raw::open(path, libc::O_RDONLY | libc::O_CLOEXEC) {
        let _ = raw::read(file, &mut text);
        let _ = raw::close(file);
    }
    text
}
