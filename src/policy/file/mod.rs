//! The policy file: rules in TOML.
//!
//! ```toml
//! default = "run"                 # run, escalate, deny or prompt; required
//! [[rule]]
//! program = "/usr/bin/git"        # an absolute path, a file name, or a glob for either
//! argv = ["push"]                 # the first arguments after argv[0]
//! action = "escalate"
//! keep_env = ["LD_LIBRARY_PATH"]  # or true: variables that load code and may reach the child
//! [[rule]]
//! program = "rm"
//! action = "deny"
//! reason = "use the trash"
//! ```
//!
//! A matching `deny` always wins; otherwise the first matching rule does. A rule is compared with the path as requested and
//! with the path without symbolic links.

mod parse;
mod rule;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::approval::Approvals;
use super::{Approver, Decision, EscalationPolicy, NoApprover, PolicyError, PolicyRequest};

use rule::{Rule, RuleAction};

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file could not be read.
    #[error("cannot read policy file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a valid policy.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line number, starting at 1.
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
    /// When the file cannot be read or contains any error.
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
    /// The number of the faulty line, and what is wrong there.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let (default, rules) = parse::parse(text)?;
        Ok(Self {
            default,
            rules: Arc::new(rules),
            approvals: Approvals::new(NoApprover),
        })
    }

    /// Asks `approver` where a rule says `prompt`.
    #[must_use]
    pub fn with_approver(mut self, approver: impl Approver) -> Self {
        self.approvals = Approvals::new(approver);
        self
    }

    /// The action for a request, and the line of the rule; `None` for the default.
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
        // Rules without a fixed directory check directories, which may be on slow file systems.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, KeepEnv};

    /// Decides about a program with arguments; the policy is rules in short form.
    async fn decide(policy: &str, program: &str, arguments: &[&str]) -> Decision {
        let policy = PolicyFile::parse(policy).unwrap();
        let mut request = PolicyRequest::new(program);
        request.argv.extend(arguments.iter().map(Into::into));
        policy.decide(&request).await.unwrap()
    }

    fn denied(decision: &Decision) -> bool {
        matches!(decision.action(), Action::Deny { .. })
    }

    #[tokio::test]
    async fn the_first_matching_rule_decides() {
        let policy = "default = \"deny\"\n\
            [[rule]]\nprogram = \"/bin/echo\"\nargv = [\"a\", \"b\"]\naction = \"escalate\"\n\
            [[rule]]\nprogram = \"echo\"\naction = \"run\"\n\
            [[rule]]\nprogram = \"/bin/echo\"\naction = \"escalate\"\n";
        assert_eq!(
            decide(policy, "/bin/echo", &["a", "b", "c"]).await.action(),
            &Action::Escalate
        );
        assert_eq!(decide(policy, "/bin/echo", &["a"]).await.action(), &Action::Run);
        assert_eq!(
            decide(policy, "/bin/echo", &[]).await.rule.as_deref(),
            Some("line 6")
        );
        let default = decide(policy, "/bin/cat", &[]).await;
        assert_eq!(
            (default.action(), default.rule.as_deref()),
            (&Action::Deny { reason: None }, Some("default"))
        );
    }

    #[tokio::test]
    async fn a_matching_deny_wins_wherever_it_stands() {
        let policy = "default = \"run\"\n\
            [[rule]]\nprogram = \"/bin/*\"\naction = \"escalate\"\n\
            [[rule]]\nprogram = \"cat\"\naction = \"deny\"\nreason = \"no cats\"\n";
        let decision = decide(policy, "/bin/cat", &[]).await;
        assert_eq!(
            decision.action(),
            &Action::Deny {
                reason: Some("no cats".to_owned())
            }
        );
        assert_eq!(decide(policy, "/bin/echo", &[]).await.action(), &Action::Escalate);
    }

    #[tokio::test]
    async fn rules_see_through_symbolic_links() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("harmless");
        let real = std::fs::canonicalize("/bin/cat").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let rule = |action: &str| {
            format!(
                "default = \"run\"\n[[rule]]\nprogram = {:?}\naction = \"{action}\"\n",
                real.display().to_string()
            )
        };
        let link = link.to_str().unwrap();
        assert!(denied(&decide(&rule("deny"), link, &[]).await));
        assert_eq!(
            decide(&rule("escalate"), link, &[]).await.action(),
            &Action::Escalate
        );
    }

    #[tokio::test]
    async fn a_mere_name_escalates_only_what_only_root_can_replace() {
        let folder = tempfile::tempdir().unwrap();
        let writable = folder.path().join("bin");
        std::fs::create_dir(&writable).unwrap();
        std::fs::set_permissions(&writable, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let planted = writable.join("env");
        std::fs::copy("/usr/bin/env", &planted).unwrap();
        let linked = writable.join("elsewhere");
        std::os::unix::fs::symlink("/usr/bin/env", &linked).unwrap();
        let planted = planted.to_str().unwrap();
        for program in ["env", "en*", "**/env"] {
            let policy = |more: &str| {
                format!("default = \"run\"\n[[rule]]\nprogram = \"{program}\"\naction = \"escalate\"\n{more}")
            };
            assert_eq!(
                decide(&policy(""), "/usr/bin/env", &[]).await.action(),
                &Action::Escalate,
                "{program}"
            );
            assert_eq!(
                decide(&policy(""), planted, &[]).await.action(),
                &Action::Run,
                "{program}"
            );
            let anywhere = decide(&policy("anywhere = true\n"), planted, &[]).await;
            assert_eq!(anywhere.action(), &Action::Escalate, "{program}");
            // The link's target is the system's program, whatever the link is called.
            let behind = decide(&policy(""), linked.to_str().unwrap(), &[]).await;
            assert_eq!(behind.action(), &Action::Escalate, "{program}");
        }
        // A rule that names the directory applies there, as its author intends.
        let policy = format!("default = \"run\"\n[[rule]]\nprogram = {planted:?}\naction = \"escalate\"\n");
        assert_eq!(decide(&policy, planted, &[]).await.action(), &Action::Escalate);
        // A deny rule with a mere name applies everywhere.
        let policy = "default = \"run\"\n[[rule]]\nprogram = \"env\"\naction = \"deny\"\n";
        assert!(denied(&decide(policy, planted, &[]).await));
    }

    #[tokio::test]
    async fn escalations_say_which_variables_they_keep() {
        let policy = |keep: &str| {
            format!("default = \"run\"\n[[rule]]\nprogram = \"/bin/cat\"\naction = \"escalate\"\n{keep}\n")
        };
        let kept = async |keep: &str| decide(&policy(keep), "/bin/cat", &[]).await.keep_env;
        assert_eq!(kept("").await, KeepEnv::Nothing);
        assert_eq!(kept("keep_env = false").await, KeepEnv::Nothing);
        assert_eq!(kept("keep_env = true").await, KeepEnv::Everything);
        let names = KeepEnv::Names(["LD_PRELOAD".into()].into());
        assert_eq!(kept("keep_env = [\"LD_PRELOAD\"]").await, names);
    }

    #[tokio::test]
    async fn without_an_approver_prompt_denies() {
        let decision = decide("default = \"prompt\"\n", "/bin/cat", &[]).await;
        assert!(denied(&decision), "{decision:?}");
    }

    #[test]
    fn the_policies_of_the_fixtures_are_valid() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies"));
        let mut read = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            PolicyFile::read(&file.unwrap().path()).unwrap();
            read += 1;
        }
        assert!(read >= 4);
    }
}
