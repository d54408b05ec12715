//! How much of a request execve(2) could ever take: what exceeds that is refused before it is built.

use std::cell::Cell;

/// Longest path in bytes, without its NUL.
pub(super) const LONGEST_PATH: usize = libc::PATH_MAX as usize - 1;

/// The kernel takes no more bytes of arguments and environment together, whatever the limit of the stack: three quarters of
/// its default, 8 MiB (execve(2), since Linux 4.13).
const MOST_BYTES: usize = 6 * 1024 * 1024;

/// Longest argument or `NAME=VALUE` in bytes, without its NUL: 32 pages (MAX_ARG_STRLEN).
pub(super) fn longest_string() -> usize {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.ok().flatten().and_then(|size| usize::try_from(size).ok());
    32 * page.unwrap_or(4096) - 1
}

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
    /// When the string is too long, or all strings together are.
    pub(super) fn take(&self, length: usize) -> Result<(), &'static str> {
        if length > longest_string() {
            return Err("an argument or variable is longer than a program can be given");
        }
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
        assert!(room.take(longest_string() + 1).is_err());
        let whole = longest_string() + 9;
        for _ in 0..MOST_BYTES / whole {
            room.take(longest_string()).unwrap();
        }
        let left = MOST_BYTES % whole;
        assert!(room.take(left - 8).is_err());
        room.take(left - 9).unwrap();
        assert!(room.take(0).is_err());
    }
}
