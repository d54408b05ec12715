//! Looks at files once, for all who ask: which file a path leads to, who could put another in its place, and what it is.

mod identity;
mod judgement;
mod looks;
mod pinned;
mod system;
mod trust;
mod walk;

pub(crate) use identity::{Identity, Place, STATX_IDENTITY};
pub(crate) use judgement::Judgement;
pub(crate) use looks::Looks;
pub(crate) use pinned::{PinnedFile, Wait, is_elf, nowhere, open_directory, status_of};
pub(crate) use system::{SYSTEM, is_of_system};
pub(crate) use trust::Trust;
pub(crate) use walk::{Lookup, Unclear, find, first_on_the_way, look_up};
