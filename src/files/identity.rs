//! What distinguishes one file from another, and who may change it.

/// The part of statx(2) that changes when a file is replaced or modified. The time of change can't be set back, unlike that of
/// modification; a new link to the file, or a new mode, changes it, too. The time of birth distinguishes a new file with a
/// recycled inode number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
    pub(crate) born: (i64, u32),
}

/// What an [`Identity`] needs of statx(2); a file system that records no time of birth leaves it 0.
pub(crate) const STATX_IDENTITY: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// What a directory keeps while entries come and go: device, inode, time of birth.
pub(crate) type Place = ((u32, u32), u64, (i64, u32));

impl Identity {
    /// The identity in `found`.
    pub(crate) fn of(found: &libc::statx) -> Self {
        Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            born: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        }
    }

    /// Words of [`Self::to_words`].
    pub(crate) const WORDS: usize = 10;

    /// The identity for a process that shares no memory with this one.
    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let [modified, changed, born] = [self.modified, self.changed, self.born]
            .map(|(seconds, nanoseconds)| [seconds.cast_unsigned(), nanoseconds.into()]);
        [
            self.device.0.into(),
            self.device.1.into(),
            self.inode,
            self.size,
            modified[0],
            modified[1],
            changed[0],
            changed[1],
            born[0],
            born[1],
        ]
    }

    /// The identity that has these words. This neither allocates nor panics.
    pub(crate) fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let &[major, minor, inode, size, rest @ ..] = words;
        let [modified, modified_rest, changed, changed_rest, born, born_rest] = rest;
        let time = |seconds: u64, nanoseconds: u64| (seconds.cast_signed(), nanoseconds as u32);
        Self {
            device: (major as u32, minor as u32),
            inode,
            size,
            modified: time(modified, modified_rest),
            changed: time(changed, changed_rest),
            born: time(born, born_rest),
        }
    }

    /// The part that stays the same for a directory whose entries change.
    pub(crate) fn place(&self) -> Place {
        (self.device, self.inode, self.born)
    }
}

/// A file's identity, owner and mode, all from one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) identity: Identity,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Kind and permissions, see inode(7).
    pub(crate) mode: u32,
    /// Which mount it is on, by a number that no other mount ever gets; from Linux 6.8 on.
    pub(crate) mount: Option<u64>,
}

impl Status {
    /// The status in `found`.
    pub(crate) fn of(found: &libc::statx) -> Self {
        Self {
            identity: Identity::of(found),
            user: found.stx_uid,
            group: found.stx_gid,
            mode: u32::from(found.stx_mode),
            mount: (found.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0).then_some(found.stx_mnt_id),
        }
    }

    fn is(self, kind: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    pub(crate) fn is_directory(self) -> bool {
        self.is(libc::S_IFDIR)
    }

    pub(crate) fn is_link(self) -> bool {
        self.is(libc::S_IFLNK)
    }

    pub(crate) fn is_regular(self) -> bool {
        self.is(libc::S_IFREG)
    }

    /// Whether executing the file changes user or group.
    pub(crate) fn changes_user(self) -> bool {
        self.mode & (libc::S_ISUID | libc::S_ISGID) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_trip() {
        let identity = Identity {
            device: (1, u32::MAX),
            inode: u64::MAX,
            size: 2,
            modified: (-3, 4),
            changed: (5, 999_999_999),
            born: (i64::MIN, 6),
        };
        assert_eq!(Identity::from_words(&identity.to_words()), identity);
    }
}
