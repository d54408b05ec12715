//! seccomp filters that refuse system calls, as sandboxes do.

/// The architecture that system call numbers belong to (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
/// The lower half of the first argument, on the little-endian machines that the suite knows.
const OFFSET_FIRST_ARGUMENT: u32 = 16;

/// Instructions of [`answering`] before the first system call.
const HEAD: usize = 4;

/// A filter that refuses these system calls with EPERM and allows all others of this architecture.
pub fn refusing(calls: &[i64]) -> Vec<libc::sock_filter> {
    answering(calls, libc::EPERM)
}

/// A filter that refuses new processes and allows new threads.
///
/// A filter can't look into the structure that clone3(2) reads its flags from: that call doesn't exist under the filter, and
/// libraries then use clone(2).
pub fn refusing_processes() -> Vec<libc::sock_filter> {
    let statement = |code: u32, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
    // Two instructions per call, as `answering` has them; its last one allows everything else.
    let mut filter = answering(&[libc::SYS_clone3], libc::ENOSYS);
    #[cfg(target_arch = "x86_64")]
    {
        let refused = answering(&[libc::SYS_fork, libc::SYS_vfork], libc::EPERM);
        filter.pop();
        filter.extend_from_slice(&refused[HEAD..]);
    }
    filter.pop();
    filter.extend([
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 3,
            k: libc::SYS_clone as u32,
        },
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, OFFSET_FIRST_ARGUMENT),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
            jt: 1,
            jf: 0,
            k: libc::CLONE_THREAD as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, errno(libc::EPERM)),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
    filter
}

/// A filter that answers these system calls with `errno` and allows all others of this architecture.
pub fn answering(calls: &[i64], errno: i32) -> Vec<libc::sock_filter> {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let statement = |code, k| libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let mut filter = vec![
        statement(load, OFFSET_ARCHITECTURE),
        libc::sock_filter {
            code: jump_if_equal,
            jt: 1,
            jf: 0,
            k: ARCHITECTURE,
        },
        statement(answer, libc::SECCOMP_RET_KILL_PROCESS),
        statement(load, OFFSET_NUMBER),
    ];
    for call in calls {
        let number = u32::try_from(*call).expect("system call numbers are small");
        filter.push(libc::sock_filter {
            code: jump_if_equal,
            jt: 0,
            jf: 1,
            k: number,
        });
        filter.push(statement(answer, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    filter.push(statement(answer, libc::SECCOMP_RET_ALLOW));
    filter
}
