//! One rule: the requests that it matches, and the action for them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobMatcher;

use super::environment::ChildEnv;
use crate::confinement::Execution;
use crate::files::{Trust, Wait};
use crate::policy::PolicyRequest;
use crate::policy::approval::Asks;

/// A rule and its position in the file.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Number of the rule's first line, starting at 1.
    pub line: usize,
    /// The `.rules` file that it is in; `None` for a rule of the policy file itself.
    pub file: Option<Arc<str>>,
    pub program: ProgramPattern,
    pub arguments: Arguments,
    /// Working directory; any, if `None`.
    pub workdir: Option<DirectoryPattern>,
    pub action: RuleAction,
    /// How what it escalates is executed.
    pub execution: Execution,
    /// Escalate even programs that the sandboxed user could replace.
    pub replaceable: bool,
    /// Execute escalated scripts from their files.
    pub in_place: bool,
    /// Say what was taken out of an escalated command's environment.
    pub say_env: bool,
}

/// What happens to a matching request.
#[derive(Clone, Debug)]
pub(super) enum RuleAction {
    Run,
    Escalate {
        env: ChildEnv,
    },
    Deny {
        reason: Option<String>,
    },
    Prompt {
        env: ChildEnv,
        reason: Option<String>,
        asks: Asks,
    },
}

impl RuleAction {
    /// The less it gives away, the higher.
    pub(super) fn strictness(&self) -> u8 {
        match self {
            Self::Escalate { .. } => 0,
            Self::Prompt { .. } => 1,
            Self::Run => 2,
            Self::Deny { .. } => 3,
        }
    }

    /// Whether a matching request may be executed outside.
    pub(super) fn may_escalate(&self) -> bool {
        matches!(self, Self::Escalate { .. } | Self::Prompt { .. })
    }
}

/// The arguments after `argv[0]`.
#[derive(Clone, Debug)]
pub(super) enum Arguments {
    /// They begin with these.
    Prefix(Vec<OsString>),
    /// These and no others.
    Exactly(Vec<OsString>),
    /// They begin with one of each of these.
    #[cfg_attr(
        not(any(feature = "rules", test)),
        expect(dead_code, reason = "only `.rules` have it")
    )]
    Alternatives(Vec<Vec<OsString>>),
}

impl Arguments {
    /// What the first argument has to be one of, if it isn't any, or none.
    pub(super) fn first(&self) -> Option<&[OsString]> {
        match self {
            Self::Prefix(arguments) | Self::Exactly(arguments) => arguments.get(..1),
            Self::Alternatives(arguments) => arguments.first().map(Vec::as_slice),
        }
    }

    fn match_those_of(&self, request: &PolicyRequest) -> bool {
        let arguments = request.argv.get(1..).unwrap_or_default();
        match self {
            Self::Prefix(first) => arguments.starts_with(first),
            Self::Exactly(all) => arguments == all,
            Self::Alternatives(first) => {
                arguments.len() >= first.len()
                    && first
                        .iter()
                        .zip(arguments)
                        .all(|(allowed, argument)| allowed.contains(argument))
            }
        }
    }
}

/// Only waiting for a file system would tell whether a rule matches.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("only waiting for a file system would tell whether a rule matches")]
pub(super) struct WouldWait;

/// How a rule names working directories.
#[derive(Clone, Debug)]
pub(super) enum DirectoryPattern {
    Path(PathBuf),
    Glob(GlobMatcher),
}

impl DirectoryPattern {
    fn matches(&self, path: &Path) -> bool {
        match self {
            Self::Path(own) => path == own,
            Self::Glob(glob) => glob.is_match(path),
        }
    }
}

/// How a rule names programs.
#[derive(Clone, Debug)]
pub(super) enum ProgramPattern {
    Path(PathBuf),
    PathGlob(GlobMatcher),
    Name(OsString),
    NameGlob(GlobMatcher),
    /// A name, at one of these paths.
    #[cfg_attr(not(feature = "rules"), expect(dead_code, reason = "only `.rules` have it"))]
    NameAt(OsString, Vec<PathBuf>),
}

impl ProgramPattern {
    fn matches(&self, path: &Path) -> bool {
        let name = || path.file_name().unwrap_or(OsStr::new(""));
        match self {
            Self::Path(program) => path == program,
            Self::PathGlob(glob) => glob.is_match(path),
            Self::Name(program) => name() == program,
            Self::NameGlob(glob) => glob.is_match(name()),
            Self::NameAt(program, paths) => name() == program && paths.iter().any(|known| known == path),
        }
    }
}

/// Why a rule is not about a request: the first of these that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    Program,
    Arguments,
    Directory,
    /// `argv[0]` is not the program's name.
    Name,
    /// A user other than root could replace the program.
    Replaceable,
}

impl Rule {
    /// Where the rule is, for messages: `line 6`, or `git.rules:6`.
    pub(super) fn place(&self) -> String {
        match &self.file {
            None => format!("line {}", self.line),
            Some(file) => format!("{file}:{}", self.line),
        }
    }

    /// Whether it executes the request's program in place, if that is a script. Without `replaceable`, that needs a name that only root
    /// could make lead elsewhere; a name of which that isn't known is none.
    pub(super) fn executes_in_place(&self, request: &PolicyRequest, wait: Wait) -> bool {
        let is_fixed = || {
            let trust = request.judgement.trust(wait);
            trust.is_some_and(|trust| !trust.others_can_redirect())
        };
        self.in_place && (self.replaceable || is_fixed())
    }

    /// Whether it matters to the rule who can write where: it escalates only what no one but root can replace.
    fn needs_trust(&self) -> bool {
        self.action.may_escalate() && !self.replaceable
    }

    /// Whether the request matches.
    ///
    /// # Errors
    /// As for [`Self::mismatch`].
    pub(super) fn matches(&self, request: &PolicyRequest, wait: Wait) -> Result<bool, WouldWait> {
        Ok(self.mismatch(request, wait)?.is_none())
    }

    /// Why the rule is not about the request; `None` if it is.
    ///
    /// # Errors
    /// When it hangs on who can write where, and that could only be found out by waiting.
    pub(super) fn mismatch(
        &self,
        request: &PolicyRequest,
        wait: Wait,
    ) -> Result<Option<Mismatch>, WouldWait> {
        let real = request.canonical.as_deref();
        let paths = || real.into_iter().chain([request.program.as_path()]);
        if !paths().any(|path| self.program.matches(path)) {
            return Ok(Some(Mismatch::Program));
        }
        if !self.arguments.match_those_of(request) {
            return Ok(Some(Mismatch::Arguments));
        }
        if !self.applies_in(request) {
            return Ok(Some(Mismatch::Directory));
        }
        if !paths().any(|path| self.names(path, request)) {
            return Ok(Some(Mismatch::Name));
        }
        if real.is_some_and(|real| self.names(real, request))
            && self.trusts(request, wait, Trust::others_can_replace)?
        {
            return Ok(None);
        }
        // If the requested path matches, everything on the way to its target must be trusted, too.
        if self.names(&request.program, request) && self.trusts(request, wait, Trust::others_can_redirect)? {
            return Ok(None);
        }
        Ok(Some(Mismatch::Replaceable))
    }

    /// Whether the rule is about the program at `path`. To escalate it, `argv[0]` must be its name as well: programs of many
    /// names choose by it what they do (`/usr/bin/git` as `git-grep`).
    fn names(&self, path: &Path, request: &PolicyRequest) -> bool {
        let name = request
            .argv
            .first()
            .map_or(OsStr::new(""), |first| base_name(first));
        self.program.matches(path) && (!self.action.may_escalate() || path.file_name() == Some(name))
    }

    /// Whether the rule is about the request's working directory. What may be escalated is so by where the command will in
    /// fact be executed; what is denied, is so by any name of the place.
    fn applies_in(&self, request: &PolicyRequest) -> bool {
        let Some(pattern) = &self.workdir else {
            return true;
        };
        let real = request.canonical_workdir.as_deref();
        real.is_some_and(|real| pattern.matches(real))
            || (matches!(self.action, RuleAction::Deny { .. }) && pattern.matches(&request.workdir))
    }

    fn trusts(
        &self,
        request: &PolicyRequest,
        wait: Wait,
        others_can: fn(Trust) -> bool,
    ) -> Result<bool, WouldWait> {
        let doubtful = self.needs_trust() && others_can(request.judgement.trust(wait).ok_or(WouldWait)?);
        if doubtful {
            tracing::info!(
                rule = self.place(),
                program = ?request.program,
                "this rule does not apply: a user other than root could replace the program, and the rule does not say \
                 `replaceable = true`"
            );
        }
        Ok(!doubtful)
    }
}

/// What follows the last slash.
fn base_name(text: &OsStr) -> &OsStr {
    let bytes = text.as_bytes();
    let start = bytes
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |slash| slash + 1);
    OsStr::from_bytes(&bytes[start..])
}
