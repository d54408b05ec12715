//! System calls for code that runs beside the host in the host's memory, one typed function each.
//!
//! The supervisor (see [`super::supervisor`]) shares the memory of its host, and with it the thread-local `errno` of the
//! thread that made it. So nothing here touches libc's state: on x86-64 the calls are made directly. On other
//! architectures the supervisor gets a copy of the memory instead (`fork` semantics, slower with a large host), and libc's
//! wrappers are safe to use. nix's [`Errno`](nix::errno::Errno) is only a number, which is looked up in a `match`.
//!
//! Nothing here allocates, locks or panics. Functions that can't corrupt memory, whatever their arguments, are safe.
//! Descriptors are plain numbers: the supervisor has a table of its own, in which no
//! [`OwnedFd`](std::os::fd::OwnedFd) of the host owns anything.

mod arch;
mod descriptors;
mod files;
mod processes;
mod signals;
mod sockets;

pub(crate) use arch::{Result, SUPERVISOR_MEMORY, clone_process};
pub(crate) use descriptors::{
    clear_close_on_exec, close, close_range, dup3, pollfd, ppoll, ppoll_within, read, write,
};
pub(crate) use files::{fchdir, open, statx, umask};
pub(crate) use processes::{
    Strings, be_continued_after_parent, become_subreaper, execve, execveat, follow_parent_into_death, getpid,
    kill, pidfd_open, raise_priority, set_name, set_open_file_limit, setpgid, setsid, wait4,
};
pub(crate) use signals::{exit_instead_of_dumping, reset_all_dispositions, signalfd, unblock_all};
pub(crate) use sockets::{recv, send};
