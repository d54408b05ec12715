//! What a case left behind: processes and files.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::system::clock::Moment;
use crate::system::process::{self, ProcessHandle, ProcessState};
use crate::verdict::{CaseError, harness};

/// How long what a finished case started may take to end by itself, before `--timeout-scale`.
///
/// Ordinary ends are asynchronous: a server that was shut down kills its trees, and the kernel takes them down.
pub const GRACE: Duration = Duration::from_secs(2);

/// After how long a process that SIGKILL does not end is given up: one in an uninterruptible sleep, or another user's.
const UNKILLABLE: Duration = Duration::from_secs(20);

/// Waits until every descendant of this process has ended, and reaps. Returns in words those that did not
/// end within `grace`, after having killed them.
///
/// This process must be a subreaper, so that orphans come to it.
///
/// # Errors
/// Where processes cannot be looked at or waited for.
pub fn end_of_all_descendants(grace: Duration) -> Result<Vec<String>, CaseError> {
    let deadline = Moment::now() + grace;
    let own = std::process::id() as i32;
    loop {
        reap_all()?;
        let Some(living) = process::descendants(own)
            .into_iter()
            .find(|process| process.state != 'Z')
        else {
            if process::descendants(own).is_empty() {
                return Ok(Vec::new());
            }
            // Zombies whose parent has just ended come to us in a moment, or belong to a living process.
            process::rest();
            if deadline.is_over() {
                break;
            }
            continue;
        };
        let left = deadline.left();
        if left.is_zero() {
            break;
        }
        if let Some(handle) = ProcessHandle::open(Pid::from_raw(living.pid))? {
            handle.ended_within(left)?;
        }
    }
    // What has ended in the meantime is none.
    reap_all()?;
    let survivors = process::descendants(own).iter().map(described).collect();
    kill_all_descendants()?;
    Ok(survivors)
}

fn described(process: &ProcessState) -> String {
    process::describe(Pid::from_raw(process.pid))
}

fn in_words(processes: &[ProcessState]) -> String {
    processes.iter().map(described).collect::<Vec<_>>().join("; ")
}

/// Makes this process and those that it forks unreadable for others of its user: their memory, which holds secrets, and
/// their descriptors (PR_SET_DUMPABLE, ptrace(2) "Ptrace access mode checking"). What they execute is not affected.
///
/// # Errors
/// Of prctl(2).
pub fn keep_to_ourselves() -> nix::Result<()> {
    nix::sys::prctl::set_dumpable(false)
}

/// Kills every descendant, again and again until there is none: a process may fork while it is looked for.
///
/// # Errors
/// Where processes cannot be looked at or waited for.
pub fn kill_all_descendants() -> Result<(), CaseError> {
    let own = std::process::id() as i32;
    let deadline = Moment::now() + UNKILLABLE;
    loop {
        reap_all()?;
        let descendants = process::descendants(own);
        if descendants.is_empty() {
            return Ok(());
        }
        if deadline.is_over() {
            return Err(harness(format_args!(
                "cannot be killed: {}",
                in_words(&descendants)
            )));
        }
        for descendant in descendants {
            if let Some(handle) = ProcessHandle::open(Pid::from_raw(descendant.pid))? {
                handle.signal(libc::SIGKILL)?;
            }
        }
        process::rest();
    }
}

/// Kills `root`, a child of ours, and its descendants, again and again until only `root` is left to be waited for.
///
/// Orphans of a subreaper that is killed come to this process, which ends them with its own last census.
///
/// # Errors
/// Where processes cannot be looked at.
pub fn kill_tree(root: &ProcessHandle) -> Result<(), CaseError> {
    let own = root.pid.as_raw();
    let deadline = Moment::now() + UNKILLABLE;
    loop {
        let living: Vec<_> = process::descendants(own)
            .into_iter()
            .filter(|process| process.state != 'Z')
            .collect();
        if living.is_empty() || deadline.is_over() {
            return root.signal(libc::SIGKILL);
        }
        for descendant in living {
            if let Some(handle) = ProcessHandle::open(Pid::from_raw(descendant.pid))? {
                handle.signal(libc::SIGKILL)?;
            }
        }
        process::rest();
    }
}

fn reap_all() -> Result<(), CaseError> {
    loop {
        match process::wait_for(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG) {
            Ok(None) | Err(Errno::ECHILD) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Bytes that the files in `directory` and below occupy, but for those names directly in it; links are not followed, and what vanishes meanwhile is nothing.
pub fn bytes_below(directory: &Path, except: &[&str]) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let mut bytes = 0;
    for entry in entries.filter_map(Result::ok) {
        if except.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += bytes_below(&entry.path(), &[]),
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(_) => {}
        }
    }
    bytes
}

/// The files that an implementation left in its TMPDIR.
pub fn stray_files(temporary_directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(temporary_directory) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
