//! What the kernel keeps of two processes, compared, and processes of which it keeps what is unusual.

use crate::probe::kernel_state::KernelState;
use crate::system::launch::Launch;
use crate::verdict::{Verdict, violation};

/// Demands that two processes have the same state, and names each difference: both in full would hide it.
///
/// # Errors
/// The differences, those of the expected state behind `measure` and those of the other one behind `judged`.
pub fn expect_same(measure: &str, expected: &KernelState, judged: &str, observed: &KernelState) -> Verdict {
    let differing = |own: &KernelState, other: &KernelState| -> Vec<String> {
        let missing = || "nothing".to_owned();
        expected
            .keys()
            .chain(observed.keys().filter(|name| !expected.contains_key(*name)))
            .filter(|name| own.get(*name) != other.get(*name))
            .map(|name| format!("{name}: {}", own.get(name).cloned().unwrap_or_else(missing)))
            .collect()
    };
    let wanted = differing(expected, observed);
    if wanted.is_empty() {
        return Ok(());
    }
    Err(violation(
        format_args!("{measure}: {}", wanted.join("; ")),
        format_args!("{judged}: {}", differing(observed, expected).join("; ")),
    ))
}

/// A launch of a process of which much that its children inherit is not as it is by default.
pub fn unusual(launch: Launch) -> Launch {
    let launch = launch
        .umask(0o037)
        .nice(3)
        .ignoring(libc::SIGHUP)
        .blocking(libc::SIGUSR2);
    // SAFETY: both make plain system calls on constants and on their own stack.
    unsafe {
        launch
            .prepared_by(change_attributes)
            .prepared_by(change_scheduling)
    }
}

/// Timer slack, huge pages, no_new_privs, personality.
fn change_attributes() -> libc::c_int {
    // SAFETY: prctl and personality take integers.
    unsafe {
        let statuses = [
            libc::prctl(libc::PR_SET_TIMERSLACK, 123_456),
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        ];
        // Many containers refuse it, to the command that is executed directly as well.
        libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        statuses.into_iter().min().unwrap_or(0).min(0)
    }
}

/// Processors (the first that is allowed) and policy.
fn change_scheduling() -> libc::c_int {
    // SAFETY: calls on local structures, of which all-zero is valid.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) < 0 {
            return -1;
        }
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        if let Some(first) = (0..libc::CPU_SETSIZE as usize).find(|number| libc::CPU_ISSET(*number, &allowed))
        {
            libc::CPU_SET(first, &mut one);
        }
        if libc::sched_setaffinity(0, size_of_val(&one), &raw const one) < 0 {
            return -1;
        }
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters)
    }
}
