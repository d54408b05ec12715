//! How this program's memory is allocated.

/// From this size on, in bytes, a block of memory is a mapping of its own: the C library's first threshold.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Has large blocks mapped, each for itself, so that they return to the system when they are freed. Otherwise the C library raises
/// its threshold to the largest block that was freed, up to 32 MiB, and keeps later ones in its heaps (mallopt(3)).
pub(super) fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) only sets a parameter of the allocator.
    let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) } == 1;
    #[cfg(target_env = "gnu")]
    debug_assert!(is_set, "this threshold is valid");
}
