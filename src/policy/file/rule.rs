//! One rule: the requests that it matches, and the action for them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use crate::files::Trust;
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
    /// Whether the rule may escalate programs in directories that it does not name, so that it matters who can write there.
    pub(super) fn needs_trust(&self) -> bool {
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
        let trusts =
            |others_can: fn(Trust) -> bool| !self.needs_trust() || !others_can(request.judgement.trust());
        if real.is_some_and(|real| self.program.matches(real)) && trusts(Trust::others_can_replace) {
            return true;
        }
        // If it is the requested path that matches, everything on the way to its target must be trusted, too.
        self.program.matches(&request.program) && trusts(Trust::others_can_redirect)
    }
}
