//! The path of the file that the kernel would execute, as the policy is asked about it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

/// The absolute path of the file that the kernel would execute: joins `file` to `workdir` and removes `.` and `..`. Like the
/// kernel, it resolves symbolic links before a `..`, so that the path leads to the same file: by opening all up to the last
/// `..`, which costs no more than executing the file would. If that leads nowhere, each `..` stays, and the kernel will refuse
/// the path.
pub(super) fn resolve(workdir: &Path, file: &Path) -> PathBuf {
    let resolved = if file.is_absolute() {
        with_resolved_parents(AT_FDCWD, Path::new("/"), file)
    } else {
        with_resolved_parents(AT_FDCWD, Path::new("/"), workdir).and_then(|base| match last_parent(file) {
            None => Some(append(base, file)),
            Some(_) => with_resolved_parents(open(AT_FDCWD, workdir.as_os_str())?.as_fd(), &base, file),
        })
    };
    resolved.unwrap_or_else(|| append(PathBuf::from("/"), &workdir.join(file)))
}

/// `path`, which is relative to `directory`, named `base`. `None` if what precedes a `..` is no directory.
fn with_resolved_parents(directory: BorrowedFd<'_>, base: &Path, path: &Path) -> Option<PathBuf> {
    let Some(last) = last_parent(path) else {
        return Some(append(base.to_owned(), path));
    };
    let parent: PathBuf = path.components().take(last + 1).collect();
    let parent = open(directory, parent.as_os_str())?;
    let parent = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd())).ok()?;
    let rest: PathBuf = path.components().skip(last + 1).collect();
    parent.is_absolute().then(|| append(parent, &rest))
}

/// The place of the last `..` among the components.
fn last_parent(path: &Path) -> Option<usize> {
    let components: Vec<Component<'_>> = path.components().collect();
    components
        .iter()
        .rposition(|&component| component == Component::ParentDir)
}

/// Opens a directory, but not through procfs's magic links, which would lead to files of this process.
fn open(directory: BorrowedFd<'_>, path: &OsStr) -> Option<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(directory, path, how).ok()
}

/// Appends components as they are, without `.`.
fn append(mut path: PathBuf, rest: &Path) -> PathBuf {
    for component in rest.components() {
        match component {
            Component::Normal(_) | Component::ParentDir => path.push(component),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    fn shown(workdir: &str, file: &str) -> String {
        resolve(Path::new(workdir), Path::new(file))
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn relative_files_are_relative_to_the_working_directory() {
        assert_eq!(shown("/usr", "bin/env"), "/usr/bin/env");
        assert_eq!(shown("/usr", "./bin/./env"), "/usr/bin/env");
        assert_eq!(shown("/usr/./bin", "env"), "/usr/bin/env");
        assert_eq!(shown("/usr", "/bin/sh"), "/bin/sh");
        assert_eq!(shown("/usr", "../bin/sh"), "/bin/sh");
        assert_eq!(shown("/", "../../bin/sh"), "/bin/sh");
    }

    #[test]
    fn a_tilde_is_a_name_like_any_other() {
        assert_eq!(shown("/tmp", "~/tool"), "/tmp/~/tool");
        assert_eq!(shown("/tmp", "~root"), "/tmp/~root");
    }

    #[test]
    fn a_parent_of_a_symbolic_link_is_the_parent_of_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("elsewhere/deep")).unwrap();
        symlink(root.join("elsewhere/deep"), root.join("link")).unwrap();
        assert_eq!(
            resolve(&root, Path::new("link/../tool")),
            root.join("elsewhere/tool")
        );
        assert_eq!(resolve(&root, Path::new("link/tool")), root.join("link/tool"));
    }

    #[test]
    fn a_parent_of_nothing_is_nothing() {
        assert_eq!(shown("/nowhere-at-all", "../bin/sh"), "/nowhere-at-all/../bin/sh");
        assert_eq!(
            shown("/etc/hostname", "../../bin/sh"),
            "/etc/hostname/../../bin/sh"
        );
    }

    #[test]
    fn thousands_of_parents_in_a_deep_folder_take_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut deep = folder.path().canonicalize().unwrap();
        for _ in 0..900 {
            deep.push("a");
        }
        fs::create_dir_all(&deep).unwrap();
        let start = Instant::now();
        let resolved = resolve(&deep, Path::new(&("../a/".repeat(800) + "tool")));
        let took = start.elapsed();
        assert_eq!(resolved, deep.join("tool"));
        // Resolving each `..` by itself takes a minute; this takes less than a millisecond.
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}
