//! The supervisor: one small process for each process tree, which exits soon after either the tree or the host does.
//!
//! It makes itself the reaper of all its descendants (PR_SET_CHILD_SUBREAPER, process-wide, but for this process alone), starts
//! the child, and holds one end of a socket whose other end only the host has. When that socket or the host itself comes to
//! its end, even by SIGKILL, the supervisor kills its children, becomes the parent of theirs, kills those, until nothing is left.
//! Processes with a group or session of their own don't escape that, and since only own unreaped children are ever
//! signalled, no recycled pid is hit.
//!
//! The tree may stop or kill its supervisor, so that has a parent, the [`keeper`], whose child everything becomes then; and the
//! keeper has one as well, the [guardian](super::guardian).
//!
//! When nothing of the tree is left, the supervisor waits for another job instead of making the guardian, which would have to
//! make another keeper, work for each command. All that a tree can do to its supervisor from outside is noticed, see
//! [`Circumstances`], and ends it. A supervisor that has left the guardian's session for its tree gets only trees that do.
//!
//! Keeper and supervisor share the few pages that the keeper has of the guardian's memory, and nothing with the host. They must
//! not allocate, lock, panic, or call into libc: only [`raw`].

mod circumstances;
mod complaint;
mod descendants;
mod job;
mod keeper;
pub(crate) mod numbers;
mod outbox;
mod pending;

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use self::complaint::complain;
use self::descendants::Descendants;
use self::job::Job;
use self::keeper::keep;
use self::numbers::{CHANNEL, CHILD_CHANGES, GUARDIAN, HOST, JOB, KEEPER};
use super::channel::{Order, Report, SupervisorEnd};
use super::child;
use super::failure::{Stage, StartFailure};
use super::raw::{self, Mapping};
use super::stacks::StackTops;
use super::words::describe;

pub(super) use self::circumstances::Circumstances;
pub(super) use self::descendants::each_child;
pub(crate) use self::job::Placement;
pub(super) use self::job::pack as pack_job;

/// What ps(1) shows of keepers and their supervisors.
pub(super) const NAME: &CStr = c"escalated-tree";

/// What a keeper starts with, in the guardian's memory, of which it has a copy. There is no job yet: a keeper and its supervisor
/// are made before there is one, and have nothing of any request until then.
#[derive(Debug)]
pub(super) struct Charge {
    /// The channel to the host, at whatever number.
    pub(super) channel: RawFd,
    pub(super) stacks: StackTops,
}

/// Entry of the keeper's process, whose child the supervisor is; `charge` is a [`Charge`]. The status is 0 if nothing was left.
pub(super) extern "C" fn run(charge: *mut c_void) -> c_int {
    // SAFETY: the guardian passes a Charge, and this process has a copy of its memory.
    let charge = unsafe { &*charge.cast::<Charge>() };
    let supervisor = take_places(charge.channel).and_then(|channel| {
        channel.report(Report::Kept(Pid::from_raw(raw::getpid())));
        detach()?;
        start_supervisor(&charge.stacks)
    });
    match supervisor {
        Ok(supervisor) => {
            keep(supervisor, SupervisorEnd::new(CHANNEL));
            0
        }
        Err(errno) => {
            report_unsupervised(errno);
            1
        }
    }
}

fn report_unsupervised(errno: Errno) {
    let stage = Stage::Supervisor;
    SupervisorEnd::new(CHANNEL).report(Report::Failed(StartFailure { stage, errno }));
}

/// Gives the keeper's descriptors their numbers, and closes what else the guardian has open.
fn take_places(channel: RawFd) -> raw::Result<SupervisorEnd> {
    if channel != CHANNEL {
        raw::dup3(channel, CHANNEL, libc::O_CLOEXEC)?;
    }
    close_others(&[HOST, GUARDIAN, CHILD_CHANGES, CHANNEL]);
    let keeper = raw::pidfd_open(raw::getpid())?;
    if keeper != KEEPER {
        raw::dup3(keeper, KEEPER, libc::O_CLOEXEC)?;
        raw::close(keeper)?;
    }
    Ok(SupervisorEnd::new(CHANNEL))
}

/// Detaches the keeper from the guardian, which has blocked all signals and reset their actions.
fn detach() -> raw::Result<()> {
    // A signal to the host's group or terminal must not end it before the host.
    raw::setpgid(0)?;
    raw::become_subreaper()?;
    // The end of the guardian continues a keeper that was stopped.
    raw::be_continued_after_parent()?;
    raw::set_name(NAME)
}

/// Starts the supervisor, which has the keeper's descriptors as well; its pid.
fn start_supervisor(stacks: &StackTops) -> raw::Result<i32> {
    let flags = raw::SUPERVISOR_MEMORY | libc::SIGCHLD;
    let argument = ptr::from_ref(stacks).cast_mut().cast();
    // SAFETY: nothing else runs on that stack, and the argument is in a frame of the keeper that is left only when the supervisor
    // has ended. If the keeper is killed, its memory stays.
    unsafe { raw::clone_process(flags, stacks.supervisor.as_ptr(), supervise, argument) }
}

/// Entry of the supervisor's process; `stacks` are [`StackTops`].
extern "C" fn supervise(stacks: *mut c_void) -> c_int {
    // SAFETY: see `start_supervisor`.
    let stacks = unsafe { &*stacks.cast::<StackTops>() };
    let channel = SupervisorEnd::new(CHANNEL);
    let supervised = raw::become_subreaper().and_then(|()| {
        let mut before = Circumstances::now();
        let mut session = Session::Guardians;
        while let Some(job) = receive(channel, stacks)? {
            if session.suit(job.placement)? {
                before.change_session();
            }
            // A tree can have changed what the next one would inherit.
            if run_job(channel, job).is_err() || Circumstances::now() != before {
                break;
            }
            channel.report_in_any_case(Report::Emptied);
        }
        Ok(())
    });
    match supervised {
        Ok(()) => 0,
        Err(errno) => {
            report_unsupervised(errno);
            1
        }
    }
}

/// The session of a supervisor.
#[derive(PartialEq, Eq)]
enum Session {
    Guardians,
    Own,
}

impl Session {
    /// Leaves the guardian's session if a tree that is placed like that needs another one; whether it has been left now.
    fn suit(&mut self, placement: Placement) -> raw::Result<bool> {
        match (placement, &self) {
            (Placement::OwnGroup, Self::Own) => Ok(false),
            (Placement::OwnGroup, Self::Guardians) => {
                raw::setsid()?;
                *self = Self::Own;
                Ok(true)
            }
            // It stays in the guardian's session, so that the child can join one of its groups.
            (Placement::Group(_) | Placement::Foreground, Self::Guardians) => Ok(false),
            // The host knows better.
            (Placement::Group(_) | Placement::Foreground, Self::Own) => Err(Errno::EPERM),
        }
    }
}

/// A supervisor that can't have another tree.
struct Spent;

/// Starts the tree of a job, and stays with it until nothing of it is left.
fn run_job(channel: SupervisorEnd, job: Job<'_>) -> Result<(), Spent> {
    let child = match child::start(&job.child) {
        Ok(child) => child,
        Err(failure) => {
            if let Some(output) = job.error_output {
                let line = [job.error_prefix, describe(failure).as_bytes()];
                complain(output, line, job.child.stack, [CHANNEL, HOST], CHILD_CHANGES);
            }
            channel.report(Report::Failed(failure));
            return Err(Spent);
        }
    };
    // The child has its descriptors; a copy here would keep pipes open.
    close_others(&[HOST, GUARDIAN, KEEPER, CHILD_CHANGES, CHANNEL]);
    let own_group = job.placement.group() == 0;
    // SAFETY: the child has executed its program, and the job's memory isn't read from here on.
    unsafe { job.memory.unmap() };
    channel.report(Report::Started(Pid::from_raw(child)));
    watch(Descendants::new(child, own_group, channel))
}

/// Waits for a job and its descriptors, for as long as the host likes; `None` if there will be none.
fn receive(channel: SupervisorEnd, stacks: &StackTops) -> raw::Result<Option<Job<'static>>> {
    let Some((size, received)) = channel.job(KEEPER, CHILD_CHANGES)? else {
        return Ok(None);
    };
    // The host has planned with these numbers.
    if received.first != JOB {
        return Err(Errno::EBADMSG);
    }
    let job = Job::unpack(Mapping::of(JOB, size)?, stacks).ok_or(Errno::EBADMSG)?;
    Ok(Some(job))
}

/// Watches host, keeper and descendants until no descendant is left.
fn watch(mut descendants: Descendants) -> Result<(), Spent> {
    let channel = descendants.outbox.channel();
    loop {
        let room = if descendants.outbox.is_empty() {
            0
        } else {
            libc::POLLOUT
        };
        let mut watched = [
            raw::pollfd(channel.descriptor(), libc::POLLIN | room),
            raw::pollfd(HOST, libc::POLLIN),
            raw::pollfd(KEEPER, libc::POLLIN),
            raw::pollfd(CHILD_CHANGES, libc::POLLIN),
        ];
        if raw::ppoll(&mut watched).is_err_and(|errno| errno != Errno::EINTR) {
            descendants.kill_all();
            return Err(Spent);
        }
        let [from_host, host_end, keeper_end, changed] = watched.map(|entry| entry.revents != 0);
        if changed {
            let mut information = [0_u8; 512];
            let _ = raw::read(CHILD_CHANGES, &mut information);
            if !descendants.reap() {
                descendants.outbox.flush_in_any_case();
                return Ok(());
            }
        }
        if host_end || keeper_end || (from_host && !obey(channel, &mut descendants)) {
            descendants.kill_all();
            return Err(Spent);
        }
        descendants.outbox.flush();
    }
}

/// Carries out the host's orders; false if one is to end.
fn obey(channel: SupervisorEnd, descendants: &mut Descendants) -> bool {
    loop {
        match channel.order() {
            Some(Order::Signal(signal)) => descendants.forward(signal),
            Some(Order::Continue(stop)) => descendants.continue_after(stop),
            Some(Order::Resume) => descendants.resume(),
            Some(Order::End) => return false,
            None => return true,
        }
    }
}

/// Closes everything that is not in `kept` (sorted).
pub(super) fn close_others(kept: &[RawFd]) {
    let mut first = 0_u32;
    for number in kept.iter().map(|number| number.cast_unsigned()) {
        if number > first {
            let _ = raw::close_range(first, number.wrapping_sub(1));
        }
        first = number.wrapping_add(1);
    }
    let _ = raw::close_range(first, u32::MAX);
}
