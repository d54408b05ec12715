//! Opens programs and working directories as the kernel would, and remembers which files they were.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::identity::{Identity, STATX_IDENTITY, Status};
use super::trust::only_root_writes;

/// Whether a look at a file may wait for its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For as long as the file system likes: not where others wait, too.
    Allowed,
    /// What the kernel does not know already is the error EAGAIN.
    Never,
}

/// A file opened with O_PATH, and what it was at that moment.
#[derive(Debug)]
pub(crate) struct PinnedFile {
    descriptor: OwnedFd,
    status: Status,
}

impl PinnedFile {
    /// Opens `path`, relative to `directory`. Symbolic links are followed, but not procfs's magic links, which would lead to
    /// files of this process.
    ///
    /// # Errors
    /// What openat2(2) or statx(2) says.
    pub(crate) fn open(directory: BorrowedFd<'_>, path: &OsStr, wait: Wait) -> io::Result<Self> {
        Self::of(open_path(directory, path, 0, wait)?, wait)
    }

    /// Opens a file that the host itself names, such as /proc/self/exe.
    pub(crate) fn of_host(directory: BorrowedFd<'_>, path: &OsStr) -> io::Result<Self> {
        Self::of(
            open_at(directory, path, OFlag::O_PATH, ResolveFlag::empty())?,
            Wait::Allowed,
        )
    }

    /// Pins what is open.
    ///
    /// # Errors
    /// What statx(2) says.
    pub(super) fn of(descriptor: OwnedFd, wait: Wait) -> io::Result<Self> {
        let status = status_of(descriptor.as_fd(), wait)?;
        Ok(Self { descriptor, status })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Whether only root can change what is in the file, as its owner and mode say.
    pub(crate) fn only_root_writes(&self) -> bool {
        only_root_writes(self.status)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.status.identity
    }

    /// The absolute path without symbolic links, as the kernel knows it.
    ///
    /// # Errors
    /// When /proc isn't mounted.
    pub(crate) fn canonical(&self) -> io::Result<PathBuf> {
        canonical(self.descriptor())
    }

    /// Opens the file for reading. This never waits for a lease of another process: that is the error ETXTBSY.
    ///
    /// # Errors
    /// What open(2) says.
    pub(crate) fn open_to_read(&self) -> io::Result<File> {
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(self.proc_path());
        opened.map_err(|error| match error.raw_os_error() {
            Some(libc::EWOULDBLOCK) => Errno::ETXTBSY.into(),
            _ => error,
        })
    }

    /// A name for the very file that is open, for calls that take none of their own.
    pub(crate) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }
}

/// Whether the kernel itself loads a file, rather than a program that the file names. What can't be read is not known to be so.
pub(crate) fn is_elf(content: &File) -> bool {
    let mut magic = [0; 4];
    content.read_exact_at(&mut magic, 0).is_ok() && magic == *b"\x7fELF"
}

/// The absolute path without symbolic links of what is open, as the kernel knows it.
///
/// # Errors
/// When /proc isn't mounted.
pub(crate) fn canonical(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens a directory with O_PATH, for fchdir(2) later.
///
/// # Errors
/// What openat2(2) says; ELOOP for a directory of this process in /proc, by whatever name.
pub(crate) fn open_directory(path: &OsStr, wait: Wait) -> io::Result<PinnedFile> {
    let directory = PinnedFile::of(open_path(nowhere(), path, libc::O_DIRECTORY, wait)?, wait)?;
    let status = directory.status();
    if known_not_to_be_procfs(status) {
        return Ok(directory);
    }
    if wait == Wait::Never {
        return Err(Errno::EAGAIN.into());
    }
    if !is_on_procfs(directory.descriptor())? {
        remember_not_to_be_procfs(status);
        return Ok(directory);
    }
    // `/proc/self` and the like are ordinary links, and lead to this process instead of the one that asks.
    if is_about_this_process(directory.descriptor())? {
        return Err(Errno::ELOOP.into());
    }
    Ok(directory)
}

/// Mounts of other file systems than procfs.
static OTHER_MOUNTS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// More mounts than that are asked again.
const MOST_MOUNTS: usize = 64;

fn known_not_to_be_procfs(status: Status) -> bool {
    let on_a_block_device = status.identity.device.0 != 0;
    let mounts = || OTHER_MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    on_a_block_device || status.mount.is_some_and(|mount| mounts().contains(&mount))
}

fn remember_not_to_be_procfs(status: Status) {
    let mut mounts = OTHER_MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(mount) = status.mount
        && mounts.len() < MOST_MOUNTS
    {
        mounts.insert(mount);
    }
}

/// What openat2(2) takes for "no directory".
pub(crate) fn nowhere() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is a constant that is never closed.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// Whether the file is on a procfs.
///
/// # Errors
/// What fstatfs(2) says.
pub(super) fn is_on_procfs(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

/// Whether a directory of procfs, or one above it, is that of this process or one of its threads.
fn is_about_this_process(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let own = format!("Tgid:\t{}", std::process::id());
    let mut above = directory.try_clone_to_owned()?;
    loop {
        // Directories of processes and threads have a file `status`.
        match open_at(
            above.as_fd(),
            OsStr::new("status"),
            OFlag::O_RDONLY,
            ResolveFlag::empty(),
        ) {
            Ok(status) => {
                let text = io::read_to_string(std::fs::File::from(status))?;
                if text.lines().any(|line| line == own) {
                    return Ok(true);
                }
            }
            Err(Errno::ENOENT) => {}
            // A process that has ended is another one.
            Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        let parent = open_path(above.as_fd(), OsStr::new(".."), libc::O_DIRECTORY, Wait::Allowed)?;
        let place = |of: &OwnedFd| Ok::<_, io::Error>(status_of(of.as_fd(), Wait::Allowed)?.identity.place());
        let is_root = place(&parent)? == place(&above)?;
        if is_root || !is_on_procfs(parent.as_fd())? {
            return Ok(false);
        }
        above = parent;
    }
}

/// What the file is now.
///
/// # Errors
/// What statx(2) says.
pub(crate) fn status_of(file: BorrowedFd<'_>, wait: Wait) -> io::Result<Status> {
    let sync = match wait {
        Wait::Allowed => libc::AT_STATX_SYNC_AS_STAT,
        // What a server on the network or in user space said last.
        Wait::Never => libc::AT_STATX_DONT_SYNC,
    };
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty path with AT_EMPTY_PATH asks about the descriptor; `found` is written to.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | sync,
            STATX_IDENTITY | libc::STATX_MNT_ID_UNIQUE,
            &raw mut found,
        )
    };
    if result == 0 {
        Ok(Status::of(&found))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Opens with O_PATH, following symbolic links but no magic ones.
pub(super) fn open_path(
    directory: BorrowedFd<'_>,
    path: &OsStr,
    flags: libc::c_int,
    wait: Wait,
) -> io::Result<OwnedFd> {
    let mut resolve = ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if wait == Wait::Never {
        resolve |= ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);
    }
    let flags = OFlag::O_PATH | OFlag::from_bits_retain(flags);
    open_at(directory, path, flags, resolve).map_err(|errno| match errno {
        // Linux before 5.12 doesn't know what is cached.
        Errno::EINVAL if wait == Wait::Never => Errno::EAGAIN.into(),
        errno => errno.into(),
    })
}

fn open_at(
    directory: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_CLOEXEC | flags).resolve(resolve);
    openat2(directory, path, how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn open(path: &Path) -> io::Result<PinnedFile> {
        PinnedFile::open(nowhere(), path.as_os_str(), Wait::Allowed)
    }

    #[test]
    fn links_lead_to_the_same_file_and_a_copy_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "x").unwrap();
        std::fs::hard_link(path("file"), path("hard")).unwrap();
        symlink("file", path("soft")).unwrap();
        let file = open(&path("file")).unwrap();
        assert_eq!(open(&path("soft")).unwrap().identity(), file.identity());
        assert_eq!(open(&path("hard")).unwrap().identity(), file.identity());
        assert_eq!(
            open(&path("soft")).unwrap().canonical().unwrap(),
            path("file").canonicalize().unwrap()
        );
        std::fs::copy(path("file"), path("copy")).unwrap();
        assert_ne!(open(&path("copy")).unwrap().identity(), file.identity());
        std::fs::write(path("file"), "longer").unwrap();
        assert_ne!(open(&path("file")).unwrap().identity(), file.identity());
    }

    #[test]
    fn a_file_that_is_rewritten_in_place_is_another_whatever_its_times_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "decided").unwrap();
        let modified = path.metadata().unwrap().modified().unwrap();
        let decided = open(&path).unwrap().identity();
        std::fs::write(&path, "swapped").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        let rewritten = open(&path).unwrap().identity();
        assert_eq!(
            (rewritten.size, rewritten.modified),
            (decided.size, decided.modified)
        );
        assert_ne!(rewritten, decided);
    }

    #[test]
    fn paths_to_this_process_are_refused() {
        for path in ["/proc/self/exe", "/proc/self/root/bin/sh", "/dev/fd/0"] {
            let error = open(Path::new(path)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("/proc/self", &link).unwrap();
        let link = link.to_str().unwrap();
        let own = std::process::id();
        for path in [
            "/proc/self",
            "//proc/self",
            "/proc/../proc/self",
            "/proc/self/task/..",
            "/proc/thread-self",
            "/proc/self/fd",
            "/proc/self/cwd",
            "/usr/../proc/self/net/../fdinfo",
            &format!("/proc/{own}"),
            &format!("/proc/1/../{own}/map_files"),
            link,
            &format!("{link}/attr"),
            "/dev/fd",
        ] {
            let error = open_directory(OsStr::new(path), Wait::Allowed).expect_err(path);
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        for path in [
            "/proc/sys",
            "/proc",
            "/proc/self/..",
            "/proc/1",
            "/proc/sys/kernel",
        ] {
            open_directory(OsStr::new(path), Wait::Allowed).expect(path);
        }
    }

    #[test]
    fn opened_files_close_on_exec() {
        let file = open(Path::new("/bin/sh")).unwrap();
        let flags = nix::fcntl::fcntl(file.descriptor(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}
