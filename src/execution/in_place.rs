//! Scripts in place beside sandboxes: who could choose what is executed, by the script's file or by a name that leads to it.
//!
//! The interpreter of a script in place opens it by its name, after the last comparison. That a sandboxed process writes to the
//! file is what the decision accepts; that one lends the file a name of its own and makes that lead elsewhere is not.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::files::first_on_the_way;

/// So many notices are told; a sandboxed process may make any number of scripts.
const MOST_NOTICES: usize = 32;

/// Told in which way sandboxed processes could choose what a script in place is.
pub(crate) type Notices = Box<dyn Fn(&str) + Send + Sync>;

/// What has been told, each thing once.
#[derive(Default)]
pub(crate) struct Told {
    notices: Option<Notices>,
    already: Mutex<Vec<String>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Told")
    }
}

impl Told {
    pub(crate) fn by(notices: Notices) -> Self {
        Self {
            notices: Some(notices),
            already: Mutex::default(),
        }
    }

    fn once(&self, notice: String) {
        let Some(notices) = &self.notices else {
            return;
        };
        let mut already = self.already.lock().unwrap_or_else(PoisonError::into_inner);
        if already.len() < MOST_NOTICES && !already.contains(&notice) {
            notices(&notice);
            already.push(notice);
        }
    }
}

/// Where processes write that may do less than a command that is escalated.
#[derive(Clone, Debug)]
pub(crate) struct Writers {
    roots: Vec<PathBuf>,
    told: Arc<Told>,
}

impl PartialEq for Writers {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots && Arc::ptr_eq(&self.told, &other.told)
    }
}

impl Eq for Writers {}

/// What a sandboxed process can do about a script in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Influence {
    /// Nothing.
    None,
    /// It can write to the script, or replace it.
    Writes(PathBuf),
    /// It can't write to the script, but it can change this place, by which the script was called.
    Redirects { script: PathBuf, place: PathBuf },
}

impl fmt::Display for Influence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| path.display().to_string().escape_debug().to_string();
        match self {
            Self::None => formatter.write_str("no sandboxed process can change this script"),
            Self::Writes(script) => write!(
                formatter,
                "sandboxed processes can write to {}, which is executed in place (`in_place`): they can choose what it does \
                 outside of their sandbox",
                shown(script)
            ),
            Self::Redirects { script, place } => write!(
                formatter,
                "{} is executed from a copy, not in place: it was called by way of {}, which sandboxed processes can make \
                 lead elsewhere",
                shown(script),
                shown(place)
            ),
        }
    }
}

impl Writers {
    pub(crate) fn new(roots: Vec<PathBuf>, told: Arc<Told>) -> Self {
        Self { roots, told }
    }

    fn write(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// Whether they can put something else at the path: what they write to as a whole stays where it is.
    fn replace(&self, path: &Path) -> bool {
        self.roots
            .iter()
            .any(|root| path != root && path.starts_with(root))
    }

    /// About the script that `workdir` and `file` have led to, and `canonical` is without symbolic links. `None` if where they
    /// lead can't be known. Blocks as long as the file systems do.
    pub(crate) fn influence(&self, canonical: &Path, workdir: &Path, file: &OsStr) -> Option<Influence> {
        if self.write(canonical) {
            return Some(Influence::Writes(canonical.to_owned()));
        }
        let place = first_on_the_way(workdir, file, &|place| self.replace(place)).ok()?;
        let redirects = |place| Influence::Redirects {
            script: canonical.to_owned(),
            place,
        };
        Some(place.map_or(Influence::None, redirects))
    }

    /// Whether a script may be executed in place. Says what there is to be said about it.
    pub(super) fn let_in_place(&self, canonical: &Path, workdir: &Path, file: &OsStr) -> bool {
        let influence = self.influence(canonical, workdir, file);
        if let Some(influence) = &influence
            && *influence != Influence::None
        {
            self.told.once(influence.to_string());
        }
        matches!(influence, Some(Influence::None | Influence::Writes(_)))
    }
}
