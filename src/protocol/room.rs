//! How much of a request execve(2) could ever take: what exceeds that is refused before it is built.

use std::cell::Cell;

/// Longest path in bytes, without its NUL.
pub(super) const LONGEST_PATH: usize = libc::PATH_MAX as usize - 1;

/// The kernel takes no more bytes of arguments and environment together, whatever the limit of the stack: three quarters of
/// its default, 8 MiB (execve(2), since Linux 4.13).
pub(super) const MOST_BYTES: usize = 6 * 1024 * 1024;

/// What is left for a request's arguments and environment.
#[derive(Debug)]
pub(super) struct Room(Cell<usize>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Cell::new(MOST_BYTES))
    }

    /// Makes room for one string of that length, as the kernel counts it: with its NUL and the pointer to it.
    ///
    /// # Errors
    /// When all strings together are too long. One that is too long for the kernel alone is a failed start, later.
    pub(super) fn take(&self, length: usize) -> Result<(), &'static str> {
        let counted = length + 1 + size_of::<*const u8>();
        let left = self.0.get().checked_sub(counted);
        self.0
            .set(left.ok_or("arguments and environment are larger than a program can be given")?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_counted_as_the_kernel_counts_them() {
        let room = Room::new();
        for _ in 0..MOST_BYTES / 1000 {
            room.take(991).unwrap();
        }
        let left = MOST_BYTES % 1000;
        assert!(room.take(left - 8).is_err());
        room.take(left - 9).unwrap();
        assert!(room.take(0).is_err());
    }
}
