//! What a sandboxed process must not have, even if it is root's.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

use super::failure::Failure;
use super::gap::Gap;
use super::namespace::Namespace;

/// Most processes and threads of a sandbox.
const MOST_PROCESSES: u64 = 4096;

/// What root keeps: to deal with files of all users and to become one of them. From linux/capability.h.
const KEPT: &[u32] = &[CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID];
const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const FSETID: u32 = 4;
const KILL: u32 = 5;
const SETGID: u32 = 6;
const SETUID: u32 = 7;

/// No program changes its user or gets capabilities by being executed.
pub(super) fn refuse_new_ones() -> Result<(), Failure> {
    nix::sys::prctl::set_no_new_privs().map_err(|errno| Failure::new("no_new_privs", errno.desc()))
}

/// Bounds the processes. The kernel exempts the system's root, and without a user namespace it would count all of the user's.
pub(super) fn limit_processes(namespace: &Namespace, gaps: &mut Vec<Gap>) -> Result<(), Failure> {
    if geteuid().is_root() {
        return Ok(());
    }
    if !namespace.of_users {
        gaps.push(Gap::Processes);
        return Ok(());
    }
    let limited = getrlimit(Resource::RLIMIT_NPROC).and_then(|(_, hard)| {
        let limit = MOST_PROCESSES.min(hard);
        setrlimit(Resource::RLIMIT_NPROC, limit, limit)
    });
    limited.map_err(|errno| Failure::new("limit of processes", errno.desc()))
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3
const VERSION: u32 = 0x2008_0522;

/// Drops all capabilities but [`KEPT`], for good.
pub(super) fn drop_capabilities() -> Result<(), Failure> {
    let failed = |what: &str| Failure::new(what, Errno::last().desc());
    // SAFETY: prctl(2) with integers.
    let prctl = |option: i32, argument: u64| unsafe { libc::prctl(option, argument, 0, 0, 0) };
    // ambient(7): none of them survives the loss of what is permitted, but older kernels don't know the option.
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64);
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut halves = [Half::default(); 2];
    // SAFETY: the header names version 3, whose data are two halves.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) } != 0 {
        return Err(failed("capget"));
    }
    let may_drop = halves[0].effective & (1 << 8) != 0;
    for capability in (0..64).filter(|capability| !KEPT.contains(capability)) {
        // The first that the kernel doesn't know ends them.
        if prctl(libc::PR_CAPBSET_READ, u64::from(capability)) < 0 {
            break;
        }
        // Without CAP_SETPCAP nothing can be dropped, but with no_new_privs nothing can come of it either.
        if may_drop && prctl(libc::PR_CAPBSET_DROP, u64::from(capability)) != 0 {
            return Err(failed("capability"));
        }
    }
    let kept = KEPT.iter().fold(0, |mask, &capability| mask | 1 << capability);
    halves[0].effective &= kept;
    halves[0].permitted &= kept;
    halves[0].inheritable = 0;
    halves[1] = Half::default();
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) } != 0 {
        return Err(failed("capset"));
    }
    Ok(())
}
