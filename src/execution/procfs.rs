//! What /proc says of processes, and that it is this process's own: a supervisor finds there whom it has to kill.

use std::path::Path;
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

/// Why no process tree can be supervised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableProc {
    /// Nothing is mounted there, or another file system.
    #[error("/proc is not mounted; mount it, and try again")]
    Missing,
    /// Its numbers are not those that this process uses: it was mounted in another pid namespace.
    #[error(
        "/proc belongs to another pid namespace; mount one for this namespace (`unshare --mount-proc`, `bwrap --proc /proc`)"
    )]
    Foreign,
    /// CONFIG_PROC_CHILDREN is off.
    #[error("/proc does not list the children of processes; the kernel needs CONFIG_PROC_CHILDREN")]
    WithoutChildren,
    /// For example, since too many files are open here.
    #[error("/proc does not show this process's children: {0}")]
    Unreadable(Errno),
}

/// Checks /proc.
///
/// # Errors
/// When a supervisor would not find its children there, or find others under their numbers.
pub(crate) fn check_proc() -> Result<(), UnusableProc> {
    check(Path::new("/proc"), std::process::id(), "thread-self/children")
}

/// Checks what is mounted at `proc`, for a process that has this pid and finds its children there.
fn check(proc: &Path, own: u32, children: &str) -> Result<(), UnusableProc> {
    if !statfs(proc).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC) {
        return Err(UnusableProc::Missing);
    }
    // For a process that is not in its pid namespace, procfs has no `self`.
    let shown = fs::read_link(proc.join("self"));
    if !shown.is_ok_and(|shown| shown.as_os_str() == own.to_string().as_str()) {
        return Err(UnusableProc::Foreign);
    }
    match fs::File::open(proc.join(children)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(UnusableProc::WithoutChildren),
        Err(error) => Err(UnusableProc::Unreadable(Errno::from_raw(
            error.raw_os_error().unwrap_or_default(),
        ))),
    }
}

/// Whether the process is stopped now.
pub(crate) fn is_stopped(process: Pid) -> bool {
    state_and_parent(process).is_some_and(|(state, _)| state.starts_with(['T', 't']))
}

/// Whether the process is that one, or a descendant of it whose ancestors all live.
pub(crate) fn descends_from(process: Pid, ancestor: Pid) -> bool {
    // No chain is longer, unless processes come and go while it is followed.
    const LONGEST: usize = 1_000;
    let mut chain = std::iter::successors(Some(process), |&process| {
        let (_, parent) = state_and_parent(process)?;
        (parent.as_raw() > 1).then_some(parent)
    });
    chain.by_ref().take(LONGEST).any(|process| process == ancestor)
}

fn state_and_parent(process: Pid) -> Option<(String, Pid)> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // They follow the name, which is in parentheses and may have some in it.
    let (_, rest) = status.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.to_owned();
    Some((state, Pid::from_raw(words.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_of_any_generation_are_known() {
        let own = nix::unistd::getpid();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap());
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(descends_from(own, own) && descends_from(pid, own) && descends_from(grandchild, own));
        assert!(
            descends_from(grandchild, pid) && !descends_from(own, pid) && !descends_from(pid, grandchild)
        );
        nix::sys::signal::kill(grandchild, nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(!descends_from(pid, own));
    }

    #[test]
    fn only_a_proc_of_the_own_namespace_is_usable() {
        let own = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(own.to_string(), folder.path().join("self")).unwrap();
        let check = |proc: &Path, own| super::check(proc, own, "thread-self/children");
        assert_eq!(check_proc(), Ok(()));
        assert_eq!(check(folder.path(), own), Err(UnusableProc::Missing));
        assert_eq!(
            check(&folder.path().join("none"), own),
            Err(UnusableProc::Missing)
        );
        // As in another namespace, where this process has another number.
        assert_eq!(check(Path::new("/proc"), own + 1), Err(UnusableProc::Foreign));
    }
    #[test]
    fn a_proc_that_does_not_list_children_is_not_usable() {
        // What a kernel without CONFIG_PROC_CHILDREN says to the right name.
        let found = |children| check(Path::new("/proc"), std::process::id(), children);
        assert_eq!(found("thread-self/kinder"), Err(UnusableProc::WithoutChildren));
        assert_eq!(
            found("thread-self/status/children"),
            Err(UnusableProc::Unreadable(Errno::ENOTDIR))
        );
    }
}
