//! One rule: which requests it is about, and what becomes of them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use super::trust::others_can_replace;
use crate::policy::{KeepEnv, PolicyRequest};

/// A rule and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Line of the rule's beginning, from 1.
    pub line: usize,
    pub program: ProgramPattern,
    /// The first arguments after `argv[0]`.
    pub argv: Vec<OsString>,
    pub action: RuleAction,
    /// Escalate even what the sandboxed user could replace.
    pub anywhere: bool,
}

/// What becomes of a matching request.
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
        /// The folder is given without wildcards.
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

    /// Whether the pattern leaves open in which folder the program is.
    pub(super) fn any_folder(&self) -> bool {
        match self {
            Self::Path(_) => false,
            Self::PathGlob { fixed_folder, .. } => !fixed_folder,
            Self::Name(_) | Self::NameGlob(_) => true,
        }
    }
}

impl Rule {
    /// Whether the rule gives away more than it takes, for programs in folders that it doesn't name.
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
        // By the name that was asked for, both the name's folder and the real program's count.
        let both: Vec<&Path> = std::iter::once(request.program.as_path()).chain(real).collect();
        self.program.matches(&request.program) && self.trusts(&both)
    }

    fn trusts(&self, paths: &[&Path]) -> bool {
        !self.looks_at_folders() || !paths.iter().any(|path| others_can_replace(path))
    }
}
