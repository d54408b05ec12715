//! The guardian: one small process of each host, which starts the keeper of each tree and reaps it.
//!
//! # Memory
//!
//! Whatever supervises trees must live when the host dies, even if the OOM killer chooses it, which kills every process that
//! shares the memory of the one that it chooses. So the guardian has memory of its own. It is forked from the host with the first
//! session, which takes a tenth of a second for each gibibyte that the host has by then, once, and gives up at once what it has
//! of the host's memory, except for the images of this code and of the C library. Each keeper is forked from the guardian, which
//! takes a tenth of a millisecond in a host of any size.
//!
//! - Forking each keeper from the host would take as long as the guardian does, each time.
//! - A small program of its own, executed once or for each tree, would leave nothing to give up, and be as fast. But this is a
//!   library: it has no file to execute. The program would have to be built before the library, without the standard library,
//!   and be carried in it, for what a few system calls do as well.
//!
//! The guardian, and each keeper with its supervisor, have some 20 KiB that is theirs alone and 40 KiB of page tables. The OOM
//! killer counts what is resident, 1.2 MiB, most of it pages of the images that the host has as well: so nearly everything that
//! a tree runs goes before them, and a tree that loses its keeper so is ended by the guardian. None of them changes its
//! `oom_score_adj`: to lower it needs privilege, and the tree would inherit it.
//!
//! None of them leaves a core, nor does a child before it executes its program (PR_SET_DUMPABLE).
//!
//! # Descent
//!
//! The guardian is a reaper of orphans (PR_SET_CHILD_SUBREAPER), above the keepers, which are that above their supervisors. A tree
//! that kills its supervisor and its keeper in the same instant becomes a child of the guardian, which kills every child that
//! is not a keeper. It keeps a copy of each tree's channel until nothing of the tree is left; so the host sees the end of that.
//! When it is killed itself, the keepers end their trees, and the host starts another one for those that follow.
//!
//! # Inheritance
//!
//! An escalated child has what the guardian had of the host: user, groups, capabilities, limits, namespaces, cgroup, session,
//! `oom_score_adj`. The host compares these each time, see [`Inheritance`], and starts another guardian if they have changed.
//! A tree can change its guardian as well, which compares what it has with what it had at its start before it makes a keeper.
//! What the kernel doesn't tell of a process can't be compared: a Landlock domain that a privileged host enters without
//! no_new_privs after its first session isn't one of its later children's.
//!
//! # Terminals
//!
//! A terminal has a guardian of its own, which leads a session on it, see [`SessionLeader`]: its keepers, supervisors and children
//! are in that session, those of the shell and those that are escalated, so the kernel treats them alike. All signals are blocked
//! in the leader, so keys don't reach it.

mod handle;
mod idle;
mod inheritance;
mod leader;
mod memory;
mod trees;

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;

use self::memory::KeptMemory;
use self::trees::Trees;
use super::channel::{Report, SupervisorEnd};
use super::failure::{Stage, StartFailure};
use super::raw;
use super::stacks::StackTops;
use super::supervisor::numbers::{CHILD_CHANGES, CONTROL, GUARDIAN, HOST};
use super::supervisor::{Charge, Circumstances, close_others, run};

pub(crate) use self::handle::{Guardian, Keeper};
pub(crate) use self::idle::Idle;
pub(crate) use self::inheritance::Inheritance;
pub(crate) use self::leader::SessionLeader;

/// Numbers above those that have a meaning, where a descriptor is out of the way.
const ASIDE: RawFd = 16;

/// What a guardian starts with, in the host's memory, of which it has a copy at first.
#[derive(Debug)]
struct Start {
    /// The guardian's end of the socket on which it gets trees.
    control: RawFd,
    /// A pidfd of the host.
    host: RawFd,
    /// The terminal of the session that the guardian is to lead; -1 if it stays in the host's session.
    terminal: RawFd,
    stacks: StackTops,
    kept: KeptMemory,
}

/// Entry of the guardian's process; `start` is a [`Start`].
extern "C" fn guard(start: *mut c_void) -> c_int {
    // SAFETY: the host passes a Start, and this process has a copy of its memory until it gives that up.
    let Start {
        control,
        host,
        terminal,
        stacks,
        kept,
    } = unsafe { &*start.cast::<Start>() };
    let (control, host, terminal) = (*control, *host, *terminal);
    let (stacks, kept) = (*stacks, *kept);
    // Before anything else: a core must not have what is the host's.
    if raw::never_dump().is_err() {
        return 1;
    }
    // SAFETY: everything that is used from here on is on this stack, in the images, or the system's.
    unsafe { kept.unmap_all_else() };
    if settle(control, host, terminal).is_err() {
        return 1;
    }
    let Ok(trees) = Trees::new() else { return 1 };
    // A leader's trees are its terminal's own, and nothing can take its place.
    let unchanged = (terminal < 0).then(Circumstances::now);
    serve(trees, stacks, unchanged.as_ref());
    0
}

/// Detaches the guardian from the host, and gives its descriptors their numbers.
fn settle(control: RawFd, host: RawFd, terminal: RawFd) -> raw::Result<()> {
    take_session(terminal)?;
    let control = raw::duplicate_from(ASIDE, control)?;
    let host = raw::duplicate_from(ASIDE, host)?;
    raw::dup3(host, HOST, libc::O_CLOEXEC)?;
    raw::dup3(control, CONTROL, libc::O_CLOEXEC)?;
    close_others(&[HOST, CONTROL]);
    // Handlers of the host must not run here, and ignored signals would stay ignored in the children.
    raw::reset_all_dispositions()?;
    place(raw::pidfd_open(raw::getpid())?, GUARDIAN)?;
    place(raw::signalfd_of_all()?, CHILD_CHANGES)?;
    raw::become_subreaper()?;
    // The end of the host continues a guardian that was stopped.
    raw::be_continued_after_parent()?;
    raw::chdir(c"/")?;
    raw::set_name(c"tree-guardian")
}

/// Makes this process the leader of a session on that terminal, if it is to have one.
fn take_session(terminal: RawFd) -> raw::Result<()> {
    if terminal < 0 {
        // A signal to the host's group must not reach this process, but a shell may have to join that group: same session.
        return raw::setpgid(0);
    }
    raw::setsid()?;
    raw::become_controlling_terminal(terminal)
}

fn place(descriptor: RawFd, number: RawFd) -> raw::Result<()> {
    if descriptor == number {
        return Ok(());
    }
    raw::dup3(descriptor, number, libc::O_CLOEXEC)?;
    raw::close(descriptor)
}

/// Starts keepers for the host, and takes care of what keepers that were killed have left, until the host is gone and all is over.
/// It starts no more of them once what they would inherit isn't `unchanged`.
fn serve(mut trees: Trees, stacks: StackTops, unchanged: Option<&Circumstances>) {
    let mut host_is_there = true;
    loop {
        let any_child = trees.reap();
        trees.kill_orphans();
        if !host_is_there && !any_child {
            return;
        }
        let ignored_without_host = if host_is_there { libc::POLLIN } else { 0 };
        let number_with_host = |number| if host_is_there { number } else { -1 };
        let mut watched = [
            raw::pollfd(number_with_host(CONTROL), ignored_without_host),
            raw::pollfd(number_with_host(HOST), ignored_without_host),
            raw::pollfd(CHILD_CHANGES, libc::POLLIN),
        ];
        match trees.wait(&mut watched) {
            Ok(()) => {}
            Err(Errno::EINTR) => continue,
            // Then the keepers end their trees.
            Err(_) => return,
        }
        let [order, host_end, changed] = watched.map(|entry| entry.revents != 0);
        if changed {
            let mut information = [0_u8; 512];
            let _ = raw::read(CHILD_CHANGES, &mut information);
        }
        // Also before the host hears of a tree's end: what that has changed is no later tree's.
        let is_changed = unchanged.is_some_and(|before| Circumstances::now() != *before);
        if host_is_there && is_changed {
            // The host sees that, and starts another guardian.
            let _ = raw::close(CONTROL);
            host_is_there = false;
        } else if host_end {
            host_is_there = false;
        } else if order {
            host_is_there = take_tree(&mut trees, stacks);
        }
    }
}

/// Takes a tree's channel from the host and starts its keeper; false if there is no host any more.
fn take_tree(trees: &mut Trees, stacks: StackTops) -> bool {
    let mut message = [0_u8; 1];
    let channel = match raw::receive(CONTROL, &mut message, libc::MSG_DONTWAIT) {
        Ok(received) if received.bytes == 0 => return false,
        Ok(received) if received.descriptors == 1 => received.first,
        // The channel was lost on the way, which its other end sees.
        Ok(_) | Err(_) => return true,
    };
    let started = if trees.has_room_for(channel) {
        let charge = Charge { channel, stacks };
        let argument = ptr::from_ref(&charge).cast_mut().cast();
        // SAFETY: a copy of this memory, in which nothing runs on the keeper's stack.
        unsafe { raw::clone_process(libc::SIGCHLD, stacks.keeper.as_ptr(), run, argument) }
    } else {
        Err(Errno::EMFILE)
    };
    match started {
        Ok(keeper) => trees.add(channel, keeper),
        Err(errno) => {
            let stage = Stage::Supervisor;
            SupervisorEnd::new(channel).report(Report::Failed(StartFailure { stage, errno }));
            let _ = raw::close(channel);
        }
    }
    true
}
