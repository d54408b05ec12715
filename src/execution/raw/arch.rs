//! The two primitives of each architecture: a system call, and a new process.

use nix::errno::Errno;

/// Result of a system call.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Flags of clone(2) that give the supervisor its memory: here, the host's own.
#[cfg(target_arch = "x86_64")]
pub(crate) const SUPERVISOR_MEMORY: libc::c_int = libc::CLONE_VM;
/// Flags of clone(2) that give the supervisor its memory: here, a copy of the host's.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const SUPERVISOR_MEMORY: libc::c_int = 0;

/// Makes system call `number`; arguments that aren't given are 0.
///
/// # Safety
/// The arguments must be what the call wants; pointers must be valid for it.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<usize> {
    let [a, b, c, d, e, f] = padded(arguments);
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel clobbers rcx and r11 only.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    outcome(result)
}

/// Makes system call `number`; arguments that aren't given are 0.
///
/// # Safety
/// The arguments must be what the call wants; pointers must be valid for it.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn syscall<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<usize> {
    let [a, b, c, d, e, f] = padded(arguments);
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 {
        // errno is this process's own: so is its memory.
        Err(Errno::last())
    } else {
        Ok(result as usize)
    }
}

/// The six arguments that every system call takes.
fn padded<const N: usize>(arguments: [usize; N]) -> [usize; 6] {
    const { assert!(N <= 6) };
    std::array::from_fn(|index| arguments.get(index).copied().unwrap_or(0))
}

/// What the kernel's return value means: -4095 to -1 are errors.
#[cfg(target_arch = "x86_64")]
fn outcome(result: isize) -> Result<usize> {
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw(-result as i32))
    } else {
        Ok(result as usize)
    }
}

/// clone(2): a process that runs `entry(argument)` on the stack that ends at `stack_top`, and exits with its result.
/// Returns the pid.
///
/// # Safety
/// `stack_top` must be the 16-byte aligned end of a mapping that nothing else uses while the process lives. With
/// `CLONE_VM`, `entry` may use only memory that outlives the process, must not touch thread-local state, and must not unwind.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn clone_process(
    flags: libc::c_int,
    stack_top: *mut u8,
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> Result<i32> {
    let result: isize;
    // SAFETY: the new process starts behind `syscall` with the same registers and an empty stack of its own, so it reads
    // entry and argument from registers, and never returns from this block.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") flags as usize,
            in("rsi") stack_top,
            in("rdx") 0usize,
            in("r10") 0usize,
            in("r8") 0usize,
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    outcome(result).map(|pid| pid as i32)
}

/// clone(2): a process that runs `entry(argument)` on the stack that ends at `stack_top`, and exits with its result.
/// Returns the pid.
///
/// # Safety
/// As on x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn clone_process(
    flags: libc::c_int,
    stack_top: *mut u8,
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> Result<i32> {
    // SAFETY: the caller vouches for stack, entry and argument.
    let pid = unsafe { libc::clone(entry, stack_top.cast(), flags, argument) };
    if pid == -1 { Err(Errno::last()) } else { Ok(pid) }
}
