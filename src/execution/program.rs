//! Opens programs and working directories as the kernel would, and remembers which files they were.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::identity::{Identity, STATX_IDENTITY};

/// A file opened with O_PATH, and its identity at that moment.
#[derive(Debug)]
pub(crate) struct PinnedFile {
    descriptor: OwnedFd,
    identity: Identity,
}

impl PinnedFile {
    /// Opens `path`, relative to `directory`. Symbolic links are followed, but not procfs's magic links, which would lead to
    /// files of this process.
    ///
    /// # Errors
    /// What openat2(2) or statx(2) says.
    pub(crate) fn open(directory: BorrowedFd<'_>, path: &OsStr) -> io::Result<Self> {
        let descriptor = open_path(directory, path, 0)?;
        let identity = identity_of(descriptor.as_fd())?;
        Ok(Self { descriptor, identity })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The absolute path without symbolic links, as the kernel knows it.
    ///
    /// # Errors
    /// When /proc isn't mounted.
    pub(crate) fn canonical(&self) -> io::Result<PathBuf> {
        canonical(self.descriptor.as_fd())
    }
}

/// Opens a directory with O_PATH, for fchdir(2) later.
///
/// # Errors
/// What openat2(2) says; ELOOP for a directory of this process in /proc.
pub(crate) fn open_directory(path: &OsStr) -> io::Result<OwnedFd> {
    // SAFETY: AT_FDCWD is what openat takes for "no directory"; it is never closed.
    let nowhere = unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };
    let directory = open_path(nowhere, path, libc::O_DIRECTORY)?;
    // `/proc/self` and the like are ordinary links, and lead to this process instead of the one that asks.
    let own = Path::new("/proc").join(std::process::id().to_string());
    if path.as_bytes().starts_with(b"/proc") && canonical(directory.as_fd())?.starts_with(own) {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    Ok(directory)
}

/// The file's identity now.
///
/// # Errors
/// What statx(2) says.
pub(crate) fn identity_of(file: BorrowedFd<'_>) -> io::Result<Identity> {
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty path with AT_EMPTY_PATH asks about the descriptor; `found` is written to.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            STATX_IDENTITY,
            &raw mut found,
        )
    };
    if result == 0 {
        Ok(Identity::of(&found))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The absolute path without symbolic links, as the kernel knows it.
///
/// # Errors
/// When /proc isn't mounted.
pub(super) fn canonical(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn open_path(directory: BorrowedFd<'_>, path: &OsStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_bytes())?;
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((libc::O_PATH | libc::O_CLOEXEC | flags).cast_unsigned());
    how.resolve = libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: path and `how` live across the call, and the size is that of `how`.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            directory.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    match i32::try_from(descriptor) {
        // SAFETY: the call has just made it.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn open(path: &Path) -> io::Result<PinnedFile> {
        let root = open_directory(OsStr::new("/")).unwrap();
        PinnedFile::open(root.as_fd(), path.as_os_str())
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
    fn paths_to_this_process_are_refused() {
        for path in ["/proc/self/exe", "/proc/self/root/bin/sh", "/dev/fd/0"] {
            let error = open(Path::new(path)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        for path in [
            "/proc/self",
            "/proc/thread-self",
            "/proc/self/fd",
            "/proc/self/cwd",
        ] {
            let error = open_directory(OsStr::new(path)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        open_directory(OsStr::new("/proc/sys")).unwrap();
    }

    #[test]
    fn opened_files_close_on_exec() {
        let file = open(Path::new("/bin/sh")).unwrap();
        let flags = nix::fcntl::fcntl(file.descriptor(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}
