//! The system calls that `rustix` lacks, or has only with an allocator: made directly on Linux, or through the C
//! library with the feature `libc` and on other systems. Both halves have the same functions.
//!
//! The process has one thread and registers no signal handler, which is what makes these safe to call.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(feature = "libc")
))]
#[path = "direct.rs"]
mod backend;

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(feature = "libc")
)))]
#[path = "c_library.rs"]
mod backend;

use core::ptr;

use rustix::fd::{BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

pub use backend::{
    block, current_directory, execve, exit, is_ignored, kill_group, kill_self, pending, reset_disposition,
    set_mask, signal_descriptor,
};

/// Fresh memory of `length` bytes for as long as the process lives.
pub fn map(length: usize) -> Result<&'static mut [u8], Errno> {
    // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that is in use.
    let address = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?
    };
    // SAFETY: the mapping is `length` zeroed bytes, no other code knows it, and it is never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(address.cast(), length) })
}

/// A descriptor that the process was started with. If it is closed, every call on it fails with EBADF.
///
/// # Panics
/// When the number is negative.
pub fn inherited(number: RawFd) -> BorrowedFd<'static> {
    assert!(number >= 0, "no descriptor has a negative number");
    // SAFETY: the number isn't -1, and an inherited descriptor is not used any more once it is closed (`close_inherited`).
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Standard error, open or not.
pub fn standard_error() -> BorrowedFd<'static> {
    inherited(2)
}

/// Closes a descriptor that the process was started with.
pub fn close_inherited(number: RawFd) {
    // SAFETY: the wrapper owns what it inherited, and no `OwnedFd` was made of this number.
    unsafe { rustix::io::close(number) }
}

/// Moves a new descriptor away from 0, 1 and 2: one of them that was closed at the start must stay closed
/// (`wrapper.closed-stdio`).
pub fn above_standard(descriptor: OwnedFd) -> Result<OwnedFd, Errno> {
    use rustix::fd::AsRawFd;
    if descriptor.as_raw_fd() > 2 {
        Ok(descriptor)
    } else {
        rustix::io::fcntl_dupfd_cloexec(&descriptor, 3)
    }
}
