//! Time that processes had for themselves. On a machine that does other work they wait for a processor, which says nothing
//! about them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, getpid};

use crate::system::stat::state;

/// What a thread has had of the processors, and for how long it was ready to run without one (/proc/PID/task/TID/schedstat). The
/// kernel adds what it waited only when it runs again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    used: Duration,
    queued: Duration,
}

/// The shares of all threads of a process; none where it is gone or the kernel doesn't say.
fn shares(pid: Pid) -> Vec<Share> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let of_task = |task: fs::DirEntry| -> Option<Share> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut nanoseconds = text.split_whitespace().map(|field| field.parse().ok());
        Some(Share {
            used: Duration::from_nanos(nanoseconds.next()??),
            queued: Duration::from_nanos(nanoseconds.next()??),
        })
    };
    tasks.filter_map(Result::ok).filter_map(of_task).collect()
}

/// How long a process has been in the queue for a processor.
#[derive(Clone, Copy, Debug)]
struct Queue {
    looked: Instant,
    /// Of the thread that waited most, and of all threads: those that waited beside it have not made it later.
    share: Share,
    /// Since when it has been seen ready to run and has had nothing.
    waits_since: Option<Instant>,
}

impl Queue {
    fn of(pid: Pid) -> Queue {
        let shares = shares(pid);
        Queue {
            looked: Instant::now(),
            share: Share {
                used: shares.iter().map(|share| share.used).sum(),
                queued: shares.iter().map(|share| share.queued).max().unwrap_or_default(),
            },
            waits_since: None,
        }
    }

    /// The same process now.
    fn now(&self, pid: Pid) -> Queue {
        let is_ready = state(pid.as_raw()).is_some_and(|state| state.state == 'R');
        let now = Queue::of(pid);
        let waits_since =
            (is_ready && now.share == self.share).then_some(self.waits_since.unwrap_or(self.looked));
        Queue { waits_since, ..now }
    }

    fn waited(&self) -> Duration {
        let unfinished = self.waits_since.map(|since| self.looked.duration_since(since));
        self.share.queued + unfinished.unwrap_or_default()
    }
}

/// What a process does with the time that it has for itself, from the moment at which this was made.
#[derive(Debug)]
pub struct OwnTime {
    pid: Pid,
    began: Queue,
    now: Queue,
}

impl OwnTime {
    /// Of this process, from now on.
    pub fn of(pid: Pid) -> OwnTime {
        let began = Queue::of(pid);
        OwnTime {
            pid,
            began,
            now: began,
        }
    }

    /// How long it ran or slept. To be asked often: that it waits is seen between two looks.
    pub fn so_far(&mut self) -> Duration {
        self.now = self.now.now(self.pid);
        let waited = self.now.waited().saturating_sub(self.began.waited());
        self.now
            .looked
            .duration_since(self.began.looked)
            .saturating_sub(waited)
    }

    /// How long it ran, when it was last asked for the time.
    pub fn used(&self) -> Duration {
        self.now.share.used.saturating_sub(self.began.share.used)
    }
}

/// How much later a process is because others had the processors: while it was ready to run itself, or one of its descendants,
/// for which it may wait, or this process, for which both may.
#[derive(Debug)]
pub struct Delay {
    root: Pid,
    looked: Instant,
    queues: BTreeMap<i32, Queue>,
    so_far: Duration,
}

impl Delay {
    /// Of this process, from now on.
    pub fn of(root: Pid) -> Delay {
        let mut delay = Delay {
            root,
            looked: Instant::now(),
            queues: BTreeMap::new(),
            so_far: Duration::ZERO,
        };
        delay.growth();
        delay
    }

    /// The whole delay. What has ended since the last look isn't seen any more, so it is to be asked often.
    pub fn so_far(&mut self) -> Duration {
        let since = self.looked.elapsed();
        self.looked = Instant::now();
        let grown = self.growth();
        self.so_far += grown.min(since);
        self.so_far
    }

    /// The most that any of the processes has waited since the last look.
    fn growth(&mut self) -> Duration {
        let mut processes = vec![getpid()];
        with_descendants(self.root, &mut processes);
        let now: BTreeMap<i32, Queue> = processes
            .into_iter()
            .map(|pid| {
                let before = self.queues.get(&pid.as_raw());
                (
                    pid.as_raw(),
                    before.map_or_else(|| Queue::of(pid), |queue| queue.now(pid)),
                )
            })
            .collect();
        let waited_before = |pid| self.queues.get(pid).map(Queue::waited).unwrap_or_default();
        let grown = now
            .iter()
            .map(|(pid, queue)| queue.waited().saturating_sub(waited_before(pid)));
        let most = grown.max().unwrap_or_default();
        self.queues = now;
        most
    }
}

/// Adds `root` and what descends from it, as far as the kernel lists children.
fn with_descendants(root: Pid, found: &mut Vec<Pid>) {
    found.push(root);
    let Ok(tasks) = fs::read_dir(format!("/proc/{root}/task")) else {
        return;
    };
    for task in tasks.filter_map(Result::ok) {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
        {
            with_descendants(Pid::from_raw(child), found);
        }
    }
}
