//! One rule: the requests that it matches, and the action for them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use super::trust::others_can_replace;
use crate::policy::{KeepEnv, PolicyRequest};

/// A rule and its position in the file.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Number of the rule's first line, starting at 1.
    pub line: usize,
    pub program: ProgramPattern,
    /// The first arguments after `argv[0]`.
    pub argv: Vec<OsString>,
    pub action: RuleAction,
    /// Escalate even programs that the sandboxed user could replace.
    pub anywhere: bool,
}

/// What happens to a matching request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RuleAction {
    Run,
    Escalate {
        keep_env: KeepEnv,
    },
    Deny {
        reason: Option<String>,
    },
    Prompt {
        keep_env: KeepEnv,
        reason: Option<String>,
    },
}

/// How a rule names programs.
#[derive(Clone, Debug)]
pub(super) enum ProgramPattern {
    Path(PathBuf),
    PathGlob {
        glob: GlobMatcher,
        /// The directory is given without wildcards.
        fixed_folder: bool,
    },
    Name(OsString),
    NameGlob(GlobMatcher),
}

impl ProgramPattern {
    fn matches(&self, path: &Path) -> bool {
        let name = || path.file_name().unwrap_or(OsStr::new(""));
        match self {
            Self::Path(program) => path == program,
            Self::PathGlob { glob, .. } => glob.is_match(path),
            Self::Name(program) => name() == program,
            Self::NameGlob(glob) => glob.is_match(name()),
        }
    }

    /// Whether the pattern matches programs in more than one directory.
    pub(super) fn any_folder(&self) -> bool {
        match self {
            Self::Path(_) => false,
            Self::PathGlob { fixed_folder, .. } => !fixed_folder,
            Self::Name(_) | Self::NameGlob(_) => true,
        }
    }
}

impl Rule {
    /// Whether the rule may escalate programs in directories that it does not name, so that it must check those directories.
    pub(super) fn looks_at_folders(&self) -> bool {
        let gives = matches!(
            self.action,
            RuleAction::Escalate { .. } | RuleAction::Prompt { .. }
        );
        gives && self.program.any_folder() && !self.anywhere
    }

    pub(super) fn matches(&self, request: &PolicyRequest) -> bool {
        let arguments = request.argv.get(1..).unwrap_or_default();
        if !arguments.starts_with(&self.argv) {
            return false;
        }
        let real = request.canonical.as_deref();
        if real.is_some_and(|real| self.program.matches(real) && self.trusts(&[real])) {
            return true;
        }
        // If the requested path matches, both its directory and that of its target must be trusted.
        let both: Vec<&Path> = std::iter::once(request.program.as_path()).chain(real).collect();
        self.program.matches(&request.program) && self.trusts(&both)
    }

    fn trusts(&self, paths: &[&Path]) -> bool {
        !self.looks_at_folders() || !paths.iter().any(|path| others_can_replace(path))
    }
}
