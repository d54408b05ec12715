//! The supervisor: one small process between the host and each process tree, which outlives neither of them for long.
//!
//! It makes itself the reaper of all its descendants (PR_SET_CHILD_SUBREAPER, process-wide, but for this process alone), starts
//! the child, and holds one end of a socket whose other end only the host has. When that socket or the host itself comes to
//! its end, be it by SIGKILL, the supervisor kills its children, becomes the parent of theirs, kills those, until nothing is left.
//! Processes with a group or session of their own don't escape that, and since only own unreaped children are ever
//! signalled, no recycled pid is hit.
//!
//! **This code runs in the memory of the host** (CLONE_VM), so that starting it costs the same in a host of any size. It has its
//! own stack and descriptor table. It must not allocate, lock, panic, or call into libc: only [`super::raw`].

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use super::descriptor_map::Step;
use super::raw::{SysResult, clone_process, syscall};
use super::words::describe;

/// What the supervisor needs, made by the host; it lives until the supervisor has said `Started` or has ended.
pub(super) struct Job {
    /// The supervisor's end of the socket to the host (SOCK_SEQPACKET).
    pub control: RawFd,
    /// A pidfd of the host.
    pub host: RawFd,
    /// Every descriptor that the supervisor starts with, sorted: all others are closed at once.
    pub keep: Vec<RawFd>,
    /// How the child's descriptors get their numbers.
    pub steps: Vec<Step>,
    /// The program, opened with O_PATH, at its number after the steps.
    pub program: RawFd,
    /// What the host saw when it opened the program.
    pub identity: Identity,
    /// The program's name for what can't be executed by descriptor; NUL-terminated, relative to the working directory.
    pub path: *const c_char,
    /// Arguments, ended by a null pointer.
    pub argv: *const *const c_char,
    /// Arguments for /bin/sh, should the program be a text without `#!`; ended by a null pointer.
    pub shell_argv: *const *const c_char,
    /// Environment, ended by a null pointer.
    pub envp: *const *const c_char,
    /// The working directory, opened with O_PATH, at its number after the steps.
    pub workdir: RawFd,
    pub umask: Option<u32>,
    /// Limit of open files that the child gets instead of the host's.
    pub open_files: Option<libc::rlimit64>,
    pub placement: Placement,
    /// The host's process group.
    pub host_group: i32,
    /// Where a line about a failed start goes, or -1.
    pub error_output: RawFd,
    /// Start of that line: who speaks, about what.
    pub error_prefix: Vec<u8>,
    pub child_stack_top: *mut u8,
    /// Stage and errno of a failed start, written by the child, or set from the first: then there is only to complain.
    pub failed_stage: AtomicI32,
    pub failed_errno: AtomicI32,
}

/// Which process group and session the child is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A group of its own, in a session without a terminal: nothing that it does to its group reaches anybody else.
    OwnGroup,
    /// The host's group and session: for a shell that stands in for the host on its terminal.
    HostGroup,
}

/// A file as statx(2) shows it, as far as a swap or a change would show. The time of birth tells a new file with a recycled
/// inode number; the time of change would tell of new links to the file, which are none of our business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub device: (u32, u32),
    pub inode: u64,
    pub size: u64,
    pub modified: (i64, u32),
    pub born: (i64, u32),
}

/// What an [`Identity`] needs of statx(2); a file system that knows no time of birth leaves it 0.
pub(crate) const STATX_IDENTITY: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

impl Identity {
    /// The part of `found` that tells files apart.
    pub fn of(found: &libc::statx) -> Self {
        Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            born: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        }
    }
}

/// Messages to the host: kind and value, in native byte order.
pub(super) const STARTED: i32 = 1;
/// The child couldn't be started; two messages: stage, then errno.
pub(super) const FAILED_STAGE: i32 = 2;
/// Errno of the failure.
pub(super) const FAILED_ERRNO: i32 = 3;
/// The child has been stopped by the signal.
pub(super) const STOPPED: i32 = 4;
/// The child has ended, with that wait status.
pub(super) const ENDED: i32 = 5;

/// Stages of a failed start.
pub(super) const STAGE_SUPERVISOR: i32 = 1;
/// The descriptors couldn't be put in place.
pub(super) const STAGE_DESCRIPTORS: i32 = 2;
/// The working directory couldn't be entered.
pub(super) const STAGE_WORKDIR: i32 = 3;
/// The program isn't the one that was decided about any more.
pub(super) const STAGE_SWAPPED: i32 = 4;
/// The program couldn't be executed.
pub(super) const STAGE_EXECUTE: i32 = 5;

const ALL_SIGNALS: usize = 64;
/// Bytes of the kernel's signal set.
const SIGNAL_SET: usize = 8;
const EVERY_CHILD: i32 = -1;

/// Entry of the supervisor's process; `job` is a [`Job`].
pub(super) extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: the host passes a Job that lives until the supervisor has reported its start.
    let job = unsafe { &*job.cast::<Job>() };
    let control = job.control;
    let host = job.host;
    let signals = match prepare(job) {
        Ok(signals) => signals,
        Err(errno) => {
            report(control, FAILED_STAGE, STAGE_SUPERVISOR);
            report(control, FAILED_ERRNO, errno);
            return 1;
        }
    };
    let child = match start(job) {
        Ok(child) => child,
        Err((stage, errno)) => {
            complain(job, stage, errno);
            report(control, FAILED_STAGE, stage);
            report(control, FAILED_ERRNO, errno);
            return 1;
        }
    };
    // The child has its descriptors; a copy here would keep pipes open.
    let mut kept = [control, host, signals];
    sort(&mut kept);
    close_others(&kept);
    let mut tree = Tree {
        control,
        child,
        own_group: job.placement == Placement::OwnGroup,
        unsent_end: None,
        unsent_stop: None,
    };
    // From here on `job` may be gone.
    report(control, STARTED, child);
    tree.watch(host, signals);
    0
}

/// Cuts the ties to the host that a new process has; the signals are blocked since before it was made.
fn prepare(job: &Job) -> Result<RawFd, i32> {
    close_others(&job.keep);
    // A signal to the host's group or terminal must not end the supervisor before the host.
    match job.placement {
        Placement::OwnGroup => call(libc::SYS_setsid, [0; 6])?,
        Placement::HostGroup => call(libc::SYS_setpgid, [0; 6])?,
    };
    call(
        libc::SYS_prctl,
        [libc::PR_SET_CHILD_SUBREAPER as usize, 1, 0, 0, 0, 0],
    )?;
    let name = c"escalated-tree".as_ptr();
    call(
        libc::SYS_prctl,
        [libc::PR_SET_NAME as usize, name as usize, 0, 0, 0, 0],
    )?;
    // Handlers of the host must not run here, and ignored signals would stay ignored in the child.
    let default = [0_usize; 4];
    for signal in 1..=ALL_SIGNALS {
        if signal != libc::SIGKILL as usize && signal != libc::SIGSTOP as usize {
            let action = [signal, default.as_ptr() as usize, 0, SIGNAL_SET, 0, 0];
            call(libc::SYS_rt_sigaction, action)?;
        }
    }
    let child_signal: u64 = 1 << (libc::SIGCHLD - 1);
    let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as usize;
    let signals = call(
        libc::SYS_signalfd4,
        [
            EVERY_CHILD as usize,
            (&raw const child_signal) as usize,
            SIGNAL_SET,
            flags,
            0,
            0,
        ],
    )?;
    Ok(signals as RawFd)
}

/// Starts the child and returns when it executes, or couldn't.
fn start(job: &Job) -> Result<i32, (i32, i32)> {
    let known = job.failed_stage.load(Ordering::Acquire);
    if known != 0 {
        return Err((known, job.failed_errno.load(Ordering::Acquire)));
    }
    let argument: *const Job = job;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is the job's own and used by nobody else; the child ends or executes before this returns.
    let child = unsafe {
        clone_process(
            flags,
            job.child_stack_top,
            become_child,
            argument.cast_mut().cast(),
        )
    }
    .map_err(|errno| (STAGE_SUPERVISOR, errno))?;
    let child = child as i32;
    match job.failed_stage.load(Ordering::Acquire) {
        0 => Ok(child),
        stage => {
            let _ = wait(child, 0);
            Err((stage, job.failed_errno.load(Ordering::Acquire)))
        }
    }
}

/// The child between its birth and its program. It borrows the supervisor's memory; the supervisor sleeps meanwhile.
extern "C" fn become_child(job: *mut c_void) -> c_int {
    // SAFETY: see `start`.
    let job = unsafe { &*job.cast::<Job>() };
    let (stage, errno) = enter_program(job);
    job.failed_errno.store(errno, Ordering::Release);
    job.failed_stage.store(stage, Ordering::Release);
    127
}

/// Returns only with what went wrong.
fn enter_program(job: &Job) -> (i32, i32) {
    let supervisor = |errno| (STAGE_SUPERVISOR, errno);
    // Should the supervisor be killed by somebody, the child at least follows it.
    let death = call(
        libc::SYS_prctl,
        [
            libc::PR_SET_PDEATHSIG as usize,
            libc::SIGKILL as usize,
            0,
            0,
            0,
            0,
        ],
    );
    if let Err(errno) = death {
        return supervisor(errno);
    }
    let group = match job.placement {
        Placement::OwnGroup => call(libc::SYS_setpgid, [0; 6]),
        Placement::HostGroup => call(libc::SYS_setpgid, [0, job.host_group as usize, 0, 0, 0, 0]),
    };
    if let Err(errno) = group {
        return supervisor(errno);
    }
    for step in &job.steps {
        let placed = match *step {
            Step::Move { from, to } => call(
                libc::SYS_dup3,
                [from as usize, to as usize, libc::O_CLOEXEC as usize, 0, 0, 0],
            ),
            Step::Place { from, to } => call(libc::SYS_dup3, [from as usize, to as usize, 0, 0, 0, 0]),
            Step::Keep { number } => call(
                libc::SYS_fcntl,
                [number as usize, libc::F_SETFD as usize, 0, 0, 0, 0],
            ),
        };
        if let Err(errno) = placed {
            return (STAGE_DESCRIPTORS, errno);
        }
    }
    if let Err(errno) = call(libc::SYS_fchdir, [job.workdir as usize, 0, 0, 0, 0, 0]) {
        return (STAGE_WORKDIR, errno);
    }
    if let Some(umask) = job.umask {
        let _ = call(libc::SYS_umask, [umask as usize, 0, 0, 0, 0, 0]);
    }
    if let Some(limit) = &job.open_files {
        let new: *const libc::rlimit64 = limit;
        let set = [0, libc::RLIMIT_NOFILE as usize, new as usize, 0, 0, 0];
        if let Err(errno) = call(libc::SYS_prlimit64, set) {
            return supervisor(errno);
        }
    }
    let nothing_blocked: u64 = 0;
    let mask = [
        libc::SIG_SETMASK as usize,
        (&raw const nothing_blocked) as usize,
        0,
        SIGNAL_SET,
        0,
        0,
    ];
    if let Err(errno) = call(libc::SYS_rt_sigprocmask, mask) {
        return supervisor(errno);
    }
    execute(job)
}

/// Executes the file that was opened, not whatever has its name now.
fn execute(job: &Job) -> (i32, i32) {
    let (argv, envp) = (job.argv as usize, job.envp as usize);
    let by_descriptor = [
        job.program as usize,
        c"".as_ptr() as usize,
        argv,
        envp,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    let Err(mut errno) = call(libc::SYS_execveat, by_descriptor) else {
        return (STAGE_EXECUTE, 0);
    };
    if errno == libc::ENOENT {
        // A `#!` script behind a close-on-exec descriptor: its interpreter has to open it by name. So make sure, as late
        // as can be, that the name still means the same file.
        if !same_file(job) {
            return (STAGE_SWAPPED, libc::ESTALE);
        }
        let Err(by_name) = call(libc::SYS_execve, [job.path as usize, argv, envp, 0, 0, 0]) else {
            return (STAGE_EXECUTE, 0);
        };
        errno = by_name;
    }
    if errno == libc::ENOEXEC {
        // As execvp(3) does it.
        if !same_file(job) {
            return (STAGE_SWAPPED, libc::ESTALE);
        }
        let shell = [
            c"/bin/sh".as_ptr() as usize,
            job.shell_argv as usize,
            envp,
            0,
            0,
            0,
        ];
        if let Err(by_shell) = call(libc::SYS_execve, shell) {
            errno = by_shell;
        }
    }
    (STAGE_EXECUTE, errno)
}

fn same_file(job: &Job) -> bool {
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let query = [
        libc::AT_FDCWD as usize,
        job.path as usize,
        0,
        STATX_IDENTITY as usize,
        (&raw mut found) as usize,
        0,
    ];
    call(libc::SYS_statx, query).is_ok() && Identity::of(&found) == job.identity
}

struct Tree {
    control: RawFd,
    /// The child's pid while it is not reaped, then 0.
    child: i32,
    own_group: bool,
    unsent_end: Option<i32>,
    unsent_stop: Option<i32>,
}

impl Tree {
    /// Watches until no descendant is left.
    fn watch(&mut self, host: RawFd, signals: RawFd) {
        loop {
            let unsent = self.unsent_end.is_some() || self.unsent_stop.is_some();
            let room = if unsent { libc::POLLOUT } else { 0 };
            let mut watched = [
                libc::pollfd {
                    fd: self.control,
                    events: libc::POLLIN | room,
                    revents: 0,
                },
                libc::pollfd {
                    fd: host,
                    events: libc::POLLIN,
                    revents: 0,
                },
                libc::pollfd {
                    fd: signals,
                    events: libc::POLLIN,
                    revents: 0,
                },
            ];
            let poll = [watched.as_mut_ptr() as usize, watched.len(), 0, 0, 0, 0];
            if matches!(call(libc::SYS_ppoll, poll), Err(errno) if errno != libc::EINTR) {
                self.kill_everything();
                return;
            }
            let [from_host, host_end, child_changes] = watched.map(|entry| entry.revents != 0);
            if child_changes {
                let mut information = [0_u8; 512];
                let drain = [
                    signals as usize,
                    information.as_mut_ptr() as usize,
                    information.len(),
                    0,
                    0,
                    0,
                ];
                let _ = call(libc::SYS_read, drain);
                if !self.reap() {
                    self.flush_blocking();
                    return;
                }
            }
            if host_end || (from_host && !self.obey()) {
                self.kill_everything();
                return;
            }
            self.flush();
        }
    }

    /// Collects every child that has ended or stopped; false when there is none left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(EVERY_CHILD, libc::WNOHANG | libc::WUNTRACED) {
                Ok((0, _)) => return true,
                Ok((pid, status)) => self.note(pid, status),
                Err(libc::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn note(&mut self, pid: i32, status: i32) {
        if pid != self.child {
            return;
        }
        if status & 0xff == 0x7f {
            self.unsent_stop = Some((status >> 8) & 0xff);
        } else {
            self.child = 0;
            self.unsent_stop = None;
            self.unsent_end = Some(status);
        }
        self.flush();
    }

    /// Carries out what the host asks; false when the host has let go.
    fn obey(&mut self) -> bool {
        loop {
            let mut signal = 0_i32;
            let buffer = (&raw mut signal) as usize;
            let receive = [
                self.control as usize,
                buffer,
                size_of::<i32>(),
                libc::MSG_DONTWAIT as usize,
                0,
                0,
            ];
            match call(libc::SYS_recvfrom, receive) {
                Ok(size) if size == size_of::<i32>() => self.signal(signal),
                Err(libc::EAGAIN) => return true,
                Err(libc::EINTR) => {}
                _ => return false,
            }
        }
    }

    fn signal(&self, signal: i32) {
        if self.child == 0 {
            return;
        }
        // The child isn't reaped, so neither its pid nor its group's number can be somebody else's.
        let group = [self.child.wrapping_neg() as usize, signal as usize, 0, 0, 0, 0];
        if !self.own_group || call(libc::SYS_kill, group).is_err() {
            let _ = call(libc::SYS_kill, [self.child as usize, signal as usize, 0, 0, 0, 0]);
        }
    }

    /// Kills generation after generation: when a parent is dead, its children are ours.
    fn kill_everything(&mut self) {
        // Whoever forks all the time is to be overtaken; without the right to do that it takes longer.
        let _ = call(
            libc::SYS_setpriority,
            [libc::PRIO_PROCESS as usize, 0, -20_i32 as usize, 0, 0, 0],
        );
        self.signal(libc::SIGKILL);
        loop {
            kill_children();
            match wait(EVERY_CHILD, 0) {
                Ok((pid, status)) => self.note(pid, status),
                Err(libc::EINTR) => continue,
                Err(_) => break,
            }
            if !self.reap() {
                break;
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(signal) = self.unsent_stop
            && report(self.control, STOPPED, signal)
        {
            self.unsent_stop = None;
        }
        if let Some(status) = self.unsent_end
            && report(self.control, ENDED, status)
        {
            self.unsent_end = None;
        }
    }

    /// Nothing is left to be watched but the host, which may be slow to read.
    fn flush_blocking(&mut self) {
        self.flush();
        while self.unsent_end.is_some() {
            let mut watched = [libc::pollfd {
                fd: self.control,
                events: libc::POLLOUT,
                revents: 0,
            }];
            let poll = [watched.as_mut_ptr() as usize, 1, 0, 0, 0, 0];
            if call(libc::SYS_ppoll, poll).is_err()
                || watched[0].revents & (libc::POLLHUP | libc::POLLERR) != 0
            {
                return;
            }
            self.flush();
        }
    }
}

/// Sends SIGKILL to every child of this process.
fn kill_children() {
    let path = c"/proc/thread-self/children".as_ptr() as usize;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let Ok(list) = call(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags, 0, 0, 0]) else {
        return;
    };
    let mut buffer = [0_u8; 1024];
    let mut pid = 0_i32;
    while let Ok(bytes @ 1..) = call(
        libc::SYS_read,
        [list, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
    ) {
        for &byte in buffer.iter().take(bytes) {
            if byte.is_ascii_digit() {
                pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte & 0x0f));
            } else if pid > 0 {
                let _ = call(libc::SYS_kill, [pid as usize, libc::SIGKILL as usize, 0, 0, 0, 0]);
                pid = 0;
            }
        }
    }
    let _ = call(libc::SYS_close, [list, 0, 0, 0, 0, 0]);
}

/// Writes one line about a failed start to the request's standard error, unless that would block longer than the host
/// lives.
fn complain(job: &Job, stage: i32, errno: i32) {
    if job.error_output < 0 {
        return;
    }
    let text = match stage {
        STAGE_SWAPPED => "the program changed between decision and execution",
        _ => describe(errno),
    };
    for part in [job.error_prefix.as_slice(), text.as_bytes(), b"\n"] {
        let mut rest = part;
        while !rest.is_empty() {
            let mut watched = [
                libc::pollfd {
                    fd: job.error_output,
                    events: libc::POLLOUT,
                    revents: 0,
                },
                libc::pollfd {
                    fd: job.control,
                    events: libc::POLLIN,
                    revents: 0,
                },
            ];
            let poll = [watched.as_mut_ptr() as usize, watched.len(), 0, 0, 0, 0];
            if call(libc::SYS_ppoll, poll).is_err() || watched[1].revents != 0 {
                return;
            }
            match call(
                libc::SYS_write,
                [
                    job.error_output as usize,
                    rest.as_ptr() as usize,
                    rest.len(),
                    0,
                    0,
                    0,
                ],
            ) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(libc::EAGAIN | libc::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn report(control: RawFd, kind: i32, value: i32) -> bool {
    let message = [kind, value];
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
    let sent = call(
        libc::SYS_sendto,
        [
            control as usize,
            message.as_ptr() as usize,
            size_of_val(&message),
            flags,
            0,
            0,
        ],
    );
    // A host that is gone needs no message.
    !matches!(sent, Err(libc::EAGAIN))
}

/// Closes everything that is not in `kept` (sorted).
fn close_others(kept: &[RawFd]) {
    let mut first = 0_usize;
    for &number in kept {
        let number = number as usize;
        if number > first {
            let _ = call(libc::SYS_close_range, [first, number.wrapping_sub(1), 0, 0, 0, 0]);
        }
        first = number.wrapping_add(1);
    }
    let _ = call(libc::SYS_close_range, [first, u32::MAX as usize, 0, 0, 0, 0]);
}

/// `slice::sort` may allocate; this doesn't.
fn sort(numbers: &mut [RawFd; 3]) {
    for (a, b) in [(0, 1), (1, 2), (0, 1)] {
        if numbers[a] > numbers[b] {
            numbers.swap(a, b);
        }
    }
}

/// wait4(2), for children of any kind.
fn wait(pid: i32, options: i32) -> Result<(i32, i32), i32> {
    let mut status = 0_i32;
    let found = call(
        libc::SYS_wait4,
        [
            pid as usize,
            (&raw mut status) as usize,
            (options | libc::__WALL) as usize,
            0,
            0,
            0,
        ],
    )?;
    Ok((found as i32, status))
}

fn call(number: libc::c_long, arguments: [usize; 6]) -> SysResult {
    // SAFETY: every caller in this file passes numbers, or pointers to memory that lives across the call.
    unsafe { syscall(number, arguments) }
}
