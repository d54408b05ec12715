//! Processes of a tree that could not be ended.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A process that could not be ended, because it has become another user's, another process traces it, or it waits for a
/// file system that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survivor {
    /// Its pid.
    pub pid: i32,
    /// Its name, as ps(1) shows it.
    pub name: String,
    /// The user that it belongs to.
    pub user: u32,
}

impl fmt::Display for Survivor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, user } = self;
        write!(formatter, "{} (pid {pid}, user {user})", name.escape_default())
    }
}

/// All descendants of a process as /proc shows them now. The supervisor is among them if it hasn't been ended, either: the name
/// alone doesn't tell it from what calls itself so.
pub(super) fn descendants(ancestor: i32) -> Vec<Survivor> {
    let mut children: HashMap<i32, Vec<Survivor>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((parent, process)) = pid.and_then(process) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// The parent of a process, and the process; `None` if it has gone.
fn process(pid: i32) -> Option<(i32, Survivor)> {
    let folder = format!("/proc/{pid}");
    let stat = fs::read(format!("{folder}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // PID (NAME) STATE PARENT ..., where the name may contain anything.
    let (start, rest) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    let user = fs::metadata(folder).ok()?.uid();
    let name = name.to_owned();
    Some((parent, Survivor { pid, name, user }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn descendants_of_any_generation_are_found_by_name() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sh -c 'sleep 600; :' & echo; wait"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let found = loop {
            let found = descendants(pid);
            if found.iter().any(|process| process.name == "sleep") {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(found.len(), 2);
        assert!(descendants(own).iter().any(|process| process.pid == pid));
        assert!(found[1].to_string().starts_with("sleep (pid "), "{found:?}");
        for process in found {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(process.pid),
                nix::sys::signal::Signal::SIGKILL,
            )
            .unwrap();
        }
        shell.wait().unwrap();
    }
}
