//! The supervisor's process as the host sees it: started, and reaped.

use std::mem::ManuallyDrop;
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::execution::raw::{SUPERVISOR_MEMORY, clone_process};
use crate::execution::stacks::Stacks;
use crate::execution::supervisor::{Job, run};

/// The supervisor's process. Dropping it reaps the process, on a thread of its own if that has to wait.
#[derive(Debug)]
pub(super) struct SupervisorProcess {
    pub(super) pid: Pid,
    /// What the process uses while it lives; `None` when it has been reaped.
    memory: Option<Memory>,
}

#[derive(Debug)]
struct Memory {
    _stacks: Stacks,
    /// Freed when the child has started.
    job: Option<Box<Job>>,
}

impl SupervisorProcess {
    /// Starts a supervisor with that job; the job's stack for the child must be one of `stacks`.
    pub(super) fn start(job: Box<Job>, stacks: Stacks) -> Result<Self, Errno> {
        let argument = ptr::from_ref(&*job).cast_mut().cast();
        // No handler of the host may run in the supervisor, and no signal may end it early: it starts with all blocked.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        // Without an exit signal the host gets no SIGCHLD, and its own waitpid(-1) doesn't find the supervisor.
        // SAFETY: job and stacks live until the supervisor is reaped, or until it has said that it needs the job no more;
        // `run` keeps to what its module says.
        let pid =
            unsafe { clone_process(SUPERVISOR_MEMORY, stacks.supervisor_top().as_ptr(), run, argument) };
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

    /// Reaps a supervisor that is ending.
    pub(super) async fn reap(mut self) {
        // It has closed its descriptors; but its end may take a moment.
        if !self.try_reap() {
            // A runtime that ends drops the closure instead of calling it.
            let _ = tokio::task::spawn_blocking(move || self.reap_blocking()).await;
        }
    }

    fn try_reap(&mut self) -> bool {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        match waitpid(self.pid, Some(flags)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => false,
            // ECHILD: the host reaps every child of any kind by itself.
            Ok(_) | Err(_) => {
                self.memory = None;
                true
            }
        }
    }

    fn reap_blocking(mut self) {
        while waitpid(self.pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
        self.memory = None;
    }
}

impl Drop for SupervisorProcess {
    fn drop(&mut self) {
        if self.memory.is_none() || self.try_reap() {
            return;
        }
        // Without a thread the memory must be left to the supervisor, which still uses it.
        let process = ManuallyDrop::new(Self {
            pid: self.pid,
            memory: self.memory.take(),
        });
        let _ = std::thread::Builder::new()
            .name("reap-supervisor".into())
            .spawn(move || ManuallyDrop::into_inner(process).reap_blocking());
    }
}
