//! What a case left behind: processes and files.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::system::process::{self, ProcessHandle};
use crate::verdict::CaseError;

/// How long what a finished case started may take to end by itself, before `--timeout-scale`.
///
/// Ordinary ends are asynchronous: a server that was shut down kills its trees, and the kernel takes them down.
pub const GRACE: Duration = Duration::from_secs(2);

/// Waits until every descendant of this process has ended, and reaps. Returns in words those that did not
/// end within `grace`, after having killed them.
///
/// This process must be a subreaper, so that orphans come to it.
///
/// # Errors
/// Where processes cannot be looked at or waited for.
pub fn end_of_all_descendants(grace: Duration) -> Result<Vec<String>, CaseError> {
    let deadline = Instant::now() + grace;
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
            std::thread::yield_now();
            if Instant::now() >= deadline {
                break;
            }
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if let Some(handle) = ProcessHandle::open(Pid::from_raw(living.pid))? {
            handle.ended_within(left)?;
        }
    }
    let survivors = process::descendants(own)
        .into_iter()
        .map(|state| process::describe(Pid::from_raw(state.pid)))
        .collect();
    kill_all_descendants()?;
    Ok(survivors)
}

/// Kills every descendant, again and again until there is none: a process may fork while it is looked for.
///
/// # Errors
/// Where processes cannot be looked at or waited for.
pub fn kill_all_descendants() -> Result<(), CaseError> {
    let own = std::process::id() as i32;
    loop {
        reap_all()?;
        let descendants = process::descendants(own);
        if descendants.is_empty() {
            return Ok(());
        }
        for descendant in descendants {
            if let Some(handle) = ProcessHandle::open(Pid::from_raw(descendant.pid))? {
                handle.signal(libc::SIGKILL)?;
            }
        }
        std::thread::yield_now();
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
