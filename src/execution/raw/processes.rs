//! System calls about processes: who they are, how they end, what they execute.

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;

use super::arch::{Result, syscall};

/// Arguments or environment as execve(2) wants them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strings<'a> {
    first: *const *const c_char,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    /// # Safety
    /// All pointers but the last must be to C strings that live as long as `'a`; the last must be null.
    pub(crate) unsafe fn from_pointers(pointers: &'a [*const c_char]) -> Self {
        Self {
            first: pointers.as_ptr(),
            strings: PhantomData,
        }
    }

    /// All pointers but the last.
    #[cfg(test)]
    pub(crate) fn pointers(self) -> impl Iterator<Item = *const c_char> {
        // SAFETY: `from_pointers` was promised that the list ends with a null pointer.
        let at = move |index| unsafe { *self.first.add(index) };
        (0..).map(at).take_while(|pointer| !pointer.is_null())
    }
}

/// execveat(2) of the opened file itself. It returns only when it has failed.
pub(crate) fn execveat(program: RawFd, argv: Strings<'_>, environment: Strings<'_>) -> Errno {
    let arguments = [
        program as usize,
        c"".as_ptr() as usize,
        argv.first as usize,
        environment.first as usize,
        libc::AT_EMPTY_PATH as usize,
    ];
    // SAFETY: `Strings` are null-terminated vectors of C strings, and the path is a C string.
    let failed = unsafe { syscall(libc::SYS_execveat, arguments) };
    failed.err().unwrap_or(Errno::UnknownErrno)
}

/// execve(2). It returns only when it has failed.
pub(crate) fn execve(path: &CStr, argv: Strings<'_>, environment: Strings<'_>) -> Errno {
    let arguments = [
        path.as_ptr() as usize,
        argv.first as usize,
        environment.first as usize,
    ];
    // SAFETY: `Strings` are null-terminated vectors of C strings, and the path is a C string.
    let failed = unsafe { syscall(libc::SYS_execve, arguments) };
    failed.err().unwrap_or(Errno::UnknownErrno)
}

/// wait4(2), for children of any kind: pid and wait status; pid 0 if WNOHANG finds no change.
pub(crate) fn wait4(pid: i32, options: c_int) -> Result<(i32, c_int)> {
    let mut status: c_int = 0;
    let arguments = [
        pid as usize,
        (&raw mut status) as usize,
        (options | libc::__WALL) as usize,
        ptr::null::<libc::rusage>() as usize,
    ];
    // SAFETY: the kernel writes one status, and no usage to a null pointer.
    let found = unsafe { syscall(libc::SYS_wait4, arguments) }?;
    Ok((found as i32, status))
}

/// What waitid(2) tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is stopped by that signal; this is told once.
    Stopped(i32),
    /// It is traced by [`end_with_this`], has executed a program, and is stopped before its first instruction.
    Executed,
    /// It has exited by itself, and can still be waited for.
    Exited,
    /// A signal has ended it, and it can still be waited for.
    Killed,
}

/// Waits until a child has stopped or ended.
pub(crate) fn next_change(pid: i32) -> Result<Change> {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
    loop {
        // SAFETY: all-zero is a valid siginfo_t.
        let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let arguments = [
            libc::P_PID as usize,
            pid as usize,
            (&raw mut found) as usize,
            options as usize,
            ptr::null::<libc::rusage>() as usize,
        ];
        // SAFETY: the kernel writes one siginfo_t, and no usage to a null pointer.
        match unsafe { syscall(libc::SYS_waitid, arguments) } {
            Err(Errno::EINTR) => continue,
            waited => waited?,
        };
        match found.si_code {
            libc::CLD_STOPPED | libc::CLD_TRAPPED => {}
            libc::CLD_EXITED => return Ok(Change::Exited),
            _ => return Ok(Change::Killed),
        }
        match wait4(pid, libc::WNOHANG | libc::WUNTRACED)? {
            (stopped, status) if stopped == pid && status >> 16 == libc::PTRACE_EVENT_EXEC => {
                return Ok(Change::Executed);
            }
            (stopped, status) if stopped == pid && libc::WIFSTOPPED(status) => {
                return Ok(Change::Stopped(libc::WSTOPSIG(status)));
            }
            _ => {}
        }
    }
}

/// ptrace(2), PTRACE_TRACEME: the parent traces this process.
pub(crate) fn be_traced() -> Result<()> {
    ptrace(libc::PTRACE_TRACEME as usize, 0, 0, 0)
}

/// ptrace(2), PTRACE_SETOPTIONS of a traced child that is stopped: it is killed when this process ends, and stops after each
/// execve, which [`next_change`] tells from any other stop.
pub(crate) fn end_with_this(pid: i32) -> Result<()> {
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC;
    ptrace(libc::PTRACE_SETOPTIONS as usize, pid, 0, options as usize)
}

/// ptrace(2), PTRACE_SETSIGMASK of a traced child that is stopped: no signal is blocked from now on.
pub(crate) fn unblock_all_of(pid: i32) -> Result<()> {
    let nothing = 0_u64;
    let data = ptr::from_ref(&nothing) as usize;
    ptrace(libc::PTRACE_SETSIGMASK as usize, pid, size_of::<u64>(), data)
}

/// ptrace(2), PTRACE_CONT, without a signal.
pub(crate) fn continue_traced(pid: i32) -> Result<()> {
    ptrace(libc::PTRACE_CONT as usize, pid, 0, 0)
}

/// ptrace(2), PTRACE_DETACH, without a signal.
pub(crate) fn let_go(pid: i32) -> Result<()> {
    ptrace(libc::PTRACE_DETACH as usize, pid, 0, 0)
}

fn ptrace(request: usize, pid: i32, address: usize, data: usize) -> Result<()> {
    // SAFETY: of the requests above one reads a signal set, which lives, and the others touch no memory.
    unsafe { syscall(libc::SYS_ptrace, [request, pid as usize, address, data]) }.map(drop)
}

/// kill(2); a negative pid is a process group.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: two integers.
    unsafe { syscall(libc::SYS_kill, [pid as usize, signal as usize]) }.map(drop)
}

/// setsid(2)
pub(crate) fn setsid() -> Result<()> {
    // SAFETY: no arguments.
    unsafe { syscall(libc::SYS_setsid, []) }.map(drop)
}

/// setpgid(2) of this process; group 0 is a new one.
pub(crate) fn setpgid(group: i32) -> Result<()> {
    // SAFETY: two integers.
    unsafe { syscall(libc::SYS_setpgid, [0, group as usize]) }.map(drop)
}

/// setpriority(2) of this process to the highest priority, which needs CAP_SYS_NICE or RLIMIT_NICE.
pub(crate) fn raise_priority() -> Result<()> {
    let highest: c_int = -20;
    // SAFETY: three integers.
    unsafe {
        syscall(
            libc::SYS_setpriority,
            [libc::PRIO_PROCESS as usize, 0, highest as usize],
        )
    }
    .map(drop)
}

/// prctl(2), PR_SET_CHILD_SUBREAPER: orphans among the descendants become this process's children.
pub(crate) fn become_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// prctl(2), PR_SET_DUMPABLE: this process leaves no core, whatever happens to it, until it executes another program.
pub(crate) fn never_dump() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// prctl(2), PR_SET_PDEATHSIG: this process gets SIGKILL when its parent ends.
pub(crate) fn follow_parent_into_death() -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize)
}

/// prctl(2), PR_SET_PDEATHSIG: this process gets SIGCONT when its parent ends, or the thread of it that made this process.
pub(crate) fn be_continued_after_parent() -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGCONT as usize)
}

/// getpid(2)
pub(crate) fn getpid() -> i32 {
    // SAFETY: no arguments.
    unsafe { syscall(libc::SYS_getpid, []) }.map_or(0, |pid| pid as i32)
}

/// pidfd_open(2): close-on-exec, and readable when the process has ended.
pub(crate) fn pidfd_open(pid: i32) -> Result<RawFd> {
    // SAFETY: integers.
    unsafe { syscall(libc::SYS_pidfd_open, [pid as usize, 0]) }.map(|descriptor| descriptor as RawFd)
}

fn prctl(option: c_int, argument: usize) -> Result<()> {
    // SAFETY: the options above take integers.
    unsafe { syscall(libc::SYS_prctl, [option as usize, argument, 0, 0, 0]) }.map(drop)
}

/// prctl(2), PR_SET_NAME: as ps(1) shows it; 15 bytes.
pub(crate) fn set_name(name: &CStr) -> Result<()> {
    let arguments = [libc::PR_SET_NAME as usize, name.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads up to the NUL.
    unsafe { syscall(libc::SYS_prctl, arguments) }.map(drop)
}

/// prlimit(2), a limit of this process.
pub(crate) fn set_limit(resource: u32, limit: &libc::rlimit64) -> Result<()> {
    let new = ptr::from_ref(limit) as usize;
    // SAFETY: the kernel reads one limit, and writes none to a null pointer.
    unsafe { syscall(libc::SYS_prlimit64, [0, resource as usize, new, 0]) }.map(drop)
}

/// setpriority(2) of this process, if that makes it nicer.
pub(crate) fn be_at_least_as_nice(nice: c_int) -> Result<()> {
    /// The kernel gives this minus the niceness, which is never negative.
    const ABOVE_ALL: c_int = 20;
    let process = libc::PRIO_PROCESS as usize;
    // SAFETY: integers.
    let priority = unsafe { syscall(libc::SYS_getpriority, [process, 0]) }?;
    if nice <= ABOVE_ALL.wrapping_sub(priority as c_int) {
        return Ok(());
    }
    // SAFETY: integers.
    unsafe { syscall(libc::SYS_setpriority, [process, 0, nice as usize]) }.map(drop)
}

/// prlimit(2): soft and hard limit of this process.
pub(crate) fn limit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let old = (&raw mut limit) as usize;
    // SAFETY: the kernel reads no limit from a null pointer, and writes one.
    unsafe { syscall(libc::SYS_prlimit64, [0, resource as usize, 0, old]) }?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// How urgent this process is for processors and disks, as the system calls say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Priorities {
    /// Policy, niceness, real-time priority and clamps; nothing where the call fails.
    attributes: [u8; ATTRIBUTES],
    disks: Option<usize>,
}

/// Larger than struct sched_attr of sched_getattr(2), which has 56 bytes today.
const ATTRIBUTES: usize = 128;

/// sched_getattr(2) and ioprio_get(2) of this process.
pub(crate) fn priorities() -> Priorities {
    const IOPRIO_WHO_PROCESS: usize = 1;
    let mut attributes = [0; ATTRIBUTES];
    let address = attributes.as_mut_ptr() as usize;
    // SAFETY: integers, and room of that size, of which the kernel writes as much as it knows.
    unsafe {
        let _ = syscall(libc::SYS_sched_getattr, [0, address, ATTRIBUTES, 0]);
        Priorities {
            disks: syscall(libc::SYS_ioprio_get, [IOPRIO_WHO_PROCESS, 0]).ok(),
            attributes,
        }
    }
}

/// keyctl(2), KEYCTL_GET_KEYRING_ID: the session keyring of this process, which its children inherit, and one of which can give
/// it another (KEYCTL_SESSION_TO_PARENT).
pub(crate) fn session_keyring() -> Result<usize> {
    const GET_KEYRING_ID: usize = 0;
    const SESSION_KEYRING: usize = -3_isize as usize;
    // SAFETY: integers.
    unsafe { syscall(libc::SYS_keyctl, [GET_KEYRING_ID, SESSION_KEYRING, 0]) }
}

/// sched_getaffinity(2): the processors on which this process may run, as bits. Nothing is written where they don't fit.
pub(crate) fn processors(bits: &mut [u8]) {
    let arguments = [0, bits.len(), bits.as_mut_ptr() as usize];
    // SAFETY: the kernel writes at most as many bytes as there are.
    let _ = unsafe { syscall(libc::SYS_sched_getaffinity, arguments) };
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// What a tracer and its child do: the child stops once it is traced, and the tracer ends while it runs.
    fn trace_and_end(pid: &impl AsRawFd) -> Result<()> {
        // SAFETY: this process and its child only make system calls.
        match unsafe { fork() }? {
            ForkResult::Child => {
                be_traced()?;
                kill(std::process::id() as i32, libc::SIGSTOP)?;
                loop {
                    // SAFETY: it only waits.
                    unsafe { libc::pause() };
                }
            }
            ForkResult::Parent { child } => {
                let child = child.as_raw();
                let number = child.to_ne_bytes();
                // SAFETY: four bytes that live.
                unsafe { libc::write(pid.as_raw_fd(), number.as_ptr().cast(), number.len()) };
                while next_change(child)? != Change::Stopped(libc::SIGSTOP) {}
                end_with_this(child)?;
                continue_traced(child)
            }
        }
    }

    #[test]
    fn what_is_traced_ends_with_its_tracer() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the child only makes system calls, and leaves without returning.
        let ForkResult::Parent { child: tracer } = (unsafe { fork() }).unwrap() else {
            let status = i32::from(trace_and_end(&writer).is_err());
            // SAFETY: it ends this process.
            unsafe { libc::_exit(status) }
        };
        drop(writer);
        let mut traced = [0; 4];
        reader.read_exact(&mut traced).unwrap();
        assert_eq!(wait4(tracer.as_raw(), 0).unwrap(), (tracer.as_raw(), 0));
        // The pipe is closed when nobody holds its other end.
        let mut wanted = [PollFd::new(std::os::fd::AsFd::as_fd(&reader), PollFlags::POLLIN)];
        let ended = poll(&mut wanted, PollTimeout::from(10_000_u16)).unwrap();
        if ended == 0 {
            kill(i32::from_ne_bytes(traced), libc::SIGKILL).unwrap();
        }
        assert_eq!(ended, 1, "it lives on without its tracer");
        assert_eq!(reader.read(&mut traced).unwrap(), 0);
    }
}
