//! Packs the supervisor's job from what the child is to have; this runs in the host and may allocate.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::attributes::Attributes;
use super::child::ChildPlan;
use super::descriptor_map::{MapError, open_file_limit, plan};
use super::exec_strings::ExecStrings;
use super::executable::{Executable, Scripts};
use super::failure::StartFailure;
use super::parcel::Writer;
use super::procfs::UnusableProc;
use super::supervisor::numbers::{CHANNEL, CHILD_CHANGES, GUARDIAN, HOST, JOB, KEEPER};
use super::supervisor::{Placement, pack_job};
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
    /// What else differs from the host's.
    pub(crate) attributes: Attributes,
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

/// A job in the form in which it is sent.
#[derive(Debug)]
pub(super) struct PackedJob {
    file: File,
    /// How many there are in the file.
    pub(super) bytes: usize,
}

impl Spawn {
    /// Packs the job of starting this.
    ///
    /// # Errors
    /// When descriptors can't be mapped, or a string contains NUL.
    pub(super) fn pack(&mut self) -> Result<PackedJob, SpawnError> {
        let (sent, needed, lease) = self.numbers();
        let map: Vec<(RawFd, RawFd)> = sent.zip(self.descriptors.iter().map(|&(_, to)| to)).collect();
        let mut others = vec![HOST, GUARDIAN, KEEPER, CHILD_CHANGES, CHANNEL, JOB];
        others.extend(lease);
        let plan = plan(&map, &needed, &others, open_file_limit()?)?;
        let opened = self.opened();
        let (identity, scripts) = match &opened {
            Ok(program) => (program.identity(), program.scripts()),
            // No child will be made.
            Err(_) => (Identity::default(), Scripts::Never),
        };
        let program = plan.needed.first().copied().unwrap_or(-1);
        let text = match scripts {
            Scripts::ByDescriptor => OsString::from(format!("/dev/fd/{program}")),
            Scripts::ByName | Scripts::Never => self.path.clone(),
        };
        let child = ChildPlan {
            steps: &plan.steps,
            program,
            scripts,
            on_trial: opened.is_ok_and(Executable::may_be_traced),
            identity,
            workdir: plan.needed.get(1).copied().unwrap_or(-1),
            umask: self.umask,
            attributes: &self.attributes,
            group: self.placement.group(),
            foreground: self.placement == Placement::Foreground,
            failure: opened.err(),
        };
        let error_output = map.iter().find(|&&(_, to)| to == 2).map(|&(from, _)| from);
        let mut writer = Writer::default();
        let error_prefix = std::mem::take(&mut self.error_prefix);
        pack_job(&mut writer, self.placement, error_output, error_prefix)?;
        child.pack(&mut writer);
        let argv = std::mem::take(&mut self.argv);
        ExecStrings::pack(&mut writer, &self.path, &text, argv, &self.env)?;
        PackedJob::new(&writer.finish())
    }

    /// The descriptors that are sent with `job`, in the order in which the keeper gets them.
    pub(super) fn sent<'a>(&'a self, job: &'a PackedJob) -> Vec<BorrowedFd<'a>> {
        let mut sent = vec![job.file.as_fd()];
        if let (Ok(program), Ok(workdir)) = (&self.program, &self.workdir) {
            sent.extend([program.program(), workdir.as_fd()]);
            sent.extend(program.lease());
        }
        sent.extend(self.descriptors.iter().map(|(descriptor, _)| descriptor.as_fd()));
        sent
    }

    /// Their numbers in the keeper: of the child's descriptors, of program and working directory, and of the lease.
    fn numbers(&self) -> (std::ops::RangeFrom<RawFd>, Vec<RawFd>, Option<RawFd>) {
        let mut next = JOB + 1..;
        let (mut needed, mut lease) = (Vec::new(), None);
        if let Ok(program) = self.opened() {
            needed.extend(next.by_ref().take(2));
            lease = program.lease().and_then(|_| next.next());
        }
        (next, needed, lease)
    }

    /// The program, or why it or the working directory could not be opened.
    fn opened(&self) -> Result<&Executable, StartFailure> {
        let program = self.program.as_ref().map_err(|failure| *failure)?;
        self.workdir.as_ref().map_err(|failure| *failure)?;
        Ok(program)
    }
}

impl PackedJob {
    fn new(bytes: &[u8]) -> Result<Self, SpawnError> {
        let mut file = File::from(memfd_create(c"job", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(bytes)?;
        Ok(Self {
            file,
            bytes: bytes.len(),
        })
    }
}
