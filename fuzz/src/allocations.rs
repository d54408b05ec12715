//! Counts what each thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed; other threads may have freed them.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that it has been.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn change(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// A size never exceeds isize::MAX (GlobalAlloc's contract).
// SAFETY: every call is passed on to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        change(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        change(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        change(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may exist at the same time.
        change(size as isize);
        change(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most bytes that this thread held during `work`, beyond what it held before.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    PEAK.set(before);
    let output = work();
    (usize::try_from(PEAK.get() - before).unwrap_or(0), output)
}

#[cfg(test)]
mod tests {
    use super::peak_of;

    #[test]
    fn the_peak_is_counted_and_what_was_held_before_is_not() {
        let before = vec![0_u8; 5000];
        let (peak, kept) = peak_of(|| {
            drop(vec![0_u8; 3000]);
            vec![0_u8; 1000]
        });
        assert_eq!((peak, kept.len(), before.len()), (3000, 1000, 5000));
        assert_eq!(peak_of(|| before.len()).0, 0);
    }

    #[test]
    fn a_block_that_grows_counts_twice_while_it_moves() {
        let mut block: Vec<u8> = Vec::with_capacity(1000);
        assert_eq!(peak_of(|| block.reserve_exact(3000)).0, 3000);
        assert!(block.capacity() >= 3000);
    }
}
