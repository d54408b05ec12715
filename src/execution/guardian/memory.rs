//! Which part of the host's memory a guardian keeps.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use nix::unistd::{SysconfVar, sysconf};

use crate::execution::raw;

/// Images and stacks; more aren't needed.
const MOST: usize = 8;

/// The end of the addresses that a program gets unless it asks for others.
const END: usize = 0x7fff_ffff_f000;

/// What stays mapped, in ascending order.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptMemory {
    /// First address of each, and that behind it.
    ranges: [(usize, usize); MOST],
    page: usize,
}

impl KeptMemory {
    /// The stacks, and the images that hold this `code` and the functions that compilers call for it.
    pub(super) fn new(code: usize, stacks: Range<usize>) -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page = page.and_then(|page| usize::try_from(page).ok()).unwrap_or(4096);
        let mut images = Images {
            needed: vec![
                code,
                libc::memcpy as *const () as usize,
                libc::memmove as *const () as usize,
                libc::memset as *const () as usize,
                libc::memcmp as *const () as usize,
                libc::strlen as *const () as usize,
                std::str::from_utf8 as *const () as usize,
            ],
            found: vec![stacks],
            page,
        };
        // SAFETY: `note` gets what it expects.
        unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut images).cast()) };
        images.found.sort_unstable_by_key(|range| range.start);
        let mut ranges = [(END, END); MOST];
        for (place, range) in ranges.iter_mut().zip(images.found) {
            *place = (range.start, range.end);
        }
        Self { ranges, page }
    }

    /// Gives up all other memory, if this architecture's system calls need none of it.
    ///
    /// # Safety
    /// Nothing may use it any more.
    pub(super) unsafe fn unmap_all_else(&self) {
        if cfg!(not(target_arch = "x86_64")) {
            return;
        }
        let mut from = 0;
        for &(start, end) in &self.ranges {
            // SAFETY: the caller vouches for it.
            unsafe { raw::unmap_between(from, start, self.page) };
            from = end;
        }
    }
}

/// The images that have one of the needed addresses.
struct Images {
    needed: Vec<usize>,
    found: Vec<Range<usize>>,
    page: usize,
}

/// Called for each image: the program and the libraries, see dl_iterate_phdr(3).
unsafe extern "C" fn note(image: *mut libc::dl_phdr_info, _: usize, images: *mut c_void) -> c_int {
    // SAFETY: the C library passes an image, and `KeptMemory::new` the images.
    let (image, images) = unsafe { (&*image, &mut *images.cast::<Images>()) };
    // SAFETY: so many headers there are.
    let headers = unsafe { std::slice::from_raw_parts(image.dlpi_phdr, image.dlpi_phnum.into()) };
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let segments = loaded.map(|header| {
        let start = image.dlpi_addr as usize + header.p_vaddr as usize;
        start..start + header.p_memsz as usize
    });
    let (Some(start), Some(end)) = (
        segments.clone().map(|segment| segment.start).min(),
        segments.map(|segment| segment.end).max(),
    ) else {
        return 0;
    };
    if images.needed.iter().any(|address| (start..end).contains(address)) {
        let (start, end) = (
            start / images.page * images.page,
            end.next_multiple_of(images.page),
        );
        images.found.push(start..end);
    }
    0
}
