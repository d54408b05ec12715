//! Which file a request means: one answer for the policy and for execve(2).

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;

use crate::faults::{Fault, broken};
use crate::messages::Request;

/// A file that is open, with what identifies it.
pub type Found = (OwnedFd, (u64, u64));

/// What a request would execute.
pub struct Program {
    /// The absolute path for the policy.
    pub path: Vec<u8>,
    /// The directory and the file, or why one of them cannot be opened. The descriptors stay
    /// open until the child has been started: an inode that is open is not given to another file.
    pub found: Result<[Found; 2], Errno>,
}

impl Program {
    /// Whether only a magic link of /proc leads to the file.
    pub fn is_anothers_elsewhere(&self) -> bool {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
        matches!(self.found, Err(Errno::ELOOP))
            && openat2(nix::fcntl::AT_FDCWD, OsStr::from_bytes(&self.path), how).is_ok()
    }
}

/// Finds the program in the file system as it is now.
pub fn find(request: &Request) -> Program {
    let mut path = absolute(&request.file, &request.directory);
    if broken(Fault::ProgramFromArguments) {
        path = absolute(
            request.arguments.first().unwrap_or(&request.file),
            &request.directory,
        );
    }
    if broken(Fault::ProgramAsGiven) {
        path = request.file.clone();
    }
    let found = identity(&request.directory, OFlag::O_DIRECTORY)
        .and_then(|directory| Ok([directory, identity(&path, OFlag::empty())?]));
    Program { path, found }
}

/// Opens without following the names that mean something else in each process, such as /proc/self/exe.
fn identity(path: &[u8], kind: OFlag) -> nix::Result<Found> {
    let resolve = if broken(Fault::MagicLinksFollowed) {
        ResolveFlag::empty()
    } else {
        ResolveFlag::RESOLVE_NO_MAGICLINKS
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | kind)
        .resolve(resolve);
    let name = std::ffi::OsStr::from_bytes(path);
    let descriptor = openat2(nix::fcntl::AT_FDCWD, name, how)?;
    debug_assert!(descriptor.as_raw_fd() > 2);
    let stat = fstat(&descriptor)?;
    let identity = if kind == OFlag::O_DIRECTORY {
        (stat.st_dev, stat.st_ino)
    } else {
        identity_of(&stat)
    };
    Ok((descriptor, identity))
}

/// Device, and inode with the time of change, which identify a file and its content.
pub fn identity_of(stat: &nix::sys::stat::FileStat) -> (u64, u64) {
    if broken(Fault::SizeForIdentity) {
        return (stat.st_dev, stat.st_size as u64);
    }
    if broken(Fault::RewrittenNotSeen) {
        return (stat.st_dev, stat.st_ino);
    }
    // Spread over all bits, so that no small change of one makes up for another of the other.
    let changed = (stat.st_ctime as u64).wrapping_mul(1_000_000_000) + stat.st_ctime_nsec as u64;
    (
        stat.st_dev,
        stat.st_ino ^ changed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    )
}

/// `file` seen from `directory`, without `.` components. `..` stays: only the kernel knows where it leads.
fn absolute(file: &[u8], directory: &[u8]) -> Vec<u8> {
    let own;
    let mut directory = directory;
    if broken(Fault::ServerDirectory) {
        own = std::env::current_dir()
            .unwrap_or_default()
            .into_os_string()
            .into_vec();
        directory = &own;
    }
    if broken(Fault::PathSearched) && !file.contains(&b'/') {
        directory = b"/bin";
    }
    let expanded;
    let mut file = file;
    for (fault, prefix) in [
        (Fault::TildeExpanded, &b"~"[..]),
        (Fault::VariablesExpanded, b"$HOME"),
    ] {
        if broken(fault)
            && let Some(rest) = file.strip_prefix(prefix)
            && rest.starts_with(b"/")
        {
            let home = std::env::var_os("HOME").unwrap_or_default().into_vec();
            expanded = [home.as_slice(), rest].concat();
            file = &expanded;
            break;
        }
    }
    let whole = if file.starts_with(b"/") {
        file.to_vec()
    } else {
        [directory, b"/", file].concat()
    };
    let mut path = Vec::new();
    for component in whole.split(|byte| *byte == b'/') {
        let lexical = broken(Fault::DotdotLexical) || broken(Fault::DotdotLexicalEverywhere);
        if lexical && component == b".." {
            path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            continue;
        }
        if broken(Fault::ParentsResolvedOneByOne) && component == b".." {
            let _ = std::fs::canonicalize(OsStr::from_bytes(&path));
        }
        let dropped = component == b"." && !broken(Fault::DotsKept);
        if !component.is_empty() && !dropped {
            path.push(b'/');
            path.extend_from_slice(component);
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}
