//! System calls and process creation for code that runs beside the host in the host's memory.
//!
//! The supervisor (see [`super::supervisor`]) shares the memory of its host, and with it the thread-local `errno` of the
//! thread that made it. So nothing here touches libc's state: on x86-64 the calls are made directly. On other
//! architectures the supervisor gets a copy of the memory instead (`fork` semantics, slower with a large host), and libc's
//! wrappers are safe to use.

/// Result of a system call: the value, or the errno.
pub(super) type SysResult = Result<usize, i32>;

/// How the supervisor comes by its memory.
#[cfg(target_arch = "x86_64")]
pub(super) const SUPERVISOR_MEMORY: libc::c_int = libc::CLONE_VM;
/// How the supervisor comes by its memory.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const SUPERVISOR_MEMORY: libc::c_int = 0;

/// Makes system call `number`.
///
/// # Safety
/// The arguments must be what the call wants; pointers must be valid for it.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> SysResult {
    let [a, b, c, d, e, f] = arguments;
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
    // The kernel returns -4095 to -1 for errors.
    if (-4095..0).contains(&result) {
        Err(-result as i32)
    } else {
        Ok(result as usize)
    }
}

/// Makes system call `number`.
///
/// # Safety
/// The arguments must be what the call wants; pointers must be valid for it.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> SysResult {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 {
        // SAFETY: errno of this thread; the memory is this process's own.
        Err(unsafe { *libc::__errno_location() })
    } else {
        Ok(result as usize)
    }
}

/// clone(2): a process that runs `entry(argument)` on the stack that ends at `stack_top`, and exits with its result.
/// Returns the pid.
///
/// # Safety
/// `stack_top` must be the 16-byte aligned end of a mapping that nobody else uses while the process lives. With
/// `CLONE_VM`, `entry` may use only memory that outlives the process, must not touch thread-local state, and must not unwind.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone_process(
    flags: libc::c_int,
    stack_top: *mut u8,
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> SysResult {
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
    if (-4095..0).contains(&result) {
        Err(-result as i32)
    } else {
        Ok(result as usize)
    }
}

/// clone(2): a process that runs `entry(argument)` on the stack that ends at `stack_top`, and exits with its result.
/// Returns the pid.
///
/// # Safety
/// As on x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn clone_process(
    flags: libc::c_int,
    stack_top: *mut u8,
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> SysResult {
    // SAFETY: the caller vouches for stack, entry and argument.
    let pid = unsafe { libc::clone(entry, stack_top.cast(), flags, argument) };
    // SAFETY: errno of this thread.
    if pid == -1 {
        Err(unsafe { *libc::__errno_location() })
    } else {
        Ok(pid as usize)
    }
}
