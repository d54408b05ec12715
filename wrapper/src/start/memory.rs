//! The memory functions that the compiler calls by name. On x86_64 they are single string instructions, which processors
//! make as fast as loops over vectors; elsewhere they are plain loops in assembly, which the compiler can't turn into
//! calls of themselves.

use core::arch::asm;

/// # Safety
/// As for memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges.
    unsafe { copy_forwards(to, from, length) };
    to
}

/// # Safety
/// As for memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges. Copying towards lower addresses may go forwards, and so may a copy
    // whose ranges don't overlap: then the difference, taken modulo the address space, is at least the length.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= length {
            copy_forwards(to, from, length);
        } else {
            copy_backwards(to, from, length);
        }
    }
    to
}

/// # Safety
/// As for memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range.
    unsafe { fill(to, byte as u8, length) };
    to
}

/// # Safety
/// As for memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    let mut at = 0;
    while at < length {
        // SAFETY: `at` is below the length, and the caller vouches for both ranges.
        let (left, right) = unsafe { (*left.add(at), *right.add(at)) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
        at += 1;
    }
    0
}

/// # Safety
/// As for bcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: the caller vouches for both ranges.
    unsafe { memcmp(left, right, length) }
}

/// # Safety
/// As for strlen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a NUL.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

#[cfg(target_arch = "x86_64")]
unsafe fn copy_forwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller vouches for both ranges; the ABI has the direction flag clear.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") length => _, options(nostack, preserves_flags));
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn copy_backwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller vouches for both ranges; the flag is cleared again, as the ABI has it.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rdi") to.add(length).wrapping_sub(1) => _,
            inout("rsi") from.add(length).wrapping_sub(1) => _,
            inout("rcx") length => _,
            options(nostack),
        );
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
    // SAFETY: the caller vouches for the range; the ABI has the direction flag clear.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, in("al") byte, inout("rcx") length => _, options(nostack, preserves_flags));
    }
}

#[cfg(target_arch = "aarch64")]
unsafe fn copy_forwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        asm!(
            "cbz {left}, 3f",
            "2:",
            "ldrb {byte:w}, [{from}], #1",
            "strb {byte:w}, [{to}], #1",
            "subs {left}, {left}, #1",
            "b.ne 2b",
            "3:",
            to = inout(reg) to => _,
            from = inout(reg) from => _,
            left = inout(reg) length => _,
            byte = out(reg) _,
            options(nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
unsafe fn copy_backwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        asm!(
            "cbz {left}, 3f",
            "2:",
            "ldrb {byte:w}, [{from}, #-1]!",
            "strb {byte:w}, [{to}, #-1]!",
            "subs {left}, {left}, #1",
            "b.ne 2b",
            "3:",
            to = inout(reg) to.add(length) => _,
            from = inout(reg) from.add(length) => _,
            left = inout(reg) length => _,
            byte = out(reg) _,
            options(nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
    // SAFETY: the caller vouches for the range.
    unsafe {
        asm!(
            "cbz {left}, 3f",
            "2:",
            "strb {byte:w}, [{to}], #1",
            "subs {left}, {left}, #1",
            "b.ne 2b",
            "3:",
            to = inout(reg) to => _,
            left = inout(reg) length => _,
            byte = in(reg) u32::from(byte),
            options(nostack),
        );
    }
}
