//! What distinguishes one file from another.

/// The part of statx(2) that changes when a file is replaced or modified. The time of birth distinguishes a new file with a
/// recycled inode number. The time of change is left out: a new link to the file changes it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) born: (i64, u32),
}

/// What an [`Identity`] needs of statx(2); a file system that records no time of birth leaves it 0.
pub(crate) const STATX_IDENTITY: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

impl Identity {
    /// The identity in `found`.
    pub(crate) fn of(found: &libc::statx) -> Self {
        Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            born: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        }
    }
}
