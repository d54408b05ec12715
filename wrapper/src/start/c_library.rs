//! The start through the C library.

use core::ffi::{c_char, c_int};

use execve_wrapper::arguments::Strings;
use execve_wrapper::wrapper::{self, BUFFER_SIZE};

static mut BUFFER: [u8; BUFFER_SIZE] = [0; BUFFER_SIZE];

/// Called by the C library's start.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, arguments: *mut *const c_char, environment: *mut *const c_char) -> c_int {
    // SAFETY: the C library hands over the vectors as the kernel made them, and no other code uses them.
    let (arguments, environment) = unsafe { (Strings::new(arguments), Strings::new(environment)) };
    let buffer = &raw mut BUFFER;
    // SAFETY: this function is called once, so this is the only reference.
    let buffer = unsafe { &mut *buffer };
    wrapper::main(arguments, environment, buffer)
}
