//! Who could put another program in the place of one that was looked at: judged when somebody asks, which most policies don't.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::identity::Identity;
use super::pinned::Wait;
use super::trust::Trust;
use super::walk::{Lookup, look_up};

/// A verdict about the very file that was looked at. If the path leads to another one by the time of the verdict, it can't be
/// trusted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgement {
    workdir: PathBuf,
    file: OsString,
    /// `None` for a file that does not exist.
    identity: Option<Identity>,
    verdict: Arc<OnceLock<Trust>>,
}

impl Judgement {
    /// About what `workdir` and `file` have led to.
    pub(crate) fn about(workdir: &Path, file: &OsStr, found: &Lookup) -> Self {
        Self {
            workdir: workdir.to_owned(),
            file: file.to_owned(),
            identity: identity(found),
            verdict: found.trust.map(OnceLock::from).unwrap_or_default().into(),
        }
    }

    /// The verdict, for which the first call walks along the path. `None` if that would have to wait and may not.
    pub(crate) fn trust(&self, wait: Wait) -> Option<Trust> {
        if let Some(verdict) = self.verdict.get() {
            return Some(*verdict);
        }
        let found = look_up(&self.workdir, &self.file, wait);
        if wait == Wait::Never && !matches!(&found, Ok(found) if found.is_settled()) {
            return None;
        }
        // Another thread may have been faster; then its verdict counts.
        Some(*self.verdict.get_or_init(|| {
            let same = found.ok().filter(|found| identity(found) == self.identity);
            same.and_then(|found| found.trust).unwrap_or_default()
        }))
    }
}

fn identity(found: &Lookup) -> Option<Identity> {
    found.file.as_ref().ok().map(super::PinnedFile::identity)
}
