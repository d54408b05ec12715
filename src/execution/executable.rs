//! What is executed of a file, so that it is what was decided on to the last byte.
//!
//! A file that only root can change is executed as it is. Of any other, each instruction has to be fixed before the last
//! comparison with the decision:
//!
//! - A **binary** is held by a read lease (fcntl(2), F_SETLEASE) while it is compared and started: there is no lease on a file
//!   that is open or mapped for writing, and whoever opens it for writing waits for the end of the lease. From the
//!   exec on, the kernel itself refuses writers (ETXTBSY). So the process is what it would be anyway, up to `/proc/PID/exe`,
//!   and to the name by which it was executed (see [`super::trial`]).
//! - A **text**, which an interpreter reads in its own time, and a binary on which there is no lease (another user's, or on a
//!   file system that has none), is executed from a sealed copy in memory, memfd_create(2). An interpreter gets it as
//!   `/dev/fd/N`, which is then its `$0`, through a descriptor more than was asked for. Unless the decision is that texts are
//!   executed in place: then it is compared, under a lease where there is one, and opened by its name. What an interpreter
//!   reads after that, a process that writes to the file can choose.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs};
use nix::unistd::{AccessFlags, faccessat};
use serde::{Deserialize, Serialize};

use super::failure::{SWAPPED, Stage, StartFailure, failure};
use crate::files::{Identity, Lookup, PinnedFile, SYSTEM, Trust, Wait, is_elf, is_of_system, status_of};

/// Bytes of the largest file that is copied.
const MAX_COPY: u64 = 256 * 1024 * 1024;

// From linux/memfd.h and asm-generic/fcntl.h.
const MFD_EXEC: u32 = 0x10;
const F_SETSIG: libc::c_int = 10;

/// The program is open for writing, as the kernel says it.
pub(super) const BUSY: StartFailure = StartFailure {
    stage: Stage::Execute,
    errno: Errno::ETXTBSY,
};

/// Who can change a program and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Only root, and the requested path leads there for good.
    System,
    /// Only root, but others can make the path lead elsewhere.
    SystemByOtherName,
    /// Others than root, or a root that may be sandboxed.
    Changeable,
}

impl Origin {
    pub(super) fn of(found: &Lookup) -> Self {
        Self::new(
            found.trust.unwrap_or_default(),
            &found.requested,
            found.canonical.as_deref(),
        )
    }

    pub(super) fn new(trust: Trust, requested: &Path, canonical: Option<&Path>) -> Self {
        if trust.others_can_replace() || !canonical.is_some_and(is_of_system) {
            Self::Changeable
        } else if trust.others_can_redirect() || !is_of_system(requested) {
            Self::SystemByOtherName
        } else {
            Self::System
        }
    }
}

/// Whether a sandboxed root that writes to everything in `folder` could change what is held to be the system's.
pub(crate) fn holds_system(folder: &Path) -> bool {
    SYSTEM
        .iter()
        .any(|system| folder.starts_with(system) || Path::new(system).starts_with(folder))
}

/// Whether only root can change what is in the file.
pub(super) fn only_root_changes(file: &PinnedFile, canonical: Option<&Path>) -> bool {
    file.only_root_writes() && canonical.is_some_and(is_of_system)
}

/// Where a text stands that others than root could change, or whose name they could make lead elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// Where no process can change it any more, with a name that says so.
    Fixed,
    /// In the file that was decided on, which keeps its name.
    InPlace,
}

impl Texts {
    pub(super) fn new(in_place: bool) -> Self {
        if in_place { Self::InPlace } else { Self::Fixed }
    }
}

/// As much of a program says whether it is a text.
pub(crate) const TEXT_SAMPLE: usize = 80;

/// Whether a program that starts like this is a text, in which a shell may look for commands: it isn't ELF, and has no NUL in
/// its first line (`server.escalate.binary`). bash and zsh look at the same. Doesn't panic or allocate.
pub(crate) fn is_text(start: &[u8]) -> bool {
    let mut first_line = start.iter().take_while(|&&byte| byte != b'\n');
    !start.starts_with(b"\x7fELF") && first_line.all(|&byte| byte != 0)
}

/// A program, and what has to be open until it runs.
#[derive(Debug)]
pub(crate) struct Executable {
    /// What is executed: opened with O_PATH, or a sealed copy.
    program: OwnedFd,
    /// What the decision was about.
    identity: Identity,
    /// While this is open nobody writes to the program.
    lease: Option<File>,
    scripts: Scripts,
    /// Whether it may be traced when it is executed.
    may_be_traced: bool,
}

/// How an interpreter opens a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scripts {
    /// By its name: only root can make it mean another file, or the decision is to trust that it doesn't.
    ByName,
    /// As `/dev/fd/N`.
    ByDescriptor,
    /// Not at all: what was taken for a binary is none.
    Never,
}

impl Scripts {
    pub(super) fn from_number(number: i32) -> Option<Self> {
        let all = [Self::ByName, Self::ByDescriptor, Self::Never];
        all.into_iter().find(|&scripts| scripts as i32 == number)
    }
}

impl Executable {
    /// The shell of the host, which answers for it.
    pub(crate) fn of_host(file: PinnedFile) -> Self {
        Self::unchangeable(file, Scripts::ByName)
    }

    fn unchangeable(file: PinnedFile, scripts: Scripts) -> Self {
        Self {
            identity: file.identity(),
            program: file.into_descriptor(),
            lease: None,
            scripts,
            may_be_traced: false,
        }
    }

    /// Makes sure that what will run of `file` is what it is now, except for texts in place. `name` is what a copy is called.
    pub(super) fn new(
        file: PinnedFile,
        origin: Origin,
        texts: Texts,
        name: &OsStr,
    ) -> Result<Self, StartFailure> {
        match origin {
            Origin::System => Ok(Self::unchangeable(file, Scripts::ByName)),
            Origin::SystemByOtherName => {
                let content = file.open_to_read().ok();
                let is_binary = content.as_ref().map(is_elf);
                if texts == Texts::InPlace && is_binary == Some(false) {
                    return Ok(Self::unchangeable(file, Scripts::ByName));
                }
                let may_be_traced = is_binary == Some(true)
                    && content.is_some_and(|content| !changes_rights(&file, &content));
                Ok(Self {
                    may_be_traced,
                    ..Self::unchangeable(file, Scripts::ByDescriptor)
                })
            }
            Origin::Changeable => Self::fixed(file, texts, name),
        }
    }

    fn fixed(file: PinnedFile, texts: Texts, name: &OsStr) -> Result<Self, StartFailure> {
        let status = file.status();
        let at = |error: io::Error| failure(Stage::Execute, &error);
        if !status.is_regular() {
            return Err(at(Errno::EACCES.into()));
        }
        let may = AtFlags::AT_EACCESS | AtFlags::AT_EMPTY_PATH;
        faccessat(file.descriptor(), "", AccessFlags::X_OK, may).map_err(|errno| at(errno.into()))?;
        let content = file.open_to_read().map_err(at)?;
        let lease = lease(&content)?;
        let is_unchanged =
            || Ok(status_of(content.as_fd(), Wait::Allowed).map_err(at)?.identity == status.identity);
        if !is_unchanged()? {
            return Err(SWAPPED);
        }
        let is_binary = is_elf(&content);
        if is_binary && lease {
            return Ok(Self {
                may_be_traced: !changes_rights(&file, &content),
                lease: Some(content),
                ..Self::unchangeable(file, Scripts::Never)
            });
        }
        if !is_binary && texts == Texts::InPlace {
            return Ok(Self {
                lease: lease.then_some(content),
                ..Self::unchangeable(file, Scripts::ByName)
            });
        }
        // A copy would run as somebody else than the file. (For texts the kernel ignores the bits.)
        if is_binary && status.changes_user() {
            return Err(at(Errno::EPERM.into()));
        }
        let copy = copy(&content, status.identity.size, name).map_err(at)?;
        if !is_unchanged()? {
            return Err(SWAPPED);
        }
        Ok(Self {
            program: copy,
            identity: status.identity,
            lease: None,
            scripts: Scripts::ByDescriptor,
            may_be_traced: false,
        })
    }

    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn lease(&self) -> Option<BorrowedFd<'_>> {
        self.lease.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn may_be_traced(&self) -> bool {
        self.may_be_traced
    }

    /// Whether it finds `/dev/fd/N` as its name, unless it is executed on [trial](super::trial).
    pub(crate) fn is_nameless(&self) -> bool {
        self.scripts != Scripts::ByName
    }

    pub(crate) fn scripts(&self) -> Scripts {
        self.scripts
    }

    /// What is executed, how, and what has to stay open until then.
    pub(crate) fn into_parts(self) -> (OwnedFd, Scripts, Option<OwnedFd>) {
        (self.program, self.scripts, self.lease.map(OwnedFd::from))
    }
}

/// Whether a program runs as somebody else, or has capabilities(7): a traced execve gives neither.
fn changes_rights(file: &PinnedFile, content: &File) -> bool {
    file.status().changes_user() || has_capabilities(content)
}

fn has_capabilities(content: &File) -> bool {
    // SAFETY: a name, and a buffer of no bytes, to which nothing is written.
    let length = unsafe {
        libc::fgetxattr(
            content.as_raw_fd(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        )
    };
    length > 0
}

/// Whether opening the file, and a lease on it, are matters of this kernel alone, so that no other process can have them wait: its
/// file system is none of a server, in user space or on the network, nor one above others.
pub(super) fn is_local(file: &PinnedFile) -> bool {
    const LOCAL: [FsType; 4] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];
    fstatfs(file.descriptor()).is_ok_and(|found| LOCAL.contains(&found.filesystem_type()))
}

/// Whether some process can write to the file without opening it once more: a mapping is written to without a trace in the
/// file's times. Where there are no leases, this can't be known.
pub(super) fn is_being_written(file: &PinnedFile) -> bool {
    file.status().is_regular()
        && match file.open_to_read() {
            Ok(content) => lease(&content) == Err(BUSY),
            Err(error) => error.raw_os_error() == Some(libc::ETXTBSY),
        }
}

/// Takes a read lease, until the file is closed. False where there are none.
///
/// # Errors
/// [`BUSY`] for a file that is open or mapped for writing.
fn lease(content: &File) -> Result<bool, StartFailure> {
    let set = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: these commands take an integer.
        Errno::result(unsafe { libc::fcntl(content.as_raw_fd(), command, argument) })
    };
    // A writer that has to wait costs this process a signal: one that is ignored, and soon none.
    match set(F_SETSIG, libc::SIGURG).and_then(|_| set(libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(_) => {
            let _ = set(libc::F_SETOWN, 0);
            Ok(true)
        }
        Err(Errno::EAGAIN) => Err(BUSY),
        Err(_) => Ok(false),
    }
}

/// Copies a file to memory, and seals the copy.
fn copy(content: &File, size: u64, name: &OsStr) -> io::Result<OwnedFd> {
    if size > MAX_COPY {
        return Err(Errno::EFBIG.into());
    }
    let name = Path::new(name).file_name().unwrap_or_default();
    // The name is for people; the kernel takes no more than this.
    let name = CString::new(&name.as_bytes()[..name.len().min(200)])?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Before Linux 6.3 every such file may be executed, and the flag is unknown.
    let copy = match memfd_create(&*name, flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(&*name, flags)?,
        made => made?,
    };
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX);
        match sendfile(&copy, content, None, count)? {
            // Shorter than it was: its identity is another, too.
            0 => break,
            copied => left -= copied as u64,
        }
    }
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}
