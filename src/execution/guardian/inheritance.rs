//! What an escalated child inherits of the host by way of the guardian.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getsid};

/// The lines of proc(5), /proc/PID/status, that speak of something that is inherited.
const LINES: &[&str] = &[
    "Umask:",
    "Uid:",
    "Gid:",
    "Groups:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Seccomp_filters:",
];

/// What lies below /proc/self/ns and can be changed for children.
const NAMESPACES: &[&str] = &[
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid_for_children",
    "time_for_children",
    "user",
    "uts",
];

/// Bytes that have room for the status of a process with hundreds of groups.
const USUAL_SIZE: usize = 8 * 1024;

const LIMITS: libc::__rlimit_resource_t = 16;

/// What a process that is forked now has of this one. Priorities and processors are left out, since each thread has its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inheritance {
    /// This process, since a copy of it has no guardian.
    process: u32,
    session: Pid,
    status: Vec<String>,
    cgroup: Vec<u8>,
    /// How much the OOM killer prefers it to others.
    oom_score_adj: Vec<u8>,
    limits: Vec<(u64, u64)>,
    namespaces: Vec<OsString>,
    /// Device and inode of the root directory.
    root: (u64, u64),
}

impl Inheritance {
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let status = read("/proc/thread-self/status")?;
        let status = String::from_utf8_lossy(&status);
        let is_inherited = |line: &&str| LINES.iter().any(|name| line.starts_with(name));
        let root = fs::metadata("/")?;
        Ok(Self {
            process: std::process::id(),
            session: getsid(None)?,
            status: status.lines().filter(is_inherited).map(str::to_owned).collect(),
            cgroup: read("/proc/thread-self/cgroup").unwrap_or_default(),
            oom_score_adj: read("/proc/thread-self/oom_score_adj").unwrap_or_default(),
            limits: (0..LIMITS).map(limit).collect::<Result<_, _>>()?,
            namespaces: namespaces()?,
            root: (root.dev(), root.ino()),
        })
    }
}

/// As [`fs::read`], by two calls for what is no longer than such files mostly are; that makes its way there in many small steps.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(USUAL_SIZE);
    fs::File::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

fn limit(resource: libc::__rlimit_resource_t) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one limit.
    Errno::result(unsafe { libc::getrlimit64(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// What each namespace is called, by its kind and number; empty if the kernel has none of that kind. The links are only read:
/// following them takes three times as long.
fn namespaces() -> io::Result<Vec<OsString>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = open("/proc/thread-self/ns", flags, Mode::empty())?;
    let name = |kind: &&str| readlinkat(&folder, *kind).unwrap_or_default();
    Ok(NAMESPACES.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_change_is_the_same() {
        let [before, after] = [(); 2].map(|()| Inheritance::of_this_thread().unwrap());
        assert_eq!(before, after);
        assert_eq!(before.status.len(), LINES.len(), "{before:?}");
    }

    #[test]
    fn a_change_of_a_thread_s_rights_is_noticed() {
        let before = Inheritance::of_this_thread().unwrap();
        let changed = std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            Inheritance::of_this_thread().unwrap()
        });
        assert_ne!(before, changed.join().unwrap());
    }

    #[test]
    fn a_namespace_that_a_thread_has_left_is_another() {
        let before = namespaces().unwrap();
        assert!(
            before[NAMESPACES.len() - 1]
                .as_encoded_bytes()
                .starts_with(b"uts:[")
        );
        let changed = std::thread::spawn(|| {
            // Without privilege there is none to change.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).map(|()| namespaces().unwrap())
        });
        if let Ok(changed) = changed.join().unwrap() {
            assert_ne!(before.last(), changed.last());
            assert_eq!(before[..before.len() - 1], changed[..before.len() - 1]);
        }
    }
}
