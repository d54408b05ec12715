//! The filter of system calls: what Landlock doesn't know, and what sandboxes have been left by.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

use super::calls::{self, Verdict};
use super::failure::Failure;

/// Refused with EPERM, whatever their arguments.
const REFUSED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    // Files by another way than their path.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Keys, which a user's processes share.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    // Other users of the terminal and of the machine.
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

/// As if the kernel didn't have them, so that programs do without: a filter sees neither what a ring is told, nor clone3's
/// flags.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_clone3,
];

const NEW_NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// unshare(2) only: the bit is part of the exit signal of clone(2).
const CLONE_NEWTIME: libc::c_int = 0x80;

/// From linux/ioprio.h.
const IOPRIO_WHO_PROCESS: u64 = 1;

/// Bits of socketpair(2)'s type that are not flags.
const SOCKET_TYPE: u64 = 0xf;

/// Refused if the profile has no network.
const OF_NETWORK: &[libc::c_long] = &[libc::SYS_socket, libc::SYS_connect, libc::SYS_bind];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Applies the filter to this thread, which must be the only one.
pub(super) fn apply(network: bool) -> Result<(), Failure> {
    let failed = |error: seccompiler::Error| Failure::new("seccomp", error);
    apply_filter(&program(network).map_err(failed)?).map_err(failed)
}

/// All of it: what is decided by a call's number, and then what its arguments decide.
fn program(network: bool) -> Result<BpfProgram, seccompiler::Error> {
    let machine: TargetArch = std::env::consts::ARCH.try_into()?;
    let examined = examined(network)?;
    let mut verdicts: Vec<(u32, Verdict)> = examined
        .keys()
        .map(|&call| (number(call), Verdict::Examined))
        .collect();
    let of_network = if network { &[] } else { OF_NETWORK };
    for (refused, errno) in [
        (REFUSED, libc::EPERM),
        (of_network, libc::EPERM),
        (ABSENT, libc::ENOSYS),
    ] {
        verdicts.extend(refused.iter().map(|&call| (number(call), Verdict::Fails(errno))));
    }
    verdicts.sort_unstable_by_key(|&(number, _)| number);
    let mut program = calls::by_number(architecture(machine), &verdicts);
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let by_arguments = SeccompFilter::new(examined, SeccompAction::Allow, refuse, machine)?;
    program.extend(BpfProgram::try_from(by_arguments)?);
    if machine == TargetArch::x86_64 {
        program.splice(0..0, no_x32());
    }
    Ok(program)
}

fn number(call: i64) -> u32 {
    u32::try_from(call).expect("system calls have small numbers")
}

/// From linux/audit.h: what `struct seccomp_data` calls the machine.
fn architecture(machine: TargetArch) -> u32 {
    match machine {
        TargetArch::x86_64 => 0xc000_003e,
        TargetArch::aarch64 => 0xc000_00b7,
        TargetArch::riscv64 => 0xc000_00f3,
    }
}

/// Refused with EPERM if any of a call's rules holds for its arguments.
fn examined(network: bool) -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    let flags = |flags: &[libc::c_int]| -> Result<Vec<SeccompRule>, seccompiler::Error> {
        flags.iter().map(|&flag| all([has(0, flag as u64)?])).collect()
    };
    rules.insert(libc::SYS_clone, flags(NEW_NAMESPACES)?);
    rules.insert(
        libc::SYS_unshare,
        flags(&[NEW_NAMESPACES, &[CLONE_NEWTIME]].concat())?,
    );
    // What goes into a terminal's input is read by whoever reads it next, outside as well.
    rules.insert(
        libc::SYS_ioctl,
        vec![all([is(1, libc::TIOCSTI)?])?, all([is(1, libc::TIOCLINUX)?])?],
    );
    // Limits and priorities of others, which can end them as a signal does, or starve them. 0 is the caller itself.
    let of_another = || is_not(0, 0);
    for call in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
    ] {
        rules.insert(call, vec![all([of_another()?])?]);
    }
    // Of a process, not of a group, which may be the server's, or of all of a user's.
    let of_processes = [
        (libc::SYS_setpriority, libc::PRIO_PROCESS as u64),
        (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS),
    ];
    for (call, process) in of_processes {
        rules.insert(call, vec![all([is_not(1, 0)?])?, all([is_not(0, process)?])?]);
    }
    // Unconnected ones could be sent from to any address.
    let unix = libc::AF_UNIX as u64;
    rules.insert(
        libc::SYS_socketpair,
        vec![
            all([is_not(0, unix)?])?,
            all([masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64)?])?,
        ],
    );
    if network {
        let [inet, inet6, netlink] =
            [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(|family| family as u64);
        rules.insert(
            libc::SYS_socket,
            vec![
                all([is_not(0, inet)?, is_not(0, inet6)?, is_not(0, netlink)?])?,
                // Name resolution asks which addresses there are.
                all([is(0, netlink)?, is_not(2, libc::NETLINK_ROUTE as u64)?])?,
            ],
        );
    } else {
        // The session's own socket, and whatever else was inherited, sends to its peer and nowhere else.
        let to_an_address = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
        rules.insert(libc::SYS_sendto, vec![all([to_an_address])?]);
    }
    Ok(rules)
}

fn all<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, seccompiler::Error> {
    Ok(SeccompRule::new(conditions.into())?)
}

/// The kernel compares the lower half of these arguments as well.
fn compare(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        how,
        value,
    )?)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    compare(argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    compare(argument, SeccompCmpOp::Ne, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    compare(argument, SeccompCmpOp::MaskedEq(mask), value)
}

fn has(argument: u8, flag: u64) -> Result<SeccompCondition, seccompiler::Error> {
    masked(argument, flag, flag)
}

/// The same calls have other numbers in the x32 ABI, which is the same architecture to a filter.
fn no_x32() -> [sock_filter; 3] {
    const X32: u32 = 0x4000_0000;
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    [
        // The number of the call is the first thing in seccomp_data.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::calls::tests::verdict;
    use super::*;

    /// Whether a call succeeds; otherwise its errno.
    fn asked(network: bool, call: i64, arguments: [u64; 6]) -> Result<(), i32> {
        let machine = std::env::consts::ARCH.try_into().unwrap();
        let program = program(network).unwrap();
        match verdict(&program, architecture(machine), number(call), arguments) {
            libc::SECCOMP_RET_ALLOW => Ok(()),
            refused => Err((refused & libc::SECCOMP_RET_DATA).cast_signed()),
        }
    }

    #[test]
    fn calls_are_refused_by_number_or_by_their_arguments() {
        let none = [0; 6];
        for network in [false, true] {
            for &call in REFUSED {
                assert_eq!(asked(network, call, none), Err(libc::EPERM), "{call}");
            }
            for &call in ABSENT {
                assert_eq!(asked(network, call, none), Err(libc::ENOSYS), "{call}");
            }
            for &call in OF_NETWORK {
                let inet = [libc::AF_INET as u64, 0, 0, 0, 0, 0];
                assert_eq!(asked(network, call, inet).is_ok(), network, "{call}");
            }
            for call in [
                libc::SYS_execve,
                libc::SYS_openat,
                libc::SYS_close,
                libc::SYS_read,
            ] {
                assert_eq!(asked(network, call, none), Ok(()), "{call}");
            }
            let terminal = |request: u64| asked(network, libc::SYS_ioctl, [0, request, 0, 0, 0, 0]);
            assert_eq!(terminal(libc::TIOCGWINSZ), Ok(()));
            for injecting in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSTI | 1 << 32] {
                assert_eq!(terminal(injecting), Err(libc::EPERM));
            }
            let clone = |flags: libc::c_int| asked(network, libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]);
            assert_eq!(clone(libc::SIGCHLD), Ok(()));
            assert_eq!(clone(libc::SIGCHLD | libc::CLONE_NEWNET), Err(libc::EPERM));
        }
        let to_an_address = [3, 0, 0, 0, 1 << 40, 16];
        assert_eq!(asked(false, libc::SYS_sendto, to_an_address), Err(libc::EPERM));
        assert_eq!(asked(false, libc::SYS_sendto, none), Ok(()));
    }

    #[test]
    fn other_architectures_are_killed() {
        let program = program(false).unwrap();
        let i386 = 0x4000_0003;
        let said = verdict(&program, i386, 11, [0; 6]);
        assert_eq!(said, libc::SECCOMP_RET_KILL_PROCESS);
    }
}
