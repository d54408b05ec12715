//! seccomp filters that refuse system calls, as sandboxes do.

/// The architecture that system call numbers belong to (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;

/// A filter that refuses these system calls with EPERM and allows all others of this architecture.
pub fn refusing(calls: &[i64]) -> Vec<libc::sock_filter> {
    answering(calls, libc::EPERM)
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
