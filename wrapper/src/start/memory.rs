//! The memory functions that the compiler calls by name. On x86_64 they are single string instructions, which processors
//! make as fast as loops over vectors; elsewhere they are plain loops in assembly, which the compiler can't turn into
//! calls of themselves.

use core::arch::asm;

/// # Safety
/// As for memcpy(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges.
    unsafe { copy_forwards(to, from, length) };
    to
}

/// # Safety
/// As for memmove(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
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
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range.
    unsafe { fill(to, byte as u8, length) };
    to
}

/// # Safety
/// As for memcmp(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
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
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: the caller vouches for both ranges.
    unsafe { memcmp(left, right, length) }
}

/// # Safety
/// As for strlen(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    use core::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_setzero_si128};
    let offset = string.addr() % 16;
    // SAFETY: an aligned block of 16 bytes lies in one page, and each block that is read has a byte of the string or its
    // NUL in it, so the page is there. Every x86_64 processor has these instructions.
    unsafe {
        let mut block: *const __m128i = string.sub(offset).cast();
        let mut skipped = offset;
        loop {
            let zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(block), _mm_setzero_si128())) as u32;
            // Only the string's own bytes of the first block count.
            let zeros = zeros >> skipped;
            if zeros != 0 {
                return (block.addr() + skipped + zeros.trailing_zeros() as usize) - string.addr();
            }
            skipped = 0;
            block = block.add(1);
        }
    }
}

/// # Safety
/// As for strlen(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg(target_arch = "aarch64")]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a NUL. Volatile, so that the loop isn't made a call of strlen.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

#[cfg(target_arch = "x86_64")]
unsafe fn copy_forwards(to: *mut u8, from: *const u8, length: usize) {
    // The string instruction takes some thirty cycles to start, and most pieces of a request are short.
    if length <= 16 {
        // SAFETY: the caller vouches for both ranges; the parts overlap where that makes them fit.
        return unsafe { copy_short(to, from, length) };
    }
    // SAFETY: the caller vouches for both ranges; the ABI has the direction flag clear.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") length => _, options(nostack, preserves_flags));
    }
}

/// Copies up to 16 bytes: a first and a last part, both read before either is written.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_short(to: *mut u8, from: *const u8, length: usize) {
    /// # Safety
    /// Both ranges have at least as many bytes as `T`, and at most twice as many.
    unsafe fn ends<T: Copy>(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: both parts lie in the ranges, and bytes may be read as any integer.
        unsafe {
            let first = from.cast::<T>().read_unaligned();
            let last = from.add(length - size_of::<T>()).cast::<T>().read_unaligned();
            to.cast::<T>().write_unaligned(first);
            to.add(length - size_of::<T>()).cast::<T>().write_unaligned(last);
        }
    }
    // SAFETY: each part is at most as long as the ranges.
    unsafe {
        match length {
            8..=16 => ends::<u64>(to, from, length),
            4..=7 => ends::<u32>(to, from, length),
            2..=3 => ends::<u16>(to, from, length),
            1 => *to = *from,
            _ => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn memory_is_copied_within_itself(bytes in prop::collection::vec(any::<u8>(), 1..200), from: prop::sample::Index, to: prop::sample::Index, length: prop::sample::Index) {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let length = length.index(bytes.len() - from.max(to) + 1);
            let mut expected = bytes.clone();
            expected.copy_within(from..from + length, to);
            let mut moved = bytes.clone();
            // SAFETY: both ranges lie in the vector.
            unsafe { memmove(moved.as_mut_ptr().add(to), moved.as_ptr().add(from), length) };
            prop_assert_eq!(&moved, &expected);
            let mut copied = bytes.clone();
            // SAFETY: both ranges lie in their vectors, which are two.
            unsafe { memcpy(copied.as_mut_ptr().add(to), bytes.as_ptr().add(from), length) };
            prop_assert_eq!(&copied, &expected);
        }

        #[test]
        fn memory_is_filled(mut bytes in prop::collection::vec(any::<u8>(), 1..100), at: prop::sample::Index, length: prop::sample::Index, byte: u8) {
            let at = at.index(bytes.len());
            let length = length.index(bytes.len() - at + 1);
            let mut expected = bytes.clone();
            expected[at..at + length].fill(byte);
            // SAFETY: the range lies in the vector.
            unsafe { memset(bytes.as_mut_ptr().add(at), byte.into(), length) };
            prop_assert_eq!(bytes, expected);
        }

        #[test]
        fn memory_is_compared(left in prop::collection::vec(0..3_u8, 0..40), right in prop::collection::vec(0..3_u8, 0..40)) {
            let length = left.len().min(right.len());
            // SAFETY: both vectors have that length.
            let (order, equal) = unsafe { (memcmp(left.as_ptr(), right.as_ptr(), length), bcmp(left.as_ptr(), right.as_ptr(), length)) };
            prop_assert_eq!(order.cmp(&0), left[..length].cmp(&right[..length]));
            prop_assert_eq!(equal == 0, left[..length] == right[..length]);
        }

        #[test]
        fn a_string_ends_at_its_first_nul(mut bytes in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index) {
            bytes.push(0);
            let at = at.index(bytes.len());
            let expected = bytes[at..].iter().position(|&byte| byte == 0);
            // SAFETY: the vector ends with a NUL.
            prop_assert_eq!(Some(unsafe { strlen(bytes.as_ptr().add(at)) }), expected);
        }
    }
}
