//! The policy file: rules in TOML.
//!
//! ```toml
//! default = "run"                 # run, escalate, deny or prompt; required
//! [[rule]]
//! program = "/usr/bin/git"        # an absolute path, a file name, or a glob over either
//! argv = ["push"]                 # the first arguments after argv[0]
//! action = "escalate"
//! keep_env = ["LD_LIBRARY_PATH"]  # or true: variables that load code and may reach the child
//! [[rule]]
//! program = "rm"
//! action = "deny"
//! reason = "use the trash"
//! ```
//!
//! A matching `deny` always wins; otherwise the first matching rule does. A rule is compared with the path as it was asked
//! for and with the path behind all symbolic links.

mod parse;
mod rule;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::approval::Approvals;
use super::{Approver, Decision, EscalationPolicy, NobodyThere, PolicyError, PolicyRequest};

use rule::{Rule, RuleAction};

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file couldn't be read.
    #[error("cannot read policy {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says something else than a policy.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what was expected.
        message: String,
    },
}

/// A policy from a file. Rules with the action `prompt` ask an [`Approver`].
#[derive(Debug)]
pub struct PolicyFile {
    default: RuleAction,
    rules: Arc<Vec<Rule>>,
    approvals: Approvals,
}

impl PolicyFile {
    /// Reads a file. Without an approver (see [`Self::with_approver`]), `prompt` denies.
    ///
    /// # Errors
    /// A file with any error is refused as a whole.
    pub fn read(path: &Path) -> Result<Self, PolicyFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| PolicyFileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, message)| PolicyFileError::Invalid {
            path: path.to_owned(),
            line,
            message,
        })
    }

    /// Parses the text of a policy file.
    ///
    /// # Errors
    /// The line, and what is wrong there.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let (default, rules) = parse::parse(text)?;
        Ok(Self {
            default,
            rules: Arc::new(rules),
            approvals: Approvals::new(NobodyThere),
        })
    }

    /// Asks `approver` where a rule says `prompt`.
    #[must_use]
    pub fn with_approver(mut self, approver: impl Approver) -> Self {
        self.approvals = Approvals::new(approver);
        self
    }

    /// The action for a request, and the rule's line; `None` is the default's.
    fn action(rules: &[Rule], default: &RuleAction, request: &PolicyRequest) -> (RuleAction, Option<usize>) {
        let matching = |rule: &&Rule| rule.matches(request);
        let denied = rules
            .iter()
            .filter(|rule| matches!(rule.action, RuleAction::Deny { .. }))
            .find(matching);
        match denied.or_else(|| rules.iter().find(matching)) {
            Some(rule) => (rule.action.clone(), Some(rule.line)),
            None => (default.clone(), None),
        }
    }
}

impl EscalationPolicy for PolicyFile {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        let (rules, default, question) = (Arc::clone(&self.rules), self.default.clone(), request.clone());
        // Rules by name look at folders, which may be on slow file systems.
        let (action, line) = if rules.iter().any(Rule::looks_at_folders) {
            tokio::task::spawn_blocking(move || Self::action(&rules, &default, &question)).await?
        } else {
            Self::action(&rules, &default, &question)
        };
        let decision = match action {
            RuleAction::Run => Decision::run(),
            RuleAction::Escalate { keep_env } => Decision::escalate().keeping_env(keep_env),
            RuleAction::Deny { reason } => Decision::deny(reason),
            RuleAction::Prompt { keep_env, reason } => self
                .approvals
                .ask(request, reason.as_deref())
                .await?
                .keeping_env(keep_env),
        };
        Ok(decision.by_rule(line.map_or("default".to_owned(), |line| format!("line {line}"))))
    }
}
