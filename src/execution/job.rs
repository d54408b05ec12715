//! Builds the supervisor's job from what the child is to have; this runs in the host and may allocate.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicI32;

use nix::errno::Errno;
use nix::unistd::getpgrp;

use super::channel::SupervisorEnd;
use super::child::ChildSetup;
use super::descriptor_map::{MapError, open_file_limit, plan};
use super::exec_strings::ExecStrings;
use super::executable::{Executable, Scripts};
use super::failure::{FailureSlot, StartFailure};
use super::procfs::UnusableProc;
use super::stacks::Stacks;
use super::supervisor::{Job, Placement};
use crate::files::Identity;

/// Everything that a child is to have; nothing else reaches it.
#[derive(Debug)]
pub(crate) struct Spawn {
    /// The program, opened before; or why that is impossible, which the supervisor then reports like a failed start.
    pub(crate) program: Result<Executable, StartFailure>,
    /// Its name, relative to the working directory, for texts that are opened by name.
    pub(crate) path: OsString,
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory, opened with O_PATH, or why that is impossible.
    pub(crate) workdir: Result<OwnedFd, StartFailure>,
    pub(crate) umask: Option<u32>,
    /// Soft and hard limit of open files, if they differ from the host's.
    pub(crate) open_files: Option<(u64, u64)>,
    /// Descriptors and their numbers in the child; the numbers are distinct and possible.
    pub(crate) descriptors: Vec<(OwnedFd, RawFd)>,
    pub(crate) placement: Placement,
    /// What a line about a failed start begins with.
    pub(crate) error_prefix: Vec<u8>,
}

/// Why no supervisor could be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("{0}")]
    Descriptors(#[from] MapError),
    #[error("an argument or variable contains NUL")]
    Nul(#[from] std::ffi::NulError),
    #[error("cannot supervise processes: {0}")]
    Unsupervised(#[from] UnusableProc),
    #[error("cannot start a process: {0}")]
    System(#[from] io::Error),
}

impl From<Errno> for SpawnError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

impl Job {
    /// The job of starting `spawn`. Its descriptors, `channel` and `host` must stay open until the supervisor is made,
    /// and its program and working directory, too.
    ///
    /// # Errors
    /// When descriptors can't be mapped, or a string contains NUL.
    pub(crate) fn build(
        spawn: &mut Spawn,
        channel: &OwnedFd,
        host: &OwnedFd,
        stacks: &Stacks,
    ) -> Result<Self, SpawnError> {
        let map: Vec<(RawFd, RawFd)> = spawn
            .descriptors
            .iter()
            .map(|(from, to)| (from.as_raw_fd(), *to))
            .collect();
        let opened = opened(spawn);
        let mut others = vec![channel.as_raw_fd(), host.as_raw_fd()];
        let (needed, identity, scripts) = match opened {
            Ok((program, workdir)) => {
                others.extend(program.lease().map(|lease| lease.as_raw_fd()));
                (
                    vec![program.program().as_raw_fd(), workdir.as_raw_fd()],
                    program.identity(),
                    program.scripts(),
                )
            }
            // No child will be made.
            Err(_) => (Vec::new(), Identity::default(), Scripts::Never),
        };
        let failure = FailureSlot::new(opened.err());
        let plan = plan(&map, &needed, &others, open_file_limit()?)?;
        let mut keep: Vec<RawFd> = map.iter().map(|&(from, _)| from).collect();
        keep.extend(needed.iter().chain(&others));
        keep.sort_unstable();
        let program = plan.needed.first().copied().unwrap_or(-1);
        let text = match scripts {
            Scripts::ByDescriptor => OsString::from(format!("/dev/fd/{program}")),
            Scripts::ByName | Scripts::Never => spawn.path.clone(),
        };
        let argv = std::mem::take(&mut spawn.argv);
        let child = ChildSetup {
            steps: plan.steps,
            program,
            scripts,
            identity,
            strings: ExecStrings::new(&spawn.path, &text, argv, &spawn.env)?,
            workdir: plan.needed.get(1).copied().unwrap_or(-1),
            umask: spawn.umask,
            open_files: spawn.open_files.map(|(soft, hard)| libc::rlimit64 {
                rlim_cur: soft,
                rlim_max: hard,
            }),
            group: match spawn.placement {
                Placement::OwnGroup => 0,
                Placement::HostGroup => getpgrp().as_raw(),
            },
            stack: stacks.child_top(),
            failure,
        };
        Ok(Self {
            channel: SupervisorEnd::new(channel.as_raw_fd()),
            host: host.as_raw_fd(),
            keep,
            placement: spawn.placement,
            keeper: AtomicI32::new(-1),
            stack: stacks.supervisor_top(),
            child,
            error_output: map.iter().find(|&&(_, to)| to == 2).map(|&(from, _)| from),
            error_prefix: std::mem::take(&mut spawn.error_prefix),
        })
    }
}

/// Program and working directory, or why one of them could not be opened.
fn opened(spawn: &Spawn) -> Result<(&Executable, &OwnedFd), StartFailure> {
    let program = spawn.program.as_ref().map_err(|failure| *failure)?;
    let workdir = spawn.workdir.as_ref().map_err(|failure| *failure)?;
    Ok((program, workdir))
}
