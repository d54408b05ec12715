//! The stacks of a keeper, its supervisor and its child, which share all other memory with the host.

use std::ffi::c_void;
use std::ptr;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The stacks of a keeper and its supervisor, and of the child until it executes its program, each above a guard area.
#[derive(Debug)]
pub(crate) struct Stacks {
    base: ptr::NonNull<c_void>,
}

// SAFETY: just an address range that this value owns.
unsafe impl Send for Stacks {}
// SAFETY: as above; nothing is accessed through a shared reference.
unsafe impl Sync for Stacks {}

const GUARD: usize = 64 * 1024; // the largest page of any architecture
const SUPERVISOR_STACK: usize = 64 * 1024;
const CHILD_STACK: usize = 64 * 1024;
const KEEPER_STACK: usize = 64 * 1024;
const SUPERVISOR_GUARD: usize = GUARD + CHILD_STACK;
const KEEPER_GUARD: usize = SUPERVISOR_GUARD + GUARD + SUPERVISOR_STACK;
const STACKS: usize = KEEPER_GUARD + GUARD + KEEPER_STACK;

/// Where a process on one of these stacks starts: its highest address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackTop(ptr::NonNull<c_void>);

// SAFETY: just an address; using it is unsafe.
unsafe impl Send for StackTop {}
// SAFETY: as above.
unsafe impl Sync for StackTop {}

impl StackTop {
    pub(crate) fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr().cast()
    }
}

impl Stacks {
    pub(crate) fn new() -> Result<Self, Errno> {
        let size = std::num::NonZeroUsize::new(STACKS).expect("a constant");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_STACK;
        // SAFETY: a new mapping touches no existing memory.
        let base =
            unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
        let stacks = Self { base };
        for guard in [0, SUPERVISOR_GUARD, KEEPER_GUARD] {
            // SAFETY: within the mapping that was just made.
            unsafe { mprotect(base.byte_add(guard), GUARD, ProtFlags::PROT_NONE)? };
        }
        Ok(stacks)
    }

    pub(crate) fn child_top(&self) -> StackTop {
        // SAFETY: within the mapping.
        StackTop(unsafe { self.base.byte_add(SUPERVISOR_GUARD) })
    }

    pub(crate) fn supervisor_top(&self) -> StackTop {
        // SAFETY: within the mapping.
        StackTop(unsafe { self.base.byte_add(KEEPER_GUARD) })
    }

    pub(crate) fn keeper_top(&self) -> StackTop {
        // SAFETY: one past the mapping's end, as a stack's start is.
        StackTop(unsafe { self.base.byte_add(STACKS) })
    }
}

impl Drop for Stacks {
    /// No process may run on them any more.
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and this is its last use.
        let _ = unsafe { munmap(self.base, STACKS) };
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
        for (top, size) in [
            (stacks.child_top(), CHILD_STACK),
            (stacks.supervisor_top(), SUPERVISOR_STACK),
            (stacks.keeper_top(), KEEPER_STACK),
        ] {
            let top = top.as_ptr();
            assert_eq!(permissions(top.wrapping_sub(1)), "rw-p");
            assert_eq!(permissions(top.wrapping_sub(size)), "rw-p");
            assert_eq!(permissions(top.wrapping_sub(size + 1)), "---p");
        }
    }
}
