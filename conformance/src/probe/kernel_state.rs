//! What the kernel keeps of a process through execve(2): everything that /proc and the calls that read attributes
//! say of it, by name, so that two processes can be compared without a list of what may matter.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// What the kernel keeps, name and value.
pub type KernelState = BTreeMap<String, String>;

/// The lines of /proc/self/status that differ between any two processes: ids, memory in use, what was scheduled, how
/// many signals the user's processes have queued, and the room of the descriptor table.
const STATUS_OF_ANY_PROCESS: [&str; 13] = [
    "Name",
    "Tgid",
    "Pid",
    "PPid",
    "Ngid",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "FDSize",
    "SigQ",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
];

/// The beginnings of lines of /proc/self/status that say how much memory is in use.
const STATUS_OF_MEMORY: [&str; 3] = ["Vm", "Rss", "Hugetlb"];

/// Fields of /proc/self/stat that another file doesn't say, by their number in proc_pid_stat(5). All others are ids,
/// times, counts, addresses or in `status`.
const STAT: [(usize, &str); 9] = [
    (7, "controlling terminal"),
    (8, "foreground group of the terminal"),
    (18, "priority"),
    (19, "niceness"),
    (20, "threads"),
    (25, "limit of the resident set"),
    (38, "signal to the parent at the end"),
    (40, "real-time priority"),
    (41, "scheduling policy"),
];

/// Files of /proc/self that are compared whole.
const FILES: [&str; 10] = [
    "cgroup",
    "coredump_filter",
    "cpuset",
    "gid_map",
    "limits",
    "loginuid",
    "oom_score_adj",
    "personality",
    "timerslack_ns",
    "uid_map",
];

/// Links of /proc/self that are compared by their target.
const LINKS: [&str; 2] = ["cwd", "root"];

/// Attributes that prctl(2) gives as its result.
const RESULTS: [(&str, libc::c_int); 9] = [
    ("dumpable", libc::PR_GET_DUMPABLE),
    ("keep capabilities", libc::PR_GET_KEEPCAPS),
    ("no_new_privs", libc::PR_GET_NO_NEW_PRIVS),
    ("secure bits", libc::PR_GET_SECUREBITS),
    ("timer slack", libc::PR_GET_TIMERSLACK),
    ("transparent huge pages off", libc::PR_GET_THP_DISABLE),
    ("policy for memory errors", libc::PR_MCE_KILL_GET),
    ("memory deny write execute", libc::PR_GET_MDWE),
    ("memory merge", PR_GET_MEMORY_MERGE),
];

/// Attributes that prctl(2) writes to an integer.
const WRITTEN: [(&str, libc::c_int); 2] = [
    ("parent-death signal", libc::PR_GET_PDEATHSIG),
    ("child subreaper", libc::PR_GET_CHILD_SUBREAPER),
];

/// linux/prctl.h; missing in `libc`.
const PR_GET_MEMORY_MERGE: libc::c_int = 68;

/// linux/ioprio.h.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// The state of this process.
///
/// # Errors
/// Where /proc can't be read.
pub fn take() -> io::Result<KernelState> {
    let mut state = KernelState::new();
    let mut add = |name: String, value: String| state.insert(name, value);
    for line in fs::read_to_string("/proc/self/status")?.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let of_memory = STATUS_OF_MEMORY.iter().any(|start| name.starts_with(start));
        if !of_memory && !STATUS_OF_ANY_PROCESS.contains(&name) {
            add(format!("status, {name}"), value.trim().to_owned());
        }
    }
    add_stat(&mut add)?;
    for name in FILES {
        let value = text_or_error(fs::read_to_string(Path::new("/proc/self").join(name)));
        if name == "limits" {
            for line in value.lines().skip(1) {
                let (limit, values) = line.split_at(line.len().min(26));
                let values = values.split_whitespace().collect::<Vec<_>>().join(" ");
                add(format!("limits, {}", limit.trim()), values);
            }
        } else {
            add(name.to_owned(), value);
        }
    }
    for name in LINKS {
        add(name.to_owned(), target(&Path::new("/proc/self").join(name)));
    }
    for entry in fs::read_dir("/proc/self/ns")? {
        let path = entry?.path();
        add(format!("namespace {}", last(&path)), target(&path));
    }
    add_descriptors(&mut add)?;
    add_calls(&mut add);
    Ok(state)
}

fn add_stat(add: &mut impl FnMut(String, String) -> Option<String>) -> io::Result<()> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // The second field is the name, in parentheses, with anything in it.
    let after_the_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_the_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or("missing");
    for (number, name) in STAT {
        add(format!("stat, {name}"), field(number).to_owned());
    }
    // A process is the leader of its group and its session, or it is not; the ids differ.
    let own = std::process::id().to_string();
    for (number, name) in [(5, "group"), (6, "session")] {
        let value = if field(number) == own {
            "its own"
        } else {
            field(number)
        };
        add(format!("stat, {name}"), value.to_owned());
    }
    Ok(())
}

/// What is open, and what /proc/self/fdinfo says of it: offset, flags, mount, inode, locks.
fn add_descriptors(add: &mut impl FnMut(String, String) -> Option<String>) -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let path = entry?.path();
        let number = last(&path);
        let link = Path::new("/proc/self/fd").join(&number);
        // The directory stream that lists them is itself one.
        if fs::read_link(&link).is_ok_and(|target| target.as_os_str().as_bytes().ends_with(b"/fdinfo")) {
            continue;
        }
        add(format!("descriptor {number}"), target(&link));
        add(
            format!("descriptor {number}, fdinfo"),
            text_or_error(fs::read_to_string(&path)),
        );
    }
    Ok(())
}

fn add_calls(add: &mut impl FnMut(String, String) -> Option<String>) {
    let mut add_result = |name: &str, result: libc::c_long| {
        let value = Errno::result(result).map_or_else(|error| error.to_string(), |value| value.to_string());
        add(name.to_owned(), value);
    };
    // SAFETY: prctl with arguments that read one attribute; those of `WRITTEN` write one integer.
    unsafe {
        for (name, option) in RESULTS {
            add_result(name, libc::prctl(option, 0, 0, 0, 0).into());
        }
        for (name, option) in WRITTEN {
            let mut value: libc::c_int = 0;
            let status = libc::prctl(option, &raw mut value, 0, 0, 0);
            add_result(name, if status < 0 { status } else { value }.into());
        }
    }
    // SAFETY: ioprio_get takes integers, get_mempolicy writes one integer.
    unsafe {
        add_result(
            "priority of input and output",
            libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0),
        );
        let mut policy: libc::c_int = 0;
        let status = libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut policy,
            0_usize,
            0_usize,
            0_usize,
            0,
        );
        add_result("memory policy", if status < 0 { status } else { policy.into() });
    }
    for (name, timer) in [
        ("real", libc::ITIMER_REAL),
        ("virtual", libc::ITIMER_VIRTUAL),
        ("profiling", libc::ITIMER_PROF),
    ] {
        // SAFETY: getitimer writes one itimerval, of which all-zero is valid.
        let armed = unsafe {
            let mut value: libc::itimerval = std::mem::zeroed();
            libc::getitimer(timer, &raw mut value) == 0
                && (value.it_value.tv_sec, value.it_value.tv_usec) != (0, 0)
        };
        add(
            format!("{name} interval timer"),
            if armed { "armed" } else { "not armed" }.to_owned(),
        );
    }
    let mut attributes = [0_u8; 56];
    // SAFETY: sched_getattr(2) writes at most as many bytes as it is told.
    let status = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            0,
            attributes.as_mut_ptr(),
            attributes.len(),
            0,
        )
    };
    let value = Errno::result(status).map_or_else(|error| error.to_string(), |_| format!("{attributes:x?}"));
    add("scheduling attributes".to_owned(), value);
}

fn text_or_error(text: io::Result<String>) -> String {
    text.unwrap_or_else(|error| error.to_string())
        .trim_end()
        .to_owned()
}

fn target(link: &Path) -> String {
    fs::read_link(link).map_or_else(
        |error| error.to_string(),
        |target| target.to_string_lossy().into_owned(),
    )
}

fn last(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
