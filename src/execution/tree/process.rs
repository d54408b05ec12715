//! The supervisor's keeper as the host sees it: a process that is started, and reaped.

use std::mem::ManuallyDrop;
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::execution::raw::{SUPERVISOR_MEMORY, clone_process};
use crate::execution::stacks::Stacks;
use crate::execution::supervisor::{Job, run};

/// The keeper's process. Dropping it reaps the process, on a thread of its own if that has to wait.
#[derive(Debug)]
pub(super) struct SupervisorProcess {
    pub(super) pid: Pid,
    /// What the process and its supervisor use while they live; `None` when they have ended.
    memory: Option<Memory>,
}

#[derive(Debug)]
struct Memory {
    _stacks: Stacks,
    /// Freed when the child has started.
    job: Option<Box<Job>>,
}

impl SupervisorProcess {
    /// Starts a supervisor with that job; the job's stacks must be among `stacks`.
    pub(super) fn start(job: Box<Job>, stacks: Stacks) -> Result<Self, Errno> {
        let argument = ptr::from_ref(&*job).cast_mut().cast();
        // No handler of the host may run in the supervisor, and no signal may end it early: it starts with all blocked.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        // Without an exit signal the host gets no SIGCHLD, and its own waitpid(-1) doesn't find the supervisor.
        // SAFETY: job and stacks live until the supervisor is reaped, or until it has said that it needs the job no more;
        // `run` keeps to what its module says.
        let pid = unsafe { clone_process(SUPERVISOR_MEMORY, stacks.keeper_top().as_ptr(), run, argument) };
        let started = pid.map(|pid| Self {
            pid: Pid::from_raw(pid),
            memory: Some(Memory {
                _stacks: stacks,
                job: Some(job),
            }),
        });
        mask.thread_set_mask()?;
        started
    }

    /// Only for a supervisor that has said that its child runs.
    pub(super) fn free_job(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.job = None;
        }
    }

    /// Continues the process if it was stopped.
    pub(super) fn wake(&self) {
        if self.memory.is_some() {
            // It isn't reaped, so the number is its own; and nothing is lost if the host reaps every child by itself.
            let _ = kill(self.pid, Signal::SIGCONT);
        }
    }

    /// Reaps a process that is ending. No process of the tree holds the channel any more, so none uses the memory.
    pub(super) async fn reap(mut self) {
        // It has closed its descriptors; but its end may take a moment.
        if self.try_reap().is_some() {
            self.memory = None;
            return;
        }
        // A runtime that ends drops the closure instead of calling it.
        let _ = tokio::task::spawn_blocking(move || {
            self.reap_blocking();
            drop(self.memory.take());
        })
        .await;
    }

    /// How it ended, if it has; `StillAlive` stands for an end that is not known.
    fn try_reap(&self) -> Option<WaitStatus> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        match waitpid(self.pid, Some(flags)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
            Ok(status) => Some(status),
            // ECHILD: the host reaps every child of any kind by itself.
            Err(_) => Some(WaitStatus::StillAlive),
        }
    }

    fn reap_blocking(&self) -> WaitStatus {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => {}
                Ok(status) => return status,
                Err(_) => return WaitStatus::StillAlive,
            }
        }
    }

    /// Frees the memory after an orderly end. A keeper that was killed may have left a supervisor that still uses it.
    fn free(&mut self, end: WaitStatus) {
        if matches!(end, WaitStatus::Exited(..)) {
            self.memory = None;
        } else {
            std::mem::forget(self.memory.take());
        }
    }
}

impl Drop for SupervisorProcess {
    fn drop(&mut self) {
        if self.memory.is_none() {
            return;
        }
        if let Some(end) = self.try_reap() {
            self.free(end);
            return;
        }
        // Without a thread the memory must be left to the supervisor, which still uses it.
        let process = ManuallyDrop::new(Self {
            pid: self.pid,
            memory: self.memory.take(),
        });
        let _ = std::thread::Builder::new()
            .name("reap-supervisor".into())
            .spawn(move || {
                let mut process = ManuallyDrop::into_inner(process);
                let end = process.reap_blocking();
                process.free(end);
            });
    }
}
