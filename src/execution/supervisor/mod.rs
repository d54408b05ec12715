//! The supervisor: one small process between the host and each process tree, which exits soon after either does.
//!
//! It makes itself the reaper of all its descendants (PR_SET_CHILD_SUBREAPER, process-wide, but for this process alone), starts
//! the child, and holds one end of a socket whose other end only the host has. When that socket or the host itself comes to
//! its end, even by SIGKILL, the supervisor kills its children, becomes the parent of theirs, kills those, until nothing is left.
//! Processes with a group or session of their own don't escape that, and since only own unreaped children are ever
//! signalled, no recycled pid is hit.
//!
//! The tree may stop or kill its supervisor, so that has a parent between it and the host, the [`keeper`], whose child
//! everything becomes then.
//!
//! **This code runs in the memory of the host** (CLONE_VM), so that starting it costs the same in a host of any size. It has its
//! own stack and descriptor table. It must not allocate, lock, panic, or call into libc: only [`raw`].

mod complaint;
mod descendants;
mod keeper;
mod outbox;

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

use self::complaint::complain;
use self::descendants::Descendants;
use self::keeper::keep;
use super::channel::{Order, Report, SupervisorEnd};
use super::child::{self, ChildSetup};
use super::failure::{Stage, StartFailure};
use super::raw;
use super::stacks::StackTop;
use super::words::describe;

/// What the supervisor needs, made by the host; it lives until the supervisor has said `Started` or has ended.
#[derive(Debug)]
pub(crate) struct Job {
    /// The supervisor's end of the channel to the host.
    pub(crate) channel: SupervisorEnd,
    /// A pidfd of the host.
    pub(crate) host: RawFd,
    /// Every descriptor that the supervisor starts with, sorted: all others are closed at once.
    pub(crate) keep: Vec<RawFd>,
    pub(crate) placement: Placement,
    /// A pidfd of the keeper, once it is there.
    pub(crate) keeper: AtomicI32,
    /// The supervisor's stack; the keeper has another one.
    pub(crate) stack: StackTop,
    pub(crate) child: ChildSetup,
    /// Where a line about a failed start goes.
    pub(crate) error_output: Option<RawFd>,
    /// Start of that line: the speaker, and what the line is about.
    pub(crate) error_prefix: Vec<u8>,
}

/// The process group and session of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// A group of its own, in a session without a terminal: signals to its group reach only its own descendants.
    OwnGroup,
    /// The host's group and session: for a shell that stands in for the host on its terminal.
    HostGroup,
}

/// Entry of the keeper's process, whose child the supervisor is; `job` is a [`Job`].
pub(crate) extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: the host passes a Job that lives until the supervisor has reported its start.
    let job = unsafe { &*job.cast::<Job>() };
    let (channel, host) = (job.channel, job.host);
    match start_supervisor(job) {
        Ok((supervisor, child_changes)) => {
            // From here on `job` may be gone.
            close_others(&sorted([channel.descriptor(), host, child_changes]));
            keep(supervisor, channel, host, child_changes);
            0
        }
        Err(errno) => {
            let stage = Stage::Supervisor;
            channel.report(Report::Failed(StartFailure { stage, errno }));
            1
        }
    }
}

/// Detaches the keeper from the host and starts the supervisor; its pid, and a descriptor that is readable when a child of the
/// keeper has ended.
fn start_supervisor(job: &Job) -> raw::Result<(i32, RawFd)> {
    let child_changes = detach(job)?;
    job.keeper
        .store(raw::pidfd_open(raw::getpid())?, Ordering::Release);
    let flags = raw::SUPERVISOR_MEMORY | libc::SIGCHLD;
    let argument = std::ptr::from_ref(job).cast_mut().cast();
    // SAFETY: nothing else runs on that stack. The host frees it only when no process of the tree holds the channel, whichever
    // was killed meanwhile, and the job as `run` says.
    let supervisor = unsafe { raw::clone_process(flags, job.stack.as_ptr(), supervise, argument) }?;
    Ok((supervisor, child_changes))
}

/// Entry of the supervisor's process; `job` is a [`Job`].
extern "C" fn supervise(job: *mut c_void) -> c_int {
    // SAFETY: see `start_supervisor`.
    let job = unsafe { &*job.cast::<Job>() };
    let keeper = job.keeper.load(Ordering::Acquire);
    let (channel, host) = (job.channel, job.host);
    let child_changes = match raw::become_subreaper().and_then(|()| raw::signalfd(libc::SIGCHLD)) {
        Ok(child_changes) => child_changes,
        Err(errno) => {
            let stage = Stage::Supervisor;
            channel.report(Report::Failed(StartFailure { stage, errno }));
            return 1;
        }
    };
    let child = match child::start(&job.child) {
        Ok(child) => child,
        Err(failure) => {
            if let Some(output) = job.error_output {
                let line = [&job.error_prefix, describe(failure).as_bytes()];
                let owners = [channel.descriptor(), host];
                complain(output, line, job.child.stack, owners, child_changes);
            }
            channel.report(Report::Failed(failure));
            return 1;
        }
    };
    // The child has its descriptors; a copy here would keep pipes open.
    close_others(&sorted([channel.descriptor(), host, child_changes, keeper]));
    let own_group = job.placement == Placement::OwnGroup;
    // Once the host has read this, `job` may be gone.
    channel.report(Report::Started(Pid::from_raw(child)));
    let descendants = Descendants::new(child, own_group, channel);
    watch(descendants, [host, keeper], child_changes);
    0
}

/// Detaches this process from the host's; all signals are blocked already. Returns a descriptor that is readable when a
/// child has ended or stopped.
fn detach(job: &Job) -> raw::Result<RawFd> {
    close_others(&job.keep);
    // A signal to the host's group or terminal must not end the supervisor before the host.
    match job.placement {
        Placement::OwnGroup => raw::setsid()?,
        Placement::HostGroup => raw::setpgid(0)?,
    }
    raw::become_subreaper()?;
    // The end of the host continues a keeper that was stopped.
    raw::be_continued_after_parent()?;
    raw::set_name(c"escalated-tree")?;
    // Handlers of the host must not run here, and ignored signals would stay ignored in the child.
    raw::reset_all_dispositions()?;
    raw::signalfd(libc::SIGCHLD)
}

/// Watches host, keeper and descendants until no descendant is left.
fn watch(mut descendants: Descendants, [host, keeper]: [RawFd; 2], child_changes: RawFd) {
    let channel = descendants.outbox.channel();
    loop {
        let room = if descendants.outbox.is_empty() {
            0
        } else {
            libc::POLLOUT
        };
        let mut watched = [
            raw::pollfd(channel.descriptor(), libc::POLLIN | room),
            raw::pollfd(host, libc::POLLIN),
            raw::pollfd(keeper, libc::POLLIN),
            raw::pollfd(child_changes, libc::POLLIN),
        ];
        if raw::ppoll(&mut watched).is_err_and(|errno| errno != Errno::EINTR) {
            descendants.kill_all();
            return;
        }
        let [from_host, host_end, keeper_end, changed] = watched.map(|entry| entry.revents != 0);
        if changed {
            let mut information = [0_u8; 512];
            let _ = raw::read(child_changes, &mut information);
            if !descendants.reap() {
                descendants.outbox.flush_blocking();
                return;
            }
        }
        if host_end || keeper_end || (from_host && !obey(channel, &descendants)) {
            descendants.kill_all();
            return;
        }
        descendants.outbox.flush();
    }
}

/// Carries out the host's orders; false if one is to end.
fn obey(channel: SupervisorEnd, descendants: &Descendants) -> bool {
    loop {
        match channel.order() {
            Some(Order::Signal(signal)) => descendants.signal_child(signal),
            Some(Order::End) => return false,
            None => return true,
        }
    }
}

/// Closes everything that is not in `kept` (sorted).
fn close_others(kept: &[RawFd]) {
    let mut first = 0_u32;
    for number in kept.iter().map(|number| number.cast_unsigned()) {
        if number > first {
            let _ = raw::close_range(first, number.wrapping_sub(1));
        }
        first = number.wrapping_add(1);
    }
    let _ = raw::close_range(first, u32::MAX);
}

/// The numbers in ascending order; `slice::sort` may allocate.
fn sorted<const N: usize>(mut numbers: [RawFd; N]) -> [RawFd; N] {
    for end in (1..N).rev() {
        for index in 0..end {
            if numbers[index] > numbers[index + 1] {
                numbers.swap(index, index + 1);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_sorted(numbers: [RawFd; 4]) {
            let mut expected = numbers;
            expected.sort_unstable();
            prop_assert_eq!(sorted(numbers), expected);
        }
    }
}
