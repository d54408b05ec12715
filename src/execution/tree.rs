//! The host's handle on one process tree: starts the supervisor, hears from it, and ends it.

use std::ffi::{CString, OsStr, OsString, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;
use std::sync::atomic::AtomicI32;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgrp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor_map::{MapError, plan};
use super::program::PinnedFile;
use super::raw::{SUPERVISOR_MEMORY, clone_process};
use super::stacks::Stacks;
use super::supervisor::{
    ENDED, FAILED_ERRNO, FAILED_STAGE, Identity, Job, Placement, STAGE_DESCRIPTORS, STAGE_EXECUTE,
    STAGE_SUPERVISOR, STAGE_SWAPPED, STAGE_WORKDIR, STARTED, STOPPED, run,
};
use crate::watch::watch;

/// Everything that a child is to have; nothing else reaches it.
#[derive(Debug)]
pub(crate) struct Spawn {
    /// The program, opened before; or why that is impossible, which the supervisor then reports like a failed start.
    pub program: Result<PinnedFile, StartFailure>,
    /// Its name for what can't be executed by descriptor, relative to the working directory.
    pub path: OsString,
    pub argv: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, opened with O_PATH, or why that is impossible.
    pub workdir: Result<OwnedFd, StartFailure>,
    pub umask: Option<u32>,
    /// Soft and hard limit of open files, where they differ from the host's.
    pub open_files: Option<(u64, u64)>,
    /// Descriptors and their numbers in the child; the numbers are distinct and possible.
    pub descriptors: Vec<(OwnedFd, RawFd)>,
    pub placement: Placement,
    /// What a line about a failed start begins with.
    pub error_prefix: Vec<u8>,
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("{0}")]
    Descriptors(#[from] MapError),
    #[error("an argument or variable contains NUL")]
    Nul(#[from] std::ffi::NulError),
    #[error("cannot start a process: {0}")]
    System(#[from] io::Error),
}

impl From<Errno> for SpawnError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// What a supervisor says about its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeEvent {
    /// The child runs its program.
    Started(Pid),
    /// The child couldn't be started.
    Failed(StartFailure),
    /// The child has been stopped by that signal.
    Stopped(i32),
    /// The child has ended by itself or was killed.
    Ended(Ending),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Killed(i32),
}

/// At which step a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub stage: Stage,
    pub errno: Errno,
}

/// The steps of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Supervisor,
    Descriptors,
    Workdir,
    Swapped,
    Execute,
}

impl Stage {
    fn number(self) -> i32 {
        match self {
            Self::Supervisor => STAGE_SUPERVISOR,
            Self::Descriptors => STAGE_DESCRIPTORS,
            Self::Workdir => STAGE_WORKDIR,
            Self::Swapped => STAGE_SWAPPED,
            Self::Execute => STAGE_EXECUTE,
        }
    }

    fn from_number(number: i32) -> Self {
        match number {
            STAGE_DESCRIPTORS => Self::Descriptors,
            STAGE_WORKDIR => Self::Workdir,
            STAGE_SWAPPED => Self::Swapped,
            STAGE_EXECUTE => Self::Execute,
            _ => Self::Supervisor,
        }
    }
}

/// A supervised process tree. Dropping it ends the whole tree.
#[derive(Debug)]
pub(crate) struct Tree {
    control: AsyncFd<OwnedFd>,
    /// Taken when the supervisor has been reaped.
    supervisor: Option<Supervisor>,
    failed_stage: Option<Stage>,
}

/// The supervisor's process and the memory that it uses.
#[derive(Debug)]
struct Supervisor {
    pid: Pid,
    stacks: Stacks,
    /// Freed when the child has started.
    job: Option<Box<JobMemory>>,
}

/// What the job's pointers point to.
struct JobMemory {
    job: Job,
    _strings: Vec<CString>,
    _argv: Vec<*const c_char>,
    _shell_argv: Vec<*const c_char>,
    _envp: Vec<*const c_char>,
}

// SAFETY: the pointers are to heap memory that the same value owns; nobody writes there but the supervisor, through atomics.
unsafe impl Send for JobMemory {}
// SAFETY: as above; there is no interior access through a shared reference.
unsafe impl Sync for JobMemory {}

impl std::fmt::Debug for JobMemory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JobMemory").finish_non_exhaustive()
    }
}

impl Tree {
    /// Starts a supervisor with its child. Must be called within a tokio runtime; blocks for some ten microseconds.
    ///
    /// # Errors
    /// When descriptors can't be mapped or no process can be made. What goes wrong later is an event.
    pub fn spawn(spawn: Spawn) -> Result<Self, SpawnError> {
        // In the order of the wire; the kernel keeps datagram boundaries and tells of the end.
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        let host = pidfd_of_this_process()?;
        let map: Vec<(RawFd, RawFd)> = spawn
            .descriptors
            .iter()
            .map(|(from, to)| (from.as_raw_fd(), *to))
            .collect();
        let opened = spawn
            .program
            .as_ref()
            .and_then(|program| Ok((program, spawn.workdir.as_ref()?)));
        let (needed, identity) = match opened.map_err(|failure| *failure) {
            Ok((program, workdir)) => (
                vec![program.descriptor().as_raw_fd(), workdir.as_raw_fd()],
                program.identity(),
            ),
            Err(_) => (Vec::new(), Identity::default()),
        };
        let (stage, errno) = match opened {
            Ok(_) => (0, 0),
            Err(failure) => (failure.stage.number(), failure.errno as i32),
        };
        let others = [theirs.as_raw_fd(), host.as_raw_fd()];
        let plan = plan(&map, &needed, &others, open_file_limit()?)?;
        let mut keep: Vec<RawFd> = map
            .iter()
            .map(|&(from, _)| from)
            .chain(needed)
            .chain(others)
            .collect();
        keep.sort_unstable();

        let mut strings = Vec::new();
        let mut pointers = |texts: Vec<Vec<u8>>| -> Result<Vec<*const c_char>, std::ffi::NulError> {
            let mut list = Vec::with_capacity(texts.len() + 1);
            for text in texts {
                let text = CString::new(text)?;
                // The bytes are on the heap: they stay where they are when the CString moves.
                list.push(text.as_ptr());
                strings.push(text);
            }
            list.push(ptr::null());
            Ok(list)
        };
        let path = pointers(vec![spawn.path.as_bytes().to_vec()])?[0];
        let argv = pointers(spawn.argv.into_iter().map(OsString::into_vec).collect())?;
        let envp = pointers(spawn.env.iter().map(|(name, value)| entry(name, value)).collect())?;
        let mut shell_argv = pointers(vec![b"/bin/sh".to_vec()])?;
        shell_argv.pop();
        shell_argv.push(path);
        shell_argv.extend(argv.get(1..).unwrap_or(&[ptr::null()]));

        let stacks = Stacks::new()?;
        let job = Job {
            control: theirs.as_raw_fd(),
            host: host.as_raw_fd(),
            keep,
            steps: plan.steps,
            program: plan.needed.first().copied().unwrap_or(-1),
            identity,
            path,
            argv: argv.as_ptr(),
            shell_argv: shell_argv.as_ptr(),
            envp: envp.as_ptr(),
            workdir: plan.needed.get(1).copied().unwrap_or(-1),
            umask: spawn.umask,
            open_files: spawn.open_files.map(|(soft, hard)| libc::rlimit64 {
                rlim_cur: soft,
                rlim_max: hard,
            }),
            placement: spawn.placement,
            host_group: getpgrp().as_raw(),
            error_output: map.iter().find(|&&(_, to)| to == 2).map_or(-1, |&(from, _)| from),
            error_prefix: spawn.error_prefix,
            child_stack_top: stacks.child_top(),
            failed_stage: AtomicI32::new(stage),
            failed_errno: AtomicI32::new(errno),
        };
        let job = Box::new(JobMemory {
            job,
            _strings: strings,
            _argv: argv,
            _shell_argv: shell_argv,
            _envp: envp,
        });
        let control = watch(ours, Interest::READABLE | Interest::WRITABLE)?;
        let pid = start_supervisor(&job.job, &stacks)?;
        // Only now may the descriptors go: the supervisor has its own table from here on.
        drop(spawn.descriptors);
        let supervisor = Some(Supervisor {
            pid,
            stacks,
            job: Some(job),
        });
        Ok(Self {
            control,
            supervisor,
            failed_stage: None,
        })
    }

    /// The next thing that happens; `None` when no process of the tree is left, and all are reaped. Cancel safe.
    pub async fn next_event(&mut self) -> Option<TreeEvent> {
        loop {
            let [kind, value] = match self.receive().await {
                Ok(Some(message)) => message,
                // The supervisor has ended; an error can't be told from that.
                Ok(None) | Err(_) => {
                    self.reap().await;
                    return None;
                }
            };
            match kind {
                STARTED => {
                    if let Some(supervisor) = &mut self.supervisor {
                        supervisor.job = None;
                    }
                    return Some(TreeEvent::Started(Pid::from_raw(value)));
                }
                FAILED_STAGE => {
                    self.failed_stage = Some(Stage::from_number(value));
                }
                FAILED_ERRNO => {
                    let stage = self.failed_stage.take().unwrap_or(Stage::Supervisor);
                    return Some(TreeEvent::Failed(StartFailure {
                        stage,
                        errno: Errno::from_raw(value),
                    }));
                }
                STOPPED => return Some(TreeEvent::Stopped(value)),
                ENDED => {
                    let ending = if libc::WIFSIGNALED(value) {
                        Ending::Killed(libc::WTERMSIG(value))
                    } else {
                        Ending::Exited(libc::WEXITSTATUS(value))
                    };
                    return Some(TreeEvent::Ended(ending));
                }
                _ => {}
            }
        }
    }

    async fn receive(&self) -> io::Result<Option<[i32; 2]>> {
        loop {
            let mut ready = self.control.readable().await?;
            let mut message = [0_u8; 8];
            match recv(self.control.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    let [a, b, c, d, e, f, g, h] = message;
                    return Ok(Some([
                        i32::from_ne_bytes([a, b, c, d]),
                        i32::from_ne_bytes([e, f, g, h]),
                    ]));
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // A supervisor that ended without reading a signal of ours resets the socket; what it had said comes next.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a signal to the child's process group. A child that has ended is left alone.
    pub fn signal(&self, signal: i32) {
        // A full socket means that hundreds of signals wait already; a supervisor that is gone needs none.
        let _ = send(
            self.control.as_raw_fd(),
            &signal.to_ne_bytes(),
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        );
    }

    /// Ends every process of the tree. [`Self::next_event`] tells when that is done.
    pub fn kill(&self) {
        let _ = shutdown(self.control.as_raw_fd(), Shutdown::Write);
    }

    /// Ends the tree and waits until nothing of it is left.
    pub async fn end(mut self) {
        self.kill();
        while self.next_event().await.is_some() {}
    }

    async fn reap(&mut self) {
        let Some(supervisor) = self.supervisor.take() else {
            return;
        };
        // It has closed its descriptors, so it is ending; but that may take a moment.
        if let Err(supervisor) = supervisor.try_reap() {
            // A runtime that ends drops the closure instead of calling it.
            let pending = PendingReap(Some(supervisor));
            let _ = tokio::task::spawn_blocking(move || pending.now()).await;
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
        drop(PendingReap(self.supervisor.take()));
    }
}

/// Reaps on a thread of its own what nobody waited for, say because the runtime has ended.
struct PendingReap(Option<Supervisor>);

impl PendingReap {
    fn now(mut self) {
        if let Some(supervisor) = self.0.take() {
            supervisor.reap();
        }
    }
}

impl Drop for PendingReap {
    fn drop(&mut self) {
        let Some(supervisor) = self.0.take() else { return };
        let Err(supervisor) = supervisor.try_reap() else {
            return;
        };
        // Without a thread the memory must be left to the supervisor, which still uses it.
        let supervisor = std::mem::ManuallyDrop::new(supervisor);
        let _ = std::thread::Builder::new()
            .name("reap-supervisor".into())
            .spawn(move || std::mem::ManuallyDrop::into_inner(supervisor).reap());
    }
}

impl Supervisor {
    fn try_reap(self) -> Result<(), Self> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        match waitpid(self.pid, Some(flags)) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) | Err(Errno::EINTR) => Err(self),
            // ECHILD: the host reaps every child of any kind by itself.
            Ok(_) | Err(_) => {
                self.free();
                Ok(())
            }
        }
    }

    fn reap(self) {
        while waitpid(self.pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
        self.free();
    }

    /// Only for a supervisor that is gone.
    fn free(self) {
        self.stacks.unmap();
    }
}

fn start_supervisor(job: &Job, stacks: &Stacks) -> Result<Pid, SpawnError> {
    let argument: *const Job = job;
    // No handler of the host may run in the supervisor, and nothing may kill it: it starts with all signals blocked.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // Exit signal 0: the host gets no SIGCHLD, and its own waitpid(-1) doesn't find the supervisor.
    // SAFETY: job and stacks live until the supervisor is reaped, or until it has said that it needs the job no more;
    // `run` keeps to what its module says.
    let pid = unsafe {
        clone_process(
            SUPERVISOR_MEMORY,
            stacks.supervisor_top(),
            run,
            argument.cast_mut().cast::<c_void>(),
        )
    };
    mask.thread_set_mask()?;
    match pid {
        Ok(pid) => Ok(Pid::from_raw(pid as i32)),
        Err(errno) => Err(Errno::from_raw(errno).into()),
    }
}

fn entry(name: &OsStr, value: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}

/// The soft limit of open files of this process.
pub(crate) fn open_file_limit() -> io::Result<u64> {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    Ok(soft)
}

fn pidfd_of_this_process() -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    match RawFd::try_from(descriptor) {
        // SAFETY: the call has just made it.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::program::open_directory;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::signal::{Signal, kill};
    use std::os::fd::AsFd;

    /// A command in the root directory, with an empty environment and nothing else of its own.
    fn command(argv: &[&str]) -> Spawn {
        let workdir = open_directory(OsStr::new("/")).unwrap();
        let program = PinnedFile::open(workdir.as_fd(), OsStr::new(argv[0])).unwrap();
        Spawn {
            program: Ok(program),
            path: argv[0].into(),
            argv: argv.iter().map(Into::into).collect(),
            env: Vec::new(),
            workdir: Ok(workdir),
            umask: None,
            open_files: None,
            descriptors: Vec::new(),
            placement: Placement::OwnGroup,
            error_prefix: Vec::new(),
        }
    }

    fn spawn(argv: &[&str]) -> Tree {
        Tree::spawn(command(argv)).unwrap()
    }

    async fn started(tree: &mut Tree) -> Pid {
        match tree.next_event().await {
            Some(TreeEvent::Started(pid)) => pid,
            other => panic!("{other:?}"),
        }
    }

    async fn in_time<T>(event: impl Future<Output = T>) -> T {
        let deadline = std::time::Duration::from_secs(20);
        tokio::time::timeout(deadline, event)
            .await
            .expect("the supervisor keeps its host waiting")
    }

    #[tokio::test]
    async fn a_child_starts_ends_and_is_reaped() {
        let mut tree = spawn(&["/bin/sh", "-c", "exit 7"]);
        let pid = started(&mut tree).await;
        assert_eq!(tree.next_event().await, Some(TreeEvent::Ended(Ending::Exited(7))));
        assert_eq!(tree.next_event().await, None);
        assert!(tree.supervisor.is_none());
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    }

    #[tokio::test]
    async fn signals_stops_and_kills_are_told() {
        let mut tree = spawn(&["/bin/sleep", "600"]);
        started(&mut tree).await;
        tree.signal(libc::SIGSTOP);
        assert_eq!(tree.next_event().await, Some(TreeEvent::Stopped(libc::SIGSTOP)));
        tree.kill();
        assert_eq!(
            tree.next_event().await,
            Some(TreeEvent::Ended(Ending::Killed(libc::SIGKILL)))
        );
        assert_eq!(tree.next_event().await, None);
    }

    #[tokio::test]
    async fn the_end_reaches_a_host_that_has_left_many_stops_unread() {
        const STOPS: usize = 1_000; // the kernel keeps some hundreds of messages for a reader
        // Whether the supervisor has somebody left to watch or not.
        for before in ["", "sleep 600 & "] {
            let stops = format!("n={STOPS}; while [ $((n -= 1)) -ge 0 ]; do kill -STOP $$; done; exit 7");
            let mut tree = spawn(&["/bin/sh", "-c", &(before.to_owned() + &stops)]);
            let pid = started(&mut tree).await;
            for _ in 0..STOPS {
                while !is_stopped(pid) {
                    std::thread::yield_now();
                }
                kill(pid, Signal::SIGCONT).unwrap();
            }
            // When it has been reaped, the supervisor knows its end.
            while kill(pid, None).is_ok() {
                std::thread::yield_now();
            }
            let mut told = 0;
            let last = loop {
                match in_time(tree.next_event()).await {
                    Some(TreeEvent::Stopped(libc::SIGSTOP)) => told += 1,
                    other => break other,
                }
            };
            assert_eq!(last, Some(TreeEvent::Ended(Ending::Exited(7))));
            assert!(told < STOPS, "{told} stops fit, so nothing had to wait");
            tree.end().await;
        }
    }

    #[tokio::test]
    async fn a_tree_that_is_dropped_leaves_no_process() {
        let mut tree = spawn(&["/bin/sleep", "600"]);
        let child = started(&mut tree).await;
        let supervisor = tree.supervisor.as_ref().unwrap().pid;
        drop(tree);
        // A zombie could still be asked about.
        for pid in [child, supervisor] {
            while kill(pid, None).is_ok() {
                std::thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn a_complaint_that_nobody_reads_keeps_no_supervisor() {
        let (_reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK).unwrap();
        while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut tree = Tree::spawn(Spawn {
            program: Err(StartFailure {
                stage: Stage::Execute,
                errno: Errno::ENOENT,
            }),
            descriptors: vec![(writer, 2)],
            error_prefix: b"command: ".to_vec(),
            ..command(&["/bin/true"])
        })
        .unwrap();
        tree.kill();
        while in_time(tree.next_event()).await.is_some() {}
    }

    fn is_stopped(pid: Pid) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        status
            .rsplit(')')
            .next()
            .is_some_and(|fields| fields.trim_start().starts_with('T'))
    }

    #[test]
    fn a_failed_stage_is_told_by_its_number() {
        for stage in [
            Stage::Supervisor,
            Stage::Descriptors,
            Stage::Workdir,
            Stage::Swapped,
            Stage::Execute,
        ] {
            assert_eq!(Stage::from_number(stage.number()), stage);
        }
    }

    #[tokio::test]
    async fn limits_of_open_files_are_the_child_s_own() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut tree = Tree::spawn(Spawn {
            open_files: Some((33, 44)),
            descriptors: vec![(writer, 1)],
            ..command(&["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"])
        })
        .unwrap();
        while tree.next_event().await.is_some() {}
        let mut output = [0; 64];
        let bytes = nix::unistd::read(&reader, &mut output).unwrap();
        assert_eq!(&output[..bytes], b"33\n44\n");
        assert_ne!(open_file_limit().unwrap(), 33);
    }

    #[tokio::test]
    async fn a_supervisor_that_is_killed_takes_its_child_along() {
        let mut tree = spawn(&["/bin/sleep", "600"]);
        let pid = started(&mut tree).await;
        let supervisor = tree.supervisor.as_ref().unwrap().pid;
        // SAFETY: two integers.
        let child = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        // SAFETY: just made.
        let child = unsafe { OwnedFd::from_raw_fd(i32::try_from(child).unwrap()) };
        kill(supervisor, Signal::SIGKILL).unwrap();
        assert_eq!(tree.next_event().await, None);
        let mut watched = [nix::poll::PollFd::new(
            child.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        assert_eq!(
            nix::poll::poll(&mut watched, 10_000_u16),
            Ok(1),
            "the child lives on"
        );
    }

    #[tokio::test]
    async fn a_script_that_is_another_file_by_now_is_not_executed_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for first_line in ["#!/bin/sh", ": for a shell, since there is no interpreter"] {
            let [decided, other] = ["decided", "other"].map(|name| {
                let path = folder.path().join(name);
                std::fs::write(&path, format!("{first_line}\nexit 9\n")).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&path, mode).unwrap();
                path
            });
            for (path, expected) in [
                (&decided, TreeEvent::Ended(Ending::Exited(9))),
                (
                    &other,
                    TreeEvent::Failed(StartFailure {
                        stage: Stage::Swapped,
                        errno: Errno::ESTALE,
                    }),
                ),
            ] {
                let mut tree = Tree::spawn(Spawn {
                    path: path.into(),
                    ..command(&[decided.to_str().unwrap()])
                })
                .unwrap();
                let mut last = None;
                while let Some(event) = tree.next_event().await {
                    last = Some(event);
                }
                assert_eq!(last, Some(expected), "{first_line}");
            }
        }
    }

    #[tokio::test]
    async fn nul_in_an_argument_starts_nothing() {
        let spawned = Tree::spawn(command(&["/bin/sh", "a\0b"]));
        assert!(matches!(spawned, Err(SpawnError::Nul(_))), "{spawned:?}");
    }
}
