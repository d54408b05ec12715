//! Which trees the guardian takes care of, and who their keepers are.

use std::os::fd::RawFd;
use std::time::Duration;

use nix::errno::Errno;

use crate::execution::raw::{self, Deadline, Mapping};
use crate::execution::supervisor::{NAME, each_child};

const EVERY_CHILD: i32 = -1;

/// At most as many trees at a time as descriptors below this one.
const CAPACITY: usize = 64 * 1024;

/// What stands for a keeper that was killed, until what it left is dead.
const KILLED: i32 = -1;

/// How long a supervisor whose keeper was killed has for the end of its tree, before the guardian takes over. Were it killed at once,
/// nothing would watch over the tree until what it leaves is dead, too.
const PATIENCE: Duration = Duration::from_secs(1);

/// The keeper of each tree, by the number of its channel; 0 where there is none.
pub(super) struct Trees {
    keepers: &'static mut [i32],
    /// One more than the highest number in use.
    end: usize,
    /// There while a keeper was killed whose tree isn't over.
    orphans: Option<Orphans>,
}

/// What keepers that were killed have left.
struct Orphans {
    /// Until when supervisors have time.
    deadline: Deadline,
    /// Whether they had time when orphans were killed last.
    has_spared: bool,
}

impl Trees {
    pub(super) fn new() -> raw::Result<Self> {
        let memory = Mapping::zeros(CAPACITY * size_of::<i32>())?;
        Ok(Self {
            // SAFETY: the mapping is new, stays, and zeros are numbers.
            keepers: unsafe { memory.as_slice() },
            end: 0,
            orphans: None,
        })
    }

    pub(super) fn has_room_for(&self, channel: RawFd) -> bool {
        usize::try_from(channel).is_ok_and(|channel| channel < CAPACITY)
    }

    pub(super) fn add(&mut self, channel: RawFd, keeper: i32) {
        if let Ok(channel) = usize::try_from(channel)
            && let Some(place) = self.keepers.get_mut(channel)
        {
            *place = keeper;
            self.end = self.end.max(channel.wrapping_add(1));
        }
    }

    fn in_use(&mut self) -> impl Iterator<Item = (usize, &mut i32)> {
        self.keepers.iter_mut().enumerate().take(self.end)
    }

    fn is_keeper(&mut self, pid: i32) -> bool {
        self.in_use().any(|(_, keeper)| *keeper == pid)
    }

    /// Collects all children that have ended, and continues keepers that have stopped; false if there are no children.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match raw::wait4(EVERY_CHILD, libc::WNOHANG | libc::WUNTRACED) {
                Ok((0, _)) => return true,
                Ok((pid, status)) if libc::WIFSTOPPED(status) => {
                    let _ = raw::kill(pid, libc::SIGCONT);
                }
                Ok((pid, status)) => self.ended(pid, status),
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn ended(&mut self, pid: i32, status: i32) {
        let Some((channel, keeper)) = self.in_use().find(|(_, keeper)| **keeper == pid) else {
            return;
        };
        // A keeper exits when nothing is left.
        if libc::WIFEXITED(status) {
            *keeper = 0;
            let _ = raw::close(channel as RawFd);
        } else {
            *keeper = KILLED;
            self.orphans.get_or_insert_with(|| Orphans {
                deadline: Deadline::after(PATIENCE),
                has_spared: true,
            });
        }
    }

    /// Waits for one of `watched`; with an orphaned supervisor at most until its time is over.
    pub(super) fn wait(&mut self, watched: &mut [libc::pollfd]) -> raw::Result<()> {
        match self.orphans {
            Some(Orphans {
                deadline,
                has_spared: true,
            }) => raw::ppoll_until(watched, deadline).map(drop),
            _ => raw::ppoll(watched),
        }
    }

    /// Kills what keepers that were killed have left, as far as it is this process's child already, but gives supervisors their
    /// time; closes the channels if there is none. What can't be killed holds up the news of every other such tree's end.
    pub(super) fn kill_orphans(&mut self) {
        let Some(orphans) = &mut self.orphans else { return };
        let is_patient = !orphans.deadline.is_over();
        orphans.has_spared = is_patient;
        let mut any = false;
        let listed = each_child(|pid| {
            if !self.is_keeper(pid) {
                any = true;
                let supervises = is_patient && is_supervisor(pid);
                let _ = raw::kill(pid, if supervises { libc::SIGCONT } else { libc::SIGKILL });
            }
        });
        if any || !listed {
            return;
        }
        self.orphans = None;
        for (channel, keeper) in self.in_use() {
            if *keeper == KILLED {
                *keeper = 0;
                let _ = raw::close(channel as RawFd);
            }
        }
    }
}

/// Whether a process has the name of supervisors. One of a tree that calls itself so has no more time than they have.
fn is_supervisor(process: i32) -> bool {
    let Ok(file) = raw::open_name(process) else {
        return false;
    };
    let mut name = [0; 32];
    let size = raw::read(file, &mut name).unwrap_or(0);
    let _ = raw::close(file);
    name.get(..size).and_then(|line| line.strip_suffix(b"\n")) == Some(NAME.to_bytes())
}
