//! The stacks of the guardian and of all that it starts, made by the host.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The stacks of the guardian, of a keeper and its supervisor, and of the child until it executes its program, each above a
/// guard area.
#[derive(Debug)]
pub(super) struct Stacks {
    base: ptr::NonNull<c_void>,
}

const GUARD: usize = 64 * 1024; // the largest page of any architecture
const STACK: usize = 64 * 1024;
const COUNT: usize = 4;
const SIZE: usize = COUNT * (GUARD + STACK);

/// Where a process on one of these stacks starts: its highest address.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackTop(ptr::NonNull<c_void>);

/// One for each process; no two of them that share memory run on the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackTops {
    pub(super) guardian: StackTop,
    pub(super) keeper: StackTop,
    pub(super) supervisor: StackTop,
    pub(super) child: StackTop,
}

impl StackTop {
    pub(super) fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr().cast()
    }
}

impl Stacks {
    pub(super) fn new() -> Result<Self, Errno> {
        let size = std::num::NonZeroUsize::new(SIZE).expect("a constant");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_STACK;
        // SAFETY: a new mapping touches no existing memory.
        let base =
            unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
        let stacks = Self { base };
        for index in 0..COUNT {
            // SAFETY: within the mapping that was just made.
            unsafe {
                mprotect(
                    base.byte_add(index * (GUARD + STACK)),
                    GUARD,
                    ProtFlags::PROT_NONE,
                )?
            };
        }
        Ok(stacks)
    }

    pub(super) fn tops(&self) -> StackTops {
        // SAFETY: within the mapping, or one past its end, as a stack's start is.
        let top = |index: usize| StackTop(unsafe { self.base.byte_add((index + 1) * (GUARD + STACK)) });
        StackTops {
            guardian: top(0),
            keeper: top(1),
            supervisor: top(2),
            child: top(3),
        }
    }

    /// The addresses of all of them.
    pub(super) fn range(&self) -> Range<usize> {
        let start = self.base.as_ptr() as usize;
        start..start + SIZE
    }
}

impl Drop for Stacks {
    /// No process of this one's memory may run on them any more.
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and this is its last use.
        let _ = unsafe { munmap(self.base, SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What /proc/self/maps says of the page at this address.
    fn permissions(address: *const u8) -> String {
        let address = address as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let parts = |line: &str| {
            let mut fields = line.split_whitespace();
            let (from, to) = fields.next()?.split_once('-')?;
            let bounds = [from, to].map(|bound| usize::from_str_radix(bound, 16).unwrap());
            Some((bounds[0]..bounds[1], fields.next()?.to_owned()))
        };
        let page = maps
            .lines()
            .filter_map(parts)
            .find(|(range, _)| range.contains(&address));
        page.map(|(_, permissions)| permissions).unwrap_or_default()
    }

    #[test]
    fn each_stack_ends_in_a_guard_area() {
        let stacks = Stacks::new().unwrap();
        let tops = stacks.tops();
        for top in [tops.guardian, tops.keeper, tops.supervisor, tops.child] {
            let top = top.as_ptr();
            assert_eq!(permissions(top.wrapping_sub(1)), "rw-p");
            assert_eq!(permissions(top.wrapping_sub(STACK)), "rw-p");
            assert_eq!(permissions(top.wrapping_sub(STACK + 1)), "---p");
            assert!(stacks.range().contains(&(top.wrapping_sub(1) as usize)));
        }
    }
}
