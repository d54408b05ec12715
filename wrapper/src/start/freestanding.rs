//! The start without the C library: from the kernel's stack straight to the wrapper.
//!
//! The C library's start asks the processor for its features, and on a virtual machine each such question traps: that
//! takes longer than everything that the wrapper does.

use core::arch::global_asm;
use core::ffi::c_char;

use execve_wrapper::arguments::Strings;
use execve_wrapper::failure::{CANNOT_EXECUTE, Message};
use execve_wrapper::sys;
use execve_wrapper::wrapper::{self, BUFFER_SIZE};

#[path = "memory.rs"]
mod memory;

#[cfg(not(panic = "abort"))]
compile_error!(
    "the start without the C library needs panic = \"abort\" in its profile; or use the feature `libc`"
);

static mut BUFFER: [u8; BUFFER_SIZE] = [0; BUFFER_SIZE];

// What the kernel starts: the stack pointer points to the number of arguments. The outermost frame has no caller.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    ".type _start, @function",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    ".type _start, @function",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "b {start}",
    start = sym start,
);

/// Takes the vectors from the stack: the count, the arguments, NULL, the environment, NULL.
extern "C" fn start(stack: *mut usize) -> ! {
    let buffer = &raw mut BUFFER;
    // SAFETY: this is how the kernel lays out a new process's stack, and no other code reads or writes these vectors. The
    // buffer is borrowed once, since this function is called once.
    unsafe {
        let count = *stack;
        let arguments: *mut *const c_char = stack.add(1).cast();
        let environment = arguments.add(count + 1);
        wrapper::main(Strings::new(arguments), Strings::new(environment), &mut *buffer)
    }
}

/// A bug in this program: nothing has been executed, and nothing will be.
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    let mut message = Message::new();
    message.add(b"execve-wrapper: internal error, please report it; the command was not executed\n");
    message.send();
    sys::exit(CANNOT_EXECUTE)
}
