//! Starts a process with exactly the descriptors, signal state and attributes that a case asks for.
//!
//! The standard library's `Command` cannot leave 0, 1, 2 closed, resets SIGPIPE, and owns a descriptor that a
//! descriptor map may hit, so this is fork(2), a few calls, execve(2).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use crate::system::clock::Moment;
use crate::system::poll::any_readable_until;
use crate::system::process::{self, Ended, ProcessHandle};
use crate::verdict::{CaseError, harness, violation};

/// First number to which sources are moved, above every number that a case maps to.
const PARKING: RawFd = 600;

/// Highest signal number, real-time ones included.
const LAST_SIGNAL: i32 = 64;

/// A descriptor of the new process.
#[derive(Debug)]
enum Placement {
    Open(OwnedFd),
    Closed,
}

/// What a new process starts with. Everything that is not set is as in a fresh login: default dispositions,
/// empty mask, 0, 1, 2 at /dev/null, no other descriptor.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    directory: PathBuf,
    descriptors: BTreeMap<RawFd, Placement>,
    ignored: Vec<i32>,
    blocked: Vec<i32>,
    umask: u32,
    limits: Vec<(libc::__rlimit_resource_t, u64, u64)>,
    nice: i32,
    pid_namespace: bool,
    grouping: Grouping,
    /// Where [`Grouping::TerminalAt`] finds its terminal.
    terminal: Option<PathBuf>,
    filter: Option<Vec<libc::sock_filter>>,
    steps: Vec<fn() -> libc::c_int>,
    crowded_below: RawFd,
}

/// Process group and session of a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grouping {
    Inherited,
    Group,
    Joined(i32),
    Session,
    Terminal(RawFd),
    TerminalAt,
}

impl Launch {
    /// A launch of `program`, in `directory`, with itself as the only argument and an empty environment.
    pub fn new(program: impl AsRef<Path>, directory: impl AsRef<Path>) -> Launch {
        Launch {
            program: program.as_ref().to_owned(),
            arguments: vec![program.as_ref().as_os_str().to_owned()],
            environment: Vec::new(),
            directory: directory.as_ref().to_owned(),
            descriptors: BTreeMap::new(),
            ignored: Vec::new(),
            blocked: Vec::new(),
            umask: 0o022,
            limits: Vec::new(),
            nice: 0,
            pid_namespace: false,
            grouping: Grouping::Group,
            terminal: None,
            filter: None,
            steps: Vec::new(),
            crowded_below: 0,
        }
    }

    /// Starts in another directory.
    pub fn in_directory(mut self, directory: impl AsRef<Path>) -> Launch {
        directory.as_ref().clone_into(&mut self.directory);
        self
    }

    /// The whole argument vector, `argv[0]` included.
    pub fn arguments<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Launch {
        self.arguments = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        self
    }

    /// Adds one entry of the environment, `NAME=value` (or any other bytes).
    pub fn environment_entry(mut self, entry: impl AsRef<OsStr>) -> Launch {
        self.environment.push(entry.as_ref().to_owned());
        self
    }

    /// Adds a variable.
    pub fn variable(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Launch {
        let mut entry = name.as_ref().to_owned();
        entry.push("=");
        entry.push(value);
        self.environment_entry(entry)
    }

    /// The open file that the process has as descriptor `number`.
    pub fn descriptor(mut self, number: RawFd, descriptor: impl Into<OwnedFd>) -> Launch {
        assert!(
            number < PARKING,
            "descriptor {number} of a launch must be under {PARKING}"
        );
        self.descriptors
            .insert(number, Placement::Open(descriptor.into()));
        self
    }

    /// The descriptors of another launch that was never started, in addition to (or in place of) its own.
    pub fn descriptors_of(mut self, other: Launch) -> Launch {
        self.descriptors.extend(other.descriptors);
        self
    }

    /// Descriptor `number` is closed in the process.
    pub fn closed(mut self, number: RawFd) -> Launch {
        self.descriptors.insert(number, Placement::Closed);
        self
    }

    /// Whether something has been said about descriptor `number`.
    pub fn mentions(&self, number: RawFd) -> bool {
        self.descriptors.contains_key(&number)
    }

    /// Starts with this signal ignored.
    pub fn ignoring(mut self, signal: i32) -> Launch {
        self.ignored.push(signal);
        self
    }

    /// Starts with this signal blocked.
    pub fn blocking(mut self, signal: i32) -> Launch {
        self.blocked.push(signal);
        self
    }

    /// Starts with this umask.
    pub fn umask(mut self, umask: u32) -> Launch {
        self.umask = umask;
        self
    }

    /// Starts with this soft and hard limit, such as `RLIMIT_NOFILE` and 16.
    pub fn limit(self, resource: libc::__rlimit_resource_t, value: u64) -> Launch {
        self.limits(resource, value, value)
    }

    /// Starts with this soft and that hard limit.
    pub fn limits(mut self, resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> Launch {
        self.limits.push((resource, soft, hard));
        self
    }

    /// Starts with all descriptors below `number` open: those that it isn't given are its standard input again.
    pub fn crowded_below(mut self, number: RawFd) -> Launch {
        self.crowded_below = number;
        self
    }

    /// Calls `step` as the last thing before execve(2); a negative result is an error in errno.
    ///
    /// # Safety
    /// It runs in the child of a fork: only what signal-safety(7) allows, and no allocation.
    pub unsafe fn prepared_by(mut self, step: fn() -> libc::c_int) -> Launch {
        self.steps.push(step);
        self
    }

    /// Starts as the first process of a new pid namespace, which sees the /proc of this one.
    pub fn in_pid_namespace(mut self) -> Launch {
        self.pid_namespace = true;
        self
    }

    /// Starts with this niceness.
    pub fn nice(mut self, nice: i32) -> Launch {
        self.nice = nice;
        self
    }

    /// Stays in the process group of the case (by default a process gets a group of its own).
    pub fn in_own_group_of_the_case(mut self) -> Launch {
        self.grouping = Grouping::Inherited;
        self
    }

    /// Joins another process's group.
    pub fn in_group(mut self, group: i32) -> Launch {
        self.grouping = Grouping::Joined(group);
        self
    }

    /// Starts as the leader of a session without a terminal.
    pub fn in_new_session(mut self) -> Launch {
        self.grouping = Grouping::Session;
        self
    }

    /// Starts as the leader of a session whose controlling terminal is the file at descriptor `number`.
    pub fn on_terminal(mut self, number: RawFd) -> Launch {
        self.grouping = Grouping::Terminal(number);
        self
    }

    /// Starts as the leader of a session whose controlling terminal is the one at `path`, which it doesn't have open.
    pub fn on_terminal_at(mut self, path: impl AsRef<Path>) -> Launch {
        self.grouping = Grouping::TerminalAt;
        self.terminal = Some(path.as_ref().to_owned());
        self
    }

    /// Starts under this seccomp filter (and with no_new_privs).
    pub fn filter(mut self, filter: Vec<libc::sock_filter>) -> Launch {
        self.filter = Some(filter);
        self
    }

    /// Starts the process. Returns when execve(2) has succeeded.
    ///
    /// # Errors
    /// A harness error where a call before execve fails; a violation where the program cannot be executed.
    pub fn start(mut self) -> Result<Launched, CaseError> {
        for number in 0..=2 {
            if let Entry::Vacant(free) = self.descriptors.entry(number) {
                let null = File::options().read(true).write(true).open("/dev/null")?;
                free.insert(Placement::Open(null.into()));
            }
        }
        let prepared = Prepared::new(&self)?;
        let (report_reader, report_writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let child = if self.pid_namespace {
            fork_in_pid_namespace()?
        } else {
            fork()?
        };
        match child {
            0 => prepared.become_the_program(report_writer.as_raw_fd()),
            child => {
                drop(report_writer);
                let pid = Pid::from_raw(child);
                let mut report = Vec::new();
                std::io::Read::read_to_end(&mut File::from(report_reader), &mut report)?;
                let handle = ProcessHandle::open(pid)?
                    .ok_or_else(|| harness("a child vanished before it was waited for"))?;
                if let [step, errno @ ..] = report.as_slice() {
                    handle.reap()?;
                    let errno = Errno::from_raw(i32::from_ne_bytes(errno.try_into().unwrap_or_default()));
                    let program = self.program.display();
                    return Err(match step {
                        b'x' => violation(
                            format_args!("{program} can be executed"),
                            format_args!("execve: {errno}"),
                        ),
                        step => harness(format_args!(
                            "starting {program}: step '{}' before execve failed: {errno}",
                            char::from(*step)
                        )),
                    });
                }
                Ok(Launched {
                    pid,
                    handle,
                    reaped: None,
                })
            }
        }
    }
}

/// Between this and execve the child calls only functions that signal-safety(7) allows, on memory that was prepared before.
fn fork() -> Result<libc::pid_t, CaseError> {
    // SAFETY: see above, which holds for `Launch::start` alone.
    Ok(Errno::result(unsafe { libc::fork() })?)
}

/// The same, where the child is the first process of a new pid namespace.
fn fork_in_pid_namespace() -> Result<libc::pid_t, CaseError> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|error| {
        CaseError::NotApplicable(format!("a pid namespace is needed, and cannot be made: {error}"))
    })?;
    let child = fork()?;
    if child != 0 {
        // A process can't have threads while its next child would be in another namespace.
        setns(own, CloneFlags::CLONE_NEWPID)?;
    }
    Ok(child)
}

/// Everything that the child needs, allocated before the fork.
struct Prepared {
    program: CString,
    arguments: Vec<CString>,
    argument_pointers: Vec<*const libc::c_char>,
    environment: Vec<CString>,
    environment_pointers: Vec<*const libc::c_char>,
    directory: CString,
    /// (source, number); a source of -1 closes.
    descriptors: Vec<(RawFd, RawFd)>,
    parked: Vec<RawFd>,
    ignored: u64,
    blocked: u64,
    umask: u32,
    limits: Vec<(libc::__rlimit_resource_t, u64, u64)>,
    nice: i32,
    grouping: Grouping,
    terminal: CString,
    filter: Option<Vec<libc::sock_filter>>,
    steps: Vec<fn() -> libc::c_int>,
    crowded_below: RawFd,
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// The kernel's signal set: bit N-1 for signal N.
fn signal_set(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// The kernel's `struct sigaction` of x86_64 and aarch64.
///
/// The C library refuses the two real-time signals that it keeps for itself, in dispositions and in masks; what
/// a process inherits may hold them all the same, so these two calls go past the library.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Bytes of the kernel's signal set.
const SIGNAL_SET_SIZE: usize = size_of::<u64>();

fn c_string(bytes: &OsStr) -> Result<CString, CaseError> {
    CString::new(bytes.as_bytes()).map_err(|_| harness(format_args!("{} holds a NUL", bytes.display())))
}

impl Prepared {
    fn new(launch: &Launch) -> Result<Prepared, CaseError> {
        let arguments = launch
            .arguments
            .iter()
            .map(|text| c_string(text))
            .collect::<Result<Vec<_>, _>>()?;
        let environment = launch
            .environment
            .iter()
            .map(|text| c_string(text))
            .collect::<Result<Vec<_>, _>>()?;
        let descriptors = launch
            .descriptors
            .iter()
            .map(|(number, placement)| match placement {
                Placement::Open(descriptor) => (descriptor.as_raw_fd(), *number),
                Placement::Closed => (-1, *number),
            })
            .collect::<Vec<_>>();
        Ok(Prepared {
            program: c_string(launch.program.as_os_str())?,
            argument_pointers: pointers(&arguments),
            arguments,
            environment_pointers: pointers(&environment),
            environment,
            directory: c_string(launch.directory.as_os_str())?,
            parked: vec![-1; descriptors.len()],
            descriptors,
            ignored: signal_set(&launch.ignored),
            blocked: signal_set(&launch.blocked),
            umask: launch.umask,
            limits: launch.limits.clone(),
            nice: launch.nice,
            grouping: launch.grouping,
            terminal: c_string(launch.terminal.as_deref().unwrap_or(Path::new("")).as_os_str())?,
            filter: launch.filter.clone(),
            steps: launch.steps.clone(),
            crowded_below: launch.crowded_below,
        })
    }

    /// In the child: everything up to execve(2). Reports a failed step over `report` and never returns.
    fn become_the_program(mut self, report: RawFd) -> ! {
        debug_assert_eq!(self.arguments.len() + 1, self.argument_pointers.len());
        debug_assert_eq!(self.environment.len() + 1, self.environment_pointers.len());
        let mut report = report;
        let step = match self.prepare(&mut report) {
            Err(step) => step,
            Ok(()) => {
                // SAFETY: program and the null-terminated vectors live until the process image is replaced.
                unsafe {
                    libc::execve(
                        self.program.as_ptr(),
                        self.argument_pointers.as_ptr(),
                        self.environment_pointers.as_ptr(),
                    );
                }
                b'x'
            }
        };
        let errno = Errno::last_raw().to_ne_bytes();
        let message = [step, errno[0], errno[1], errno[2], errno[3]];
        // SAFETY: write(2) reads five bytes of ours; _exit(2) ends the child without running the parent's handlers.
        unsafe {
            libc::write(report, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    }

    fn prepare(&mut self, report: &mut RawFd) -> Result<(), u8> {
        // SAFETY: each call takes integers or pointers to memory of ours that outlives it; all are on the list
        // of signal-safety(7) or are plain system calls.
        unsafe {
            for signal in 1..=LAST_SIGNAL {
                let ignored = self.ignored & (1 << (signal - 1)) != 0;
                let action = KernelAction {
                    handler: if ignored { libc::SIG_IGN } else { libc::SIG_DFL },
                    flags: 0,
                    restorer: 0,
                    mask: 0,
                };
                // SIGKILL and SIGSTOP cannot be set; all others can.
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    &raw const action,
                    std::ptr::null_mut::<KernelAction>(),
                    SIGNAL_SET_SIZE,
                );
            }
            match self.grouping {
                Grouping::Inherited => {}
                Grouping::Group => check(libc::setpgid(0, 0), b'g')?,
                Grouping::Joined(group) => check(libc::setpgid(0, group), b'g')?,
                Grouping::Session | Grouping::Terminal(_) => check(libc::setsid(), b's')?,
                Grouping::TerminalAt => {
                    check(libc::setsid(), b's')?;
                    // The first terminal that a session's leader opens is the session's.
                    let terminal = libc::open(self.terminal.as_ptr(), libc::O_RDWR);
                    check(terminal, b't')?;
                    libc::close(terminal);
                }
            }
            *report = libc::fcntl(*report, libc::F_DUPFD_CLOEXEC, PARKING);
            check(*report, b'r')?;
            for ((source, _), parked) in self.descriptors.iter().zip(&mut self.parked) {
                if *source >= 0 {
                    *parked = libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, PARKING);
                    check(*parked, b'p')?;
                }
            }
            let status = libc::syscall(
                libc::SYS_close_range,
                0,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            check(i32::from(status != 0).wrapping_neg(), b'c')?;
            for ((_, number), parked) in self.descriptors.iter().zip(&self.parked) {
                if *parked >= 0 {
                    check(libc::dup2(*parked, *number), b'd')?;
                } else {
                    libc::close(*number);
                }
            }
            if let Grouping::Terminal(number) = self.grouping {
                check(libc::ioctl(number, libc::TIOCSCTTY, 0), b't')?;
            }
            check(libc::chdir(self.directory.as_ptr()), b'w')?;
            libc::umask(self.umask);
            if self.nice != 0 {
                check(libc::setpriority(libc::PRIO_PROCESS, 0, self.nice), b'n')?;
            }
            for (resource, soft, hard) in &self.limits {
                let limit = libc::rlimit {
                    rlim_cur: *soft,
                    rlim_max: *hard,
                };
                check(libc::setrlimit(*resource, &raw const limit), b'l')?;
            }
            if self.crowded_below > 0 {
                // Out of the way: what is closed by execve(2) would leave a gap.
                *report = libc::fcntl(*report, libc::F_DUPFD_CLOEXEC, self.crowded_below);
                check(*report, b'r')?;
            }
            for number in 0..self.crowded_below {
                let flags = libc::fcntl(number, libc::F_GETFD);
                if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
                    check(libc::dup2(0, number), b'o')?;
                }
            }
            let status = libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const self.blocked,
                std::ptr::null_mut::<u64>(),
                SIGNAL_SET_SIZE,
            );
            check(status as libc::c_int, b'm')?;
            for step in &self.steps {
                check(step(), b'a')?;
            }
            if let Some(filter) = &mut self.filter {
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), b'f')?;
                let program = libc::sock_fprog {
                    len: filter.len() as u16,
                    filter: filter.as_mut_ptr(),
                };
                check(
                    libc::prctl(
                        libc::PR_SET_SECCOMP,
                        libc::SECCOMP_MODE_FILTER,
                        &raw const program,
                    ),
                    b'F',
                )?;
            }
        }
        Ok(())
    }
}

fn check(status: libc::c_int, step: u8) -> Result<(), u8> {
    if status < 0 { Err(step) } else { Ok(()) }
}

/// A process that the suite started. Dropping it kills and reaps it.
pub struct Launched {
    /// Its number.
    pub pid: Pid,
    handle: ProcessHandle,
    reaped: Option<Ended>,
}

impl Launched {
    /// Its pidfd.
    pub fn handle(&self) -> &ProcessHandle {
        &self.handle
    }

    /// Waits until it ends; `what` names it.
    ///
    /// # Errors
    /// A violation where it still runs after `patience`.
    pub fn wait(&mut self, what: &str, patience: Duration) -> Result<Ended, CaseError> {
        if let Some(ended) = self.reaped {
            return Ok(ended);
        }
        self.handle.expect_end(what, patience)?;
        let ended = self.handle.reap()?;
        self.reaped = Some(ended);
        Ok(ended)
    }

    /// Whether it has ended, without waiting.
    pub fn has_ended(&self) -> Result<bool, CaseError> {
        Ok(self.reaped.is_some() || self.handle.ended_within(Duration::ZERO)?)
    }

    /// Waits until `socket` can be read or the process has ended; false where neither happens.
    pub fn readable_or_ended(&self, socket: &impl AsFd, patience: Duration) -> Result<bool, CaseError> {
        any_readable_until(&[socket.as_fd(), self.handle.as_fd()], Moment::now() + patience)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) -> Result<(), CaseError> {
        self.handle.signal(signal)
    }

    /// What /proc says about it.
    pub fn state(&self) -> Option<process::ProcessState> {
        process::state(self.pid.as_raw())
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            // The case is over, one way or another; a process that cannot be signalled is found by the census.
            let _ = self.handle.signal(libc::SIGKILL);
            let _ = self.handle.reap();
        }
    }
}

/// The hard limit of this process, above which none can be set without a capability (setrlimit(2)).
pub fn hard_limit(resource: libc::__rlimit_resource_t) -> Result<u64, CaseError> {
    Ok(own_limits(resource)?.1)
}

/// Soft and hard limit of this process.
pub fn own_limits(resource: libc::__rlimit_resource_t) -> Result<(u64, u64), CaseError> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes to `limit`.
    nix::errno::Errno::result(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Does a case apply that launches with a niceness below 0? That takes a capability or a limit (getpriority(2)).
///
/// # Errors
/// It doesn't apply where this process can't have one.
pub fn needs_niceness_below_0() -> Result<(), CaseError> {
    // SAFETY: getpriority and setpriority take integers. It can always go back up.
    unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        Errno::result(libc::setpriority(libc::PRIO_PROCESS, 0, -20)).map_err(|error| {
            CaseError::NotApplicable(format!("a niceness below 0 is needed, and can't be had: {error}"))
        })?;
        Errno::result(libc::setpriority(libc::PRIO_PROCESS, 0, own))?;
    }
    Ok(())
}

/// A copy of a descriptor, close-on-exec.
pub fn duplicate(descriptor: &impl AsFd) -> Result<OwnedFd, CaseError> {
    Ok(descriptor.as_fd().try_clone_to_owned()?)
}

/// A pipe: reading end, writing end, both close-on-exec.
pub fn pipe() -> Result<(File, File), CaseError> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((File::from(reader), File::from(writer)))
}
