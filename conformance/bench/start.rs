// Shared start of the baseline programs: no C library, system calls by number, the initial stack as it is.
//
// Each program is `include!("start.rs")` and a function `run`. The build script compiles them with rustc alone.

use core::arch::{asm, global_asm};

/// The initial stack of a process: argc, argv, environment.
#[derive(Clone, Copy)]
struct Start {
    count: usize,
    arguments: *const *const u8,
    environment: *const *const u8,
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const MMAP: usize = 9;
    pub const SENDMSG: usize = 46;
    pub const SOCKETPAIR: usize = 53;
    pub const EXECVE: usize = 59;
    pub const EXIT_GROUP: usize = 231;
    pub const GETCWD: usize = 79;
    pub const CLOSE: usize = 3;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const MMAP: usize = 222;
    pub const SENDMSG: usize = 211;
    pub const SOCKETPAIR: usize = 199;
    pub const EXECVE: usize = 221;
    pub const EXIT_GROUP: usize = 94;
    pub const GETCWD: usize = 17;
    pub const CLOSE: usize = 57;
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call start");

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "mov x0, sp", "bl start");

/// One system call. The kernel's answer: a value, or an errno negated.
///
/// # Safety
/// As the call says about its pointers.
#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: usize, a: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the caller answers for the arguments; the kernel clobbers rcx and r11 only.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// One system call, as above.
///
/// # Safety
/// As the call says about its pointers.
#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: usize, a: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the caller answers for the arguments; the kernel clobbers x0 only.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => answer, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    answer
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: exit_group takes an integer.
        unsafe { system_call(number::EXIT_GROUP, [status, 0, 0, 0, 0, 0]) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc, argv with its null, and the environment with its null at the stack's start.
    let start = unsafe {
        let count = *stack;
        let arguments = stack.add(1).cast::<*const u8>();
        Start { count, arguments, environment: arguments.add(count + 1) }
    };
    exit(run(start))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// The compiler may call these for copies, fills and comparisons. Volatile, so that they don't call themselves.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller answers for both ranges; `rep movsb` copies `length` bytes forward.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for index in 0..length {
        // SAFETY: the caller answers for both ranges.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: the caller answers for the range.
        unsafe { to.add(index).write_volatile(byte as u8) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: the caller answers for both ranges.
        let (one, other) = unsafe { (one.add(index).read_volatile(), other.add(index).read_volatile()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the string ends with a NUL, says the caller.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// Parts of the core library were compiled for unwinding and name this; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
