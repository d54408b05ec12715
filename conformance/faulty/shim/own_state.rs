//! What faults of this server's own state leave to what it starts.

use std::io::Write;

use crate::faults::{Fault, broken};

/// Changes this process, on its way to execve(2), as a server that has changed itself would have.
pub fn leak() {
    if broken(Fault::FilesRaised) {
        limit(libc::RLIMIT_NOFILE, |limit| limit.rlim_cur = limit.rlim_max);
    }
    if broken(Fault::CoreFilesOff) {
        limit(libc::RLIMIT_CORE, |limit| limit.rlim_cur = 0);
    }
    if broken(Fault::ScoreRaised)
        && let Ok(mut file) = std::fs::File::options()
            .write(true)
            .open("/proc/self/oom_score_adj")
    {
        let _ = file.write_all(b"500");
    }
    // SAFETY: prctl(2), personality(2), sched_setscheduler(2) and sched_setaffinity(2) on integers and local structures, of
    // which all-zero is valid.
    unsafe {
        if broken(Fault::SlackTightened) {
            libc::prctl(libc::PR_SET_TIMERSLACK, 1_000);
        }
        if broken(Fault::PrivilegesGivenUp) {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
        if broken(Fault::AddressesFixed) {
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        }
        if broken(Fault::ChildIsSubreaper) {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        }
        if broken(Fault::HugePagesReset) {
            libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        }
        if broken(Fault::PolicyReset) {
            let parameters: libc::sched_param = std::mem::zeroed();
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters);
        }
        if broken(Fault::ProcessorsReset) {
            let mut all: libc::cpu_set_t = std::mem::zeroed();
            for number in 0..libc::CPU_SETSIZE as usize {
                libc::CPU_SET(number, &mut all);
            }
            libc::sched_setaffinity(0, size_of_val(&all), &raw const all);
        }
    }
}

fn limit(resource: libc::__rlimit_resource_t, change: impl FnOnce(&mut libc::rlimit)) {
    // SAFETY: getrlimit and setrlimit with a local limit.
    unsafe {
        let mut limit = std::mem::zeroed();
        libc::getrlimit(resource, &raw mut limit);
        change(&mut limit);
        libc::setrlimit(resource, &raw const limit);
    }
}
