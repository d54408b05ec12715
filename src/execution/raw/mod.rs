//! System calls for code that runs where libc has no state: in the guardian and all that it starts, one typed function each.
//!
//! The guardian (see [`super::guardian`]) has given up its copy of the host's memory, and with it the thread-local `errno`. So
//! nothing here touches libc's state: on x86-64 the calls are made directly. On other architectures the guardian keeps the
//! copy, and libc's wrappers are safe to use. nix's [`Errno`](nix::errno::Errno) is only a number, which is looked up in a `match`.
//!
//! Nothing here allocates, locks or panics. Functions that can't corrupt memory, whatever their arguments, are safe.
//! Descriptors are plain numbers: the supervisor has a table of its own, in which no
//! [`OwnedFd`](std::os::fd::OwnedFd) of the host owns anything.

mod arch;
mod clock;
mod descriptors;
mod files;
mod memory;
mod processes;
mod signals;
mod sockets;
mod terminals;

pub(crate) use arch::{Result, SUPERVISOR_MEMORY, clone_process};
pub(crate) use clock::Deadline;
pub(crate) use descriptors::{
    clear_close_on_exec, close, close_range, dup3, duplicate_from, pollfd, ppoll, ppoll_until, read, write,
};
pub(crate) use files::{chdir, fchdir, open, open_name, open_status, reopen, statx, statx_executable, umask};
pub(crate) use memory::{Mapping, unmap_between};
pub(crate) use processes::{
    Change, Priorities, Strings, be_at_least_as_nice, be_continued_after_parent, be_traced, become_subreaper,
    continue_traced, end_with_this, execve, execveat, follow_parent_into_death, getpid, kill, let_go, limit,
    never_dump, next_change, pidfd_open, priorities, processors, raise_priority, session_keyring, set_limit,
    set_name, setpgid, setsid, unblock_all_of, wait4,
};
pub(crate) use signals::{block_all_but, ignore, reset_all_dispositions, signalfd_of_all, unblock_all};
pub(crate) use sockets::{Received, receive, recv, send};
pub(crate) use terminals::{become_controlling_terminal, set_foreground};
