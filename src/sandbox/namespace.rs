//! A mount namespace, for what Landlock can't express: owners, modes and times of files outside of writable folders, places in such
//! a folder that are not writable, a /proc without the processes outside, and shared memory of the sandbox's own.
//!
//! No path means another file than outside, or the server would decide about files that the sandbox doesn't see. The one
//! exception is /dev/shm, from which nothing can be executed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use super::failure::Failure;
use super::gap::Gap;
use super::plan::Plan;

/// What the kernel let this process have.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    /// A user namespace, in which processes are counted apart.
    pub(super) of_users: bool,
    /// /dev/shm is the sandbox's own.
    pub(super) shared_memory: bool,
}

/// Enters a namespace of mounts, by right or in a user namespace, and arranges it.
pub(super) fn enter(plan: &Plan, gaps: &mut Vec<Gap>) -> Result<Namespace, Failure> {
    let mut namespace = Namespace::default();
    // With the mounts, System V's shared memory, semaphores and queues.
    let separate = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    let privileged = unshare(separate).is_ok();
    if !privileged {
        let (user, group) = (geteuid(), getegid());
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | separate) {
            gaps.extend(plan.protected.iter().map(|path| {
                Gap::Protected(
                    path.clone(),
                    format!("user namespaces are refused: {}", errno.desc()),
                )
            }));
            gaps.push(Gap::SharedMemory(errno.desc().to_owned()));
            gaps.push(Gap::Attributes(errno.desc().to_owned()));
            return Ok(namespace);
        }
        be_the_same(user, group).map_err(|error| Failure::new("user namespace", error))?;
        namespace.of_users = true;
    }
    // What the host mounts later appears here as well; what is mounted here appears nowhere else.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .map_err(|errno| Failure::new("cannot separate the mounts", errno.desc()))?;
    if let Err(error) = keep_all_but(&plan.write) {
        gaps.push(Gap::Attributes(error.to_string()));
    }
    for folder in ways(plan) {
        // A mount point can't be renamed: so the way to what is protected stays.
        if let Err(error) = over_itself(&folder, false) {
            gaps.push(Gap::Protected(folder.into(), error.to_string()));
        }
    }
    for path in &plan.protected {
        if let Err(error) = over_itself(Path::new(path), true) {
            gaps.push(Gap::Protected(path.clone(), error.to_string()));
        }
    }
    let (no_set_id, no_devices) = (MsFlags::MS_NOSUID, MsFlags::MS_NODEV);
    let memory = no_set_id | no_devices | MsFlags::MS_NOEXEC;
    namespace.shared_memory = Path::new("/dev/shm").is_dir()
        && mount(
            Some("tmpfs"),
            "/dev/shm",
            Some("tmpfs"),
            memory,
            Some("mode=1777,size=50%"),
        )
        .is_ok();
    if privileged {
        // Only the system's root may mount it without a pid namespace of its own; without it, what other users see of a
        // process can be seen.
        let hidden = mount(
            Some("proc"),
            "/proc",
            Some("proc"),
            memory,
            Some("hidepid=ptraceable"),
        );
        if let Err(errno) = hidden {
            gaps.push(Gap::Proc(errno.desc().to_owned()));
        }
    }
    // The working directory is still the one below the new mounts. One that has been removed is none that can be written to.
    match std::env::current_dir().and_then(std::env::set_current_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::new("working directory", error));
        }
        _ => {}
    }
    Ok(namespace)
}

/// Maps this user and group to themselves, and no others.
fn be_the_same(user: Uid, group: Gid) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))
}

/// The folders between what is writable and what in it is protected, from the top.
fn ways(plan: &Plan) -> BTreeSet<PathBuf> {
    let is_writable = |folder: &Path| {
        plan.write
            .iter()
            .any(|root| folder.starts_with(root) && folder != Path::new(root))
    };
    let protected = plan.protected.iter().map(Path::new);
    protected
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|folder| is_writable(folder))
        .map(Path::to_owned)
        .collect()
}

/// Mounts a file or folder over itself, so that it can't be moved, and, for `read_only`, not be written to.
fn over_itself(path: &Path, read_only: bool) -> io::Result<()> {
    let place = open_without_links(path.as_os_str())?;
    let name = format!("/proc/self/fd/{}", place.as_raw_fd());
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(
        Some(name.as_str()),
        name.as_str(),
        None::<&str>,
        bind,
        None::<&str>,
    )?;
    if !read_only {
        return Ok(());
    }
    // What the path means now is the new mount.
    make_read_only(&open_without_links(path.as_os_str())?)
}

/// Makes all mounts read-only, except for what is in these places, which stays as it is. Landlock doesn't know of chmod(2),
/// chown(2), utimensat(2) and setxattr(2).
fn keep_all_but(places: &[OsString]) -> io::Result<()> {
    // From the top: one may be in another.
    let places: BTreeSet<&Path> = places.iter().map(Path::new).collect();
    let mut trees = Vec::new();
    for place in places {
        let opened = open_without_links(place.as_os_str())?;
        trees.push((place, tree_of(&opened)?));
    }
    make_read_only(&open_without_links(OsStr::new("/"))?)?;
    for (place, tree) in trees {
        let opened = open_without_links(place.as_os_str())?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        let (tree, opened, empty) = (tree.as_raw_fd(), opened.as_raw_fd(), c"".as_ptr());
        // SAFETY: descriptors, and C strings that are static.
        let moved = unsafe { libc::syscall(libc::SYS_move_mount, tree, empty, opened, empty, flags) };
        Errno::result(moved)?;
    }
    Ok(())
}

/// A copy of a place's mounts, with what is mounted below, that is mounted nowhere.
fn tree_of(place: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned();
    // SAFETY: a descriptor, and a C string that is static.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) };
    let tree = i32::try_from(Errno::result(tree)?).map_err(io::Error::other)?;
    // SAFETY: the call has just returned it.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
}

/// Makes a mount and all below it read-only.
fn make_read_only(mounted: &OwnedFd) -> io::Result<()> {
    // SAFETY: all-zero is a valid mount_attr.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY;
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: path and attributes live across the call, and the size is theirs.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mounted.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Ok(Errno::result(set).map(drop)?)
}

/// Opens with O_PATH, if no part of the path is a symbolic link: what the sandboxed side may have put there.
pub(super) fn open_without_links(path: &OsStr) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_CLOEXEC | OFlag::O_PATH)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(AT_FDCWD, path, how)?)
}
