//! Can a user other than root replace a program with another one?
//!
//! The server cannot know which user the sandboxed side is; mostly it is the server's own. So a program counts as replaceable
//! unless the file, its directory and all directories above are owned by root and writable only by root and the group root.
//! (In directories with the sticky bit, users cannot touch other users' directories. Access control lists show in the group's
//! bits.) What a sandboxed root may write depends on its sandbox, which cannot be seen from here: rules for it should name
//! whole paths.
//!
//! Everything is judged on descriptors that are open, from the root downwards: where only root can change an entry of a
//! directory that only root can move, what was found there is what stays there.

use super::identity::Status;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// What only root can change about a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// What is in the file.
    pub(crate) content: bool,
    /// Which file has the path without symbolic links.
    pub(crate) place: bool,
    /// Which file the path leads to as it was requested, through whatever links and directories.
    pub(crate) name: bool,
}

impl Trust {
    /// Whether another user could put another program in the place of this one.
    pub(crate) fn others_can_replace(self) -> bool {
        !(self.content && self.place)
    }

    /// Whether another user could make the requested path lead to another program.
    pub(crate) fn others_can_redirect(self) -> bool {
        self.others_can_replace() || !self.name
    }
}

/// Whether only root can change what is in this file, or create entries in this directory.
pub(super) fn only_root_writes(found: Status) -> bool {
    let by_group = found.mode & GROUP_WRITE != 0 && found.group != 0;
    found.user == 0 && !by_group && found.mode & OTHERS_WRITE == 0
}

/// Whether only root can make a name in `folder` mean something else than `entry`.
pub(super) fn only_root_renames(folder: Status, entry: Status) -> bool {
    let sticky = folder.user == 0 && folder.mode & STICKY != 0;
    only_root_writes(folder) || (sticky && entry.is_directory() && entry.user == 0)
}
