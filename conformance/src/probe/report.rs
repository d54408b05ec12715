//! What a process was started with, taken before anything could change it.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::shown::Shown;

/// What a process was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When, in nanoseconds since 1970, so that reports can be put in order.
    pub time: u64,
    /// Process, parent, process group, session.
    pub pid: i32,
    /// The parent's pid.
    pub parent: i32,
    /// The process group.
    pub group: i32,
    /// The session.
    pub session: i32,
    /// The foreground process group of the controlling terminal, none without one.
    pub foreground_group: Option<i32>,
    /// /proc/self/exe.
    pub executable: Vec<u8>,
    /// The path that execve(2) was called with, as it was given (AT_EXECFN).
    pub executed_name: Vec<u8>,
    /// /proc/self/comm, without its newline.
    pub name: Vec<u8>,
    /// The argument vector, `argv[0]` included.
    pub arguments: Vec<Vec<u8>>,
    /// The environment's entries as they stand in memory.
    pub environment: Vec<Vec<u8>>,
    /// The working directory as getcwd(2) names it; empty where it has no name.
    pub directory: Vec<u8>,
    /// Device and inode of the working directory.
    pub directory_identity: (u64, u64),
    /// The umask.
    pub umask: u32,
    /// Open descriptors, by number.
    pub descriptors: Vec<DescriptorReport>,
    /// Blocked signals, bit N-1 for signal N (SigBlk of /proc/self/status).
    pub blocked: u64,
    /// Ignored signals.
    pub ignored: u64,
    /// Pending signals, of the process and of its main thread.
    pub pending: u64,
    /// Soft and hard resource limits, by number.
    pub limits: Vec<(u64, u64)>,
    /// Niceness.
    pub nice: i32,
    /// Real, effective, saved user id.
    pub users: (u32, u32, u32),
    /// Real, effective, saved group id.
    pub groups: (u32, u32, u32),
    /// Supplementary groups, sorted.
    pub supplementary_groups: Vec<u32>,
    /// Whether no_new_privs is set.
    pub no_new_privileges: bool,
}

/// One open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorReport {
    /// Its number.
    pub number: i32,
    /// Descriptor flags (F_GETFD).
    pub descriptor_flags: i32,
    /// File status flags (F_GETFL).
    pub status_flags: i32,
    /// Device and inode.
    pub identity: (u64, u64),
    /// Offset, where the file has one.
    pub offset: Option<i64>,
    /// What /proc calls it, such as `pipe:[17]`.
    pub target: Vec<u8>,
}

impl Shown for DescriptorReport {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = String::from_utf8_lossy(&self.target);
        write!(formatter, "descriptor {} ({target})", self.number)
    }
}

impl Report {
    /// The arguments as text, for comparison; other bytes become U+FFFD.
    pub fn argument_text(&self) -> Vec<String> {
        self.arguments
            .iter()
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }

    /// The value of a variable: the first entry of that name.
    pub fn variable(&self, name: &str) -> Option<Vec<u8>> {
        let prefix = format!("{name}=");
        self.environment
            .iter()
            .find_map(|entry| entry.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec))
    }

    /// The numbers of the open descriptors.
    pub fn descriptor_numbers(&self) -> Vec<i32> {
        self.descriptors
            .iter()
            .map(|descriptor| descriptor.number)
            .collect()
    }

    /// What is known of descriptor `number`.
    pub fn descriptor(&self, number: i32) -> Option<&DescriptorReport> {
        self.descriptors
            .iter()
            .find(|descriptor| descriptor.number == number)
    }

    /// Whether `signal` was ignored.
    pub fn ignores(&self, signal: i32) -> bool {
        self.ignored & (1 << (signal - 1)) != 0
    }

    /// Writes the report as a file of its own into `directory`, whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_into(&self, directory: &Path) -> io::Result<()> {
        let name = format!("{:020}-{}", self.time, self.pid);
        let unfinished = directory.join(format!(".{name}"));
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(unfinished, directory.join(name))
    }
}

/// Takes the report of this process.
pub fn take() -> Report {
    // The descriptors first: everything below opens some.
    let descriptors = descriptors();
    let time = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
            .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
            .unwrap_or(0)
    };
    let mut supplementary_groups: Vec<u32> = nix::unistd::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(nix::unistd::Gid::as_raw)
        .collect();
    supplementary_groups.sort_unstable();
    let identity = nix::sys::stat::stat(".").map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
    Report {
        time: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        pid: nix::unistd::getpid().as_raw(),
        parent: nix::unistd::getppid().as_raw(),
        group: nix::unistd::getpgrp().as_raw(),
        session: nix::unistd::getsid(None).map_or(-1, nix::unistd::Pid::as_raw),
        foreground_group: foreground_group(),
        executable: fs::read_link("/proc/self/exe")
            .unwrap_or_default()
            .into_os_string()
            .into_vec(),
        executed_name: super::own::executed_name()
            .map(|path| path.into_os_string().into_vec())
            .unwrap_or_default(),
        name: fs::read("/proc/self/comm")
            .unwrap_or_default()
            .trim_ascii_end()
            .to_vec(),
        arguments: std::env::args_os().map(OsString::into_vec).collect(),
        environment: environment(),
        directory: nix::unistd::getcwd()
            .unwrap_or_default()
            .into_os_string()
            .into_vec(),
        directory_identity: identity,
        umask: umask(),
        descriptors,
        blocked: set("SigBlk"),
        ignored: set("SigIgn"),
        pending: set("ShdPnd") | set("SigPnd"),
        limits: limits(),
        nice: nice(),
        users: nix::unistd::getresuid().map_or((0, 0, 0), |ids| {
            (ids.real.as_raw(), ids.effective.as_raw(), ids.saved.as_raw())
        }),
        groups: nix::unistd::getresgid().map_or((0, 0, 0), |ids| {
            (ids.real.as_raw(), ids.effective.as_raw(), ids.saved.as_raw())
        }),
        supplementary_groups,
        no_new_privileges: nix::sys::prctl::get_no_new_privs().unwrap_or(false),
    }
}

/// The environment's entries as they stand in memory: the standard library would drop what has no `=`.
fn environment() -> Vec<Vec<u8>> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut entries = Vec::new();
    // SAFETY: `environ` is a null-terminated vector of C strings, and this process has one thread.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            entries.push(std::ffi::CStr::from_ptr(*entry).to_bytes().to_vec());
            entry = entry.add(1);
        }
    }
    entries
}

fn descriptors() -> Vec<DescriptorReport> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut reports: Vec<DescriptorReport> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let number: i32 = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            // The directory stream that lists the descriptors is itself one.
            if target.as_os_str().as_bytes().ends_with(b"/fd") && target.starts_with("/proc") {
                return None;
            }
            describe(number, target.into_os_string().into_vec())
        })
        .collect();
    reports.sort_by_key(|report| report.number);
    reports
}

fn describe(number: i32, target: Vec<u8>) -> Option<DescriptorReport> {
    // SAFETY: fcntl, fstat and lseek on a number that may be closed fail with EBADF; fstat writes to `stat`.
    unsafe {
        let descriptor_flags = libc::fcntl(number, libc::F_GETFD);
        if descriptor_flags < 0 {
            return None;
        }
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(number, &raw mut stat);
        let offset = libc::lseek(number, 0, libc::SEEK_CUR);
        Some(DescriptorReport {
            number,
            descriptor_flags,
            status_flags: libc::fcntl(number, libc::F_GETFL),
            identity: (stat.st_dev, stat.st_ino),
            offset: (offset >= 0).then_some(offset),
            target,
        })
    }
}

fn umask() -> u32 {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    mask.bits()
}

fn foreground_group() -> Option<i32> {
    let terminal = fs::File::open("/dev/tty").ok()?;
    nix::unistd::tcgetpgrp(&terminal)
        .ok()
        .map(nix::unistd::Pid::as_raw)
}

fn limits() -> Vec<(u64, u64)> {
    (0..16)
        .map(|resource| {
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: getrlimit writes to `limit`.
            unsafe { libc::getrlimit(resource, &raw mut limit) };
            (limit.rlim_cur, limit.rlim_max)
        })
        .collect()
}

fn nice() -> i32 {
    // SAFETY: getpriority takes integers. It can rightly return -1, as a niceness.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}
