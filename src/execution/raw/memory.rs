//! System calls about memory.

use std::os::fd::RawFd;

use nix::errno::Errno;

use super::arch::{Result, syscall};

/// A mapping of this process alone, which lives until [`Self::unmap`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    address: usize,
    bytes: usize,
}

impl Mapping {
    /// mmap(2) of a file's first bytes. What is written here doesn't reach the file.
    pub(crate) fn of(file: RawFd, bytes: usize) -> Result<Self> {
        Self::new(file, bytes, libc::MAP_PRIVATE)
    }

    /// mmap(2) of zeros.
    pub(crate) fn zeros(bytes: usize) -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::new(-1, bytes, flags)
    }

    fn new(file: RawFd, bytes: usize, flags: i32) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let arguments = [0, bytes, protection as usize, flags as usize, file as usize, 0];
        // SAFETY: a new mapping touches no existing memory.
        let address = unsafe { syscall(libc::SYS_mmap, arguments) }?;
        Ok(Self { address, bytes })
    }

    /// The memory as as many whole items as fit.
    ///
    /// # Safety
    /// Nothing else may use the mapping, the result not after [`Self::unmap`]; any bits must be a valid `T`.
    pub(crate) unsafe fn as_slice<'a, T>(self) -> &'a mut [T] {
        let count = self.bytes / size_of::<T>();
        // SAFETY: a mapping is page-aligned, and as long as that; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.address as *mut T, count) }
    }

    /// munmap(2)
    ///
    /// # Safety
    /// Nothing may use the memory any more.
    pub(crate) unsafe fn unmap(self) {
        // SAFETY: the caller vouches for it.
        let _ = unsafe { syscall(libc::SYS_munmap, [self.address, self.bytes]) };
    }
}

/// munmap(2) of whatever is mapped between two addresses (multiples of a page), except for what the system has sealed.
///
/// # Safety
/// Nothing may use that memory any more.
pub(crate) unsafe fn unmap_between(from: usize, to: usize, page: usize) {
    if from >= to {
        return;
    }
    // SAFETY: the caller vouches for it.
    let done = unsafe { syscall(libc::SYS_munmap, [from, to - from]) };
    // One sealed mapping (mseal(2)) among others keeps all of them.
    if done == Err(Errno::EPERM) && to - from > page {
        let middle = from + (to - from) / page / 2 * page;
        // SAFETY: as above.
        unsafe {
            unmap_between(from, middle, page);
            unmap_between(middle, to, page);
        }
    }
}
