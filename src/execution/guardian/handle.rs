//! The guardian as the host sees it: started when it is needed, given trees, and continued.
//!
//! One keeper is made in advance, so that a command that is escalated waits for no process but its own. It has nothing of any
//! request. Once nothing is left of its tree, it waits for another one, so that mostly no keeper has to be made at all. If it was
//! killed, that is noticed when it is needed, and another one is made; if it is killed in that very moment, the command fails,
//! as it does with any supervisor's death.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, sendmsg, shutdown, socketpair,
};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};
use tokio::io::Interest;

use super::idle::{Idle, IdleKeepers};
use super::inheritance::Inheritance;
use super::memory::KeptMemory;
use super::{Start, guard};
use crate::execution::channel::HostEnd;
use crate::execution::raw::clone_process;
use crate::execution::stacks::Stacks;
use crate::execution::supervisor::Placement;
use crate::watch::watch;

/// How long a guardian may take to make room for another tree.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a guardian is continued that a tree may have stopped.
const WAKING_INTERVAL: u16 = 20; // milliseconds

/// A guardian of this process. It ends with the last tree after this is dropped.
#[derive(Debug)]
pub(crate) struct Guardian {
    control: OwnedFd,
    /// A pidfd: the number may be another process's once the host has reaped every child of any kind by itself.
    process: OwnedFd,
    pid: Pid,
    inherited: Inheritance,
    idle: IdleKeepers,
    /// Whether it leads a session of its own, and so isn't the one that gets every tree.
    leads: bool,
}

/// A keeper for a tree.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) guardian: Arc<Guardian>,
    pub(crate) idle: Idle,
}

/// The guardians of this process.
struct Guardians {
    /// The one that gets trees.
    current: Option<Arc<Guardian>>,
    /// Pidfds of former ones that aren't reaped yet.
    former: Vec<OwnedFd>,
}

static GUARDIANS: Mutex<Guardians> = Mutex::new(Guardians {
    current: None,
    former: Vec::new(),
});

fn guardians() -> MutexGuard<'static, Guardians> {
    GUARDIANS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guardians {
    /// A keeper that waits, if what it would pass on to a child is what this process has now.
    fn idle(&self, inherited: &Inheritance, placement: Placement) -> Option<Keeper> {
        let guardian = self
            .current
            .as_ref()
            .filter(|current| current.inherited == *inherited)?;
        Keeper::idle_of(guardian, placement)
    }
}

impl Keeper {
    /// One that waits for a tree that is placed like that, if it passes on what this process had when that was looked at. `None` if
    /// there is none or another thread has the guardian: [`Self::new`] gets one then.
    pub(crate) fn waiting(inherited: &Inheritance, placement: Placement) -> Option<Self> {
        match GUARDIANS.try_lock() {
            Ok(guardians) => guardians.idle(inherited, placement),
            Err(TryLockError::Poisoned(guardians)) => guardians.into_inner().idle(inherited, placement),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// One that waits, or a new one. A guardian is started if there is none, or not the right one.
    ///
    /// # Errors
    /// When no process can be made, or the guardian takes nothing.
    pub(crate) fn new(placement: Placement) -> io::Result<Self> {
        let inherited = Inheritance::of_this_thread()?;
        let mut guardians = guardians();
        guardians.former.retain(|process| !is_reaped(process));
        if let Some(keeper) = guardians.idle(&inherited, placement) {
            return Ok(keeper);
        }
        if let Some(current) = guardians.current.take() {
            if current.inherited == inherited
                && let Ok(keeper) = Self::of(&current)
            {
                guardians.current = Some(current);
                return Ok(keeper);
            }
            // Killed, or of another kind. In a copy of the host it is another process's child, and waiting for it fails.
            current.idle.dismiss();
            guardians.former.push(current.process.try_clone()?);
        }
        let guardian = Arc::new(Guardian::start(inherited, None)?);
        let keeper = Self::of(&guardian)?;
        guardians.current = Some(guardian);
        Ok(keeper)
    }

    /// One of this guardian that waits.
    pub(super) fn idle_of(guardian: &Arc<Guardian>, placement: Placement) -> Option<Self> {
        if guardian.has_ended() {
            // Its keepers end as well, but may not know yet.
            guardian.idle.dismiss();
            return None;
        }
        let idle = guardian.idle.take(placement)?;
        let guardian = Arc::clone(guardian);
        Some(Self { guardian, idle })
    }

    /// A new one of this guardian.
    ///
    /// # Errors
    /// When the guardian takes nothing.
    pub(super) fn of(guardian: &Arc<Guardian>) -> io::Result<Self> {
        let (channel, theirs) = HostEnd::pair()?;
        guardian.take(theirs.as_fd())?;
        Ok(Self {
            guardian: Arc::clone(guardian),
            idle: Idle::new(channel),
        })
    }

    /// Whether one waits, or is being made.
    #[cfg(test)]
    pub(in crate::execution) fn is_waiting() -> bool {
        let guardians = guardians();
        let current = guardians.current.as_ref();
        current.is_some_and(|current| !current.idle.is_empty())
    }
}

impl Guardian {
    /// Starts the guardian of this process if there is none, while this process is small. A failure is of no account yet: what
    /// is to be escalated tries again, and fails if that does.
    pub(crate) fn start_early() {
        let mut guardians = guardians();
        if guardians.current.is_some() {
            return;
        }
        match Inheritance::of_this_thread().and_then(|inherited| Self::start(inherited, None)) {
            Ok(guardian) => {
                guardian.make_next();
                guardians.current = Some(Arc::new(guardian));
            }
            Err(error) => tracing::warn!(%error, "cannot start a process that supervises commands"),
        }
    }

    /// Starts a guardian that leads a session on that terminal.
    ///
    /// # Errors
    /// When no process can be made.
    pub(super) fn of_terminal(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        guardians().former.retain(|process| !is_reaped(process));
        Self::start(Inheritance::of_this_thread()?, Some(terminal))
    }

    /// Has another keeper made in advance if none waits, which happens while the last one's tree starts. Doesn't wait. A leader of
    /// a session has the keepers that its trees leave.
    pub(crate) fn make_next(&self) {
        if !self.leads && self.idle.is_empty() {
            self.make_idle();
        }
    }

    /// Has another keeper made in the place of one that no tree has left.
    pub(crate) fn make_another(&self) {
        if !self.leads && self.idle.has_room() {
            self.make_idle();
        }
    }

    fn make_idle(&self) {
        if let Ok((channel, theirs)) = HostEnd::pair()
            && self.offer(theirs.as_fd()).is_ok()
        {
            self.idle.add(Idle::new(channel));
        }
    }

    /// Takes back a keeper that waits for another tree.
    pub(crate) fn take_back(&self, idle: Idle) {
        self.idle.add(idle);
    }

    /// Sends the channel, which the guardian then has as well, to a keeper that it makes.
    fn take(&self, channel: BorrowedFd<'_>) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            match self.offer(channel) {
                Err(Errno::EAGAIN) if begun.elapsed() < PATIENCE => {
                    self.wake();
                    let mut watched = [PollFd::new(self.control.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut watched, WAKING_INTERVAL);
                }
                Err(Errno::EINTR) => {}
                sent => return sent.map_err(Into::into),
            }
        }
    }

    /// The same without waiting: EAGAIN if it has too many orders already.
    fn offer(&self, channel: BorrowedFd<'_>) -> Result<(), Errno> {
        let descriptors = [channel.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let order = [IoSlice::new(&[0])];
        sendmsg::<()>(self.control.as_raw_fd(), &order, &rights, flags, None).map(drop)
    }

    /// Lets the guardian end with its last tree, and completes when it has ended and is reaped.
    pub(super) async fn retire(&self) -> io::Result<()> {
        self.idle.dismiss();
        shutdown(self.control.as_raw_fd(), Shutdown::Write)?;
        let process = watch(self.process.try_clone()?, Interest::READABLE)?;
        while !is_reaped(&self.process) {
            self.wake();
            let waking_interval = Duration::from_millis(WAKING_INTERVAL.into());
            if let Ok(ready) = tokio::time::timeout(waking_interval, process.readable()).await {
                ready?.clear_ready();
            }
        }
        Ok(())
    }

    /// Continues the process if it was stopped.
    pub(crate) fn wake(&self) {
        let process = self.process.as_raw_fd();
        // SAFETY: integers, and no information about the signal. If the process has ended there is nothing to continue.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                process,
                libc::SIGCONT,
                ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }

    fn has_ended(&self) -> bool {
        let mut watched = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        let polled = poll(&mut watched, PollTimeout::ZERO);
        polled.is_err() || watched[0].any() != Some(false)
    }

    /// Its number, as long as it isn't reaped.
    pub(in crate::execution) fn pid(&self) -> Pid {
        self.pid
    }

    fn start(inherited: Inheritance, terminal: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (control, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let host = pidfd(getpid().as_raw())?;
        let stacks = Stacks::new()?;
        let start = Start {
            control: theirs.as_raw_fd(),
            host: host.as_raw_fd(),
            terminal: terminal.map_or(-1, |terminal| terminal.as_raw_fd()),
            stacks: stacks.tops(),
            kept: KeptMemory::new(guard as *const () as usize, stacks.range()),
        };
        let pid = fork(&start)?;
        Ok(Self {
            control,
            process: pidfd(pid)?,
            pid: Pid::from_raw(pid),
            inherited,
            idle: IdleKeepers::new(),
            leads: terminal.is_some(),
        })
    }
}

impl Drop for Guardian {
    /// A leader ends by itself soon, and is reaped when another guardian is needed. The others are noted when they are replaced.
    fn drop(&mut self) {
        if self.leads
            && !is_reaped(&self.process)
            && let Ok(process) = self.process.try_clone()
        {
            let mut guardians = GUARDIANS.lock().unwrap_or_else(PoisonError::into_inner);
            guardians.former.push(process);
        }
    }
}

/// What [`make_guardian`] is given, and gives back.
struct Fork<'a> {
    start: &'a Start,
    /// Pid, or minus an error's number.
    made: i32,
}

/// Makes the guardian by way of a process that shares this one's memory. Such a process isn't known to the C library, nor
/// what it makes in turn; else the kernel would write to a part of the memory that the guardian gives up (rseq(2)).
fn fork(start: &Start) -> io::Result<i32> {
    // No handler of the host may run in the guardian, and no signal may end it: it starts with all blocked.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let mut fork = Fork {
        start,
        made: -(Errno::EAGAIN as i32),
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: nothing else runs on that stack, and this thread sleeps until the process has ended.
    let between = unsafe {
        let argument = ptr::from_mut(&mut fork).cast();
        clone_process(flags, start.stacks.keeper.as_ptr(), make_guardian, argument)
    };
    mask.thread_set_mask()?;
    while waitpid(Pid::from_raw(between?), Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    // SAFETY: the process between has written it.
    match unsafe { ptr::read_volatile(&raw const fork.made) } {
        pid if pid > 0 => Ok(pid),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

/// Entry of the process between; `fork` is a [`Fork`].
extern "C" fn make_guardian(fork: *mut libc::c_void) -> libc::c_int {
    // SAFETY: see `fork`.
    let fork = unsafe { &mut *fork.cast::<Fork<'_>>() };
    let start = ptr::from_ref(fork.start).cast_mut().cast();
    // The host's child, like this process: without an exit signal, so that it gets no SIGCHLD and its own waitpid(-1) doesn't
    // find the guardian.
    // SAFETY: a copy of the memory, in which nothing else runs.
    let made = unsafe {
        clone_process(
            libc::CLONE_PARENT,
            fork.start.stacks.guardian.as_ptr(),
            guard,
            start,
        )
    };
    fork.made = made.unwrap_or_else(|errno| -(errno as i32));
    0
}

fn is_reaped(process: &OwnedFd) -> bool {
    let flags = WaitPidFlag::__WALL | WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    // ECHILD: the host reaps every child of any kind by itself, or is a copy of the one that started this.
    !matches!(
        waitid(Id::PIDFd(process.as_fd()), flags),
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
    )
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(descriptor) {
        // SAFETY: the call has just made it.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
