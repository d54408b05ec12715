//! The policy file: rules in TOML.
//!
//! ```toml
//! default = "run"                 # run, escalate, deny or prompt; required
//! [[rule]]
//! program = "/usr/bin/git"        # an absolute path, a file name, or a glob for either
//! argv_exact = ["-C", "/srv/mirror", "fetch"]
//! action = "escalate"
//! [[rule]]
//! program = "rm"
//! action = "deny"
//! reason = "use the trash"
//! ```
//!
//! A matching `deny` always wins; otherwise the first matching rule does. A rule is compared with the path as requested and
//! with the path without symbolic links. `help.txt` describes all keys.

mod environment;
mod error;
mod explanation;
mod parse;
mod rule;
mod rule_set;
#[cfg(feature = "rules")]
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::approval::Approvals;
use super::environment::taken_out;
use super::sessions::PerSession;
use super::{Action, Approver, Decision, EscalationPolicy, NoApprover, PolicyError, PolicyRequest};
use crate::files::Wait;

use crate::confinement::{Execution, Profile};

use environment::{ChildEnv, is_basic};
pub use error::{Complaint, PolicyFileError};
pub use explanation::{Explanation, Step};
use parse::Parsed;
use rule::{Rule, RuleAction, WouldWait};
use rule_set::RuleSet;

/// A policy from a file. Rules with the action `prompt` ask an [`Approver`].
pub struct PolicyFile {
    default: RuleAction,
    rules: RuleSet,
    profiles: BTreeMap<String, Profile>,
    approvals: Approvals,
    /// What escalated commands get of the server's own environment.
    basics: Vec<(OsString, OsString)>,
    notices: Option<Box<Notices>>,
    /// The rules that have said what they take out.
    said: PerSession<Mutex<BTreeSet<String>>>,
}

type Notices = dyn Fn(&str) + Send + Sync;

impl fmt::Debug for PolicyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PolicyFile")
            .field("default", &self.default)
            .field("rules", &self.rules.in_order())
            .finish_non_exhaustive()
    }
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
        Self::parse(&text).map_err(|complaint| PolicyFileError::Invalid {
            path: path.to_owned(),
            complaint,
        })
    }

    /// Parses the text of a policy file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let Parsed {
            default,
            rules,
            profiles,
        } = parse::parse(text)?;
        Ok(Self {
            default,
            rules,
            profiles,
            approvals: Approvals::new(NoApprover),
            basics: std::env::vars_os().filter(|(name, _)| is_basic(name)).collect(),
            notices: None,
            said: PerSession::default(),
        })
    }

    /// The policy when there is no file: everything runs where the shell runs.
    #[must_use]
    pub fn run_everything() -> Self {
        Self::parse("default = \"run\"").expect("the smallest policy is valid")
    }

    /// The sandbox profile of this name: one of the file's, or a built-in one.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<Profile> {
        Profile::built_in(name).or_else(|| self.profiles.get(name).cloned())
    }

    /// The profiles in which rules let commands be executed, for
    /// [`SandboxedExecutor::with_profile`](crate::SandboxedExecutor::with_profile).
    #[must_use]
    pub fn profiles_of_rules(&self) -> BTreeMap<String, Profile> {
        let named = self
            .rules
            .in_order()
            .iter()
            .filter_map(|rule| match &rule.execution {
                Execution::Profile(name) => Some((name.clone(), self.profile(name)?)),
                _ => None,
            });
        named.collect()
    }

    /// The manual of policy files.
    #[must_use]
    pub fn help() -> &'static str {
        include_str!("help.txt")
    }

    /// Passes to `notices` what rules with `say_env` say: one line, once per rule and session.
    #[must_use]
    pub fn with_notices(mut self, notices: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notices = Some(Box::new(notices));
        self
    }

    /// Replaces the variables PATH, HOME, TERM, LANG and LC_* that escalated commands get from the server. Default: this
    /// process's when the policy was read.
    #[must_use]
    pub fn with_server_env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.basics = env.into_iter().filter(|(name, _)| is_basic(name)).collect();
        self
    }

    /// Asks `approver` where a rule says `prompt`.
    #[must_use]
    pub fn with_approver(mut self, approver: impl Approver) -> Self {
        self.approvals = Approvals::new(approver);
        self
    }

    /// Adds the rules of a `.rules` file, or of all in a folder: `prefix_rule` and `host_executable` in Starlark, see
    /// [`help`](Self::help). Of a rule here and one of the policy file that both match, the one that gives away less decides: deny, run,
    /// prompt, escalate.
    ///
    /// # Errors
    /// When a file can't be read, contains any error, or one of its examples is not decided as it says.
    #[cfg(feature = "rules")]
    pub fn with_rules(mut self, path: &Path) -> Result<Self, PolicyFileError> {
        let together = self.rules.with(rules::read(path)?);
        self.rules = together.map_err(|error| PolicyFileError::Invalid {
            path: path.to_owned(),
            complaint: Complaint {
                line: 1,
                column: 1,
                message: format!("the patterns of all rules together: {}", error.kind()),
            },
        })?;
        Ok(self)
    }

    /// Says what would be decided about a request, by which rule, and why. No one is asked. Blocks as long as the file systems do.
    #[must_use]
    pub fn explain(&self, request: &PolicyRequest) -> Explanation {
        Explanation::new(&self.default, &self.rules, request)
    }

    /// The escalation by a rule, or by the default.
    fn escalation(&self, rule: Option<&Rule>, env: &ChildEnv, request: &PolicyRequest) -> Decision {
        let escalation = Decision::escalate()
            .with_env(env.of(&request.env, &self.basics))
            .keeping_env(env.kept());
        let Some(rule) = rule else {
            return escalation;
        };
        let escalation = escalation.executed(rule.execution.clone());
        // A rule that isn't `replaceable` has asked already.
        if rule.executes_in_place(request, Wait::Never) {
            escalation.in_place()
        } else {
            escalation
        }
    }

    /// Says once what the rule takes out of the environment of what it escalates.
    fn say(&self, rule: &Rule, request: &PolicyRequest, decision: &Decision) {
        let Some(notices) = &self.notices else {
            return;
        };
        let names = taken_out(&request.env, &decision.child_env(&request.env));
        if names.is_empty() {
            return;
        }
        let said = self.said.of(request);
        let first = said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(rule.place());
        if first {
            notices(&format!(
                "{} of the policy does not pass on to {}: {} (see `env` in `shell-escalation help-policy`)",
                rule.place(),
                request.program.display().to_string().escape_debug(),
                list(&names)
            ));
        }
    }
}

/// The first names, and the number of the others. The sandboxed side chose them.
fn list(names: &[OsString]) -> String {
    const MOST_NAMED: usize = 20;
    const LONGEST: usize = 60;
    let shown = |name: &OsStr| -> String {
        let text = name.display().to_string();
        text.escape_debug().take(LONGEST).collect()
    };
    let named = names.len().min(MOST_NAMED);
    let mut text = names[..named]
        .iter()
        .map(|name| shown(name))
        .collect::<Vec<_>>()
        .join(", ");
    if named < names.len() {
        text.push_str(&format!(" and {} more", names.len() - named));
    }
    text
}

impl EscalationPolicy for PolicyFile {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        let rule = match self.rules.rule_for(request, Wait::Never) {
            Ok(rule) => rule,
            // Who can write where has to be asked on slow file systems. The verdict stays with the request.
            Err(WouldWait) => {
                let judgement = request.judgement.clone();
                request.looks.run(move || judgement.trust(Wait::Allowed)).await?;
                self.rules.rule_for(request, Wait::Never)?
            }
        };
        let by = rule.map_or("default".to_owned(), Rule::place);
        let decision = match rule.map_or(&self.default, |rule| &rule.action) {
            RuleAction::Run => Decision::run(),
            RuleAction::Escalate { env } => self.escalation(rule, env, request),
            RuleAction::Deny { reason } => Decision::deny(reason.clone()),
            RuleAction::Prompt { env, reason, asks } => {
                let escalation = self.escalation(rule, env, request);
                let approvals = &self.approvals;
                approvals
                    .decide_asking(request, escalation.by_rule(&by), reason.as_deref(), *asks)
                    .await?
            }
        };
        if let Some(rule) = rule
            && rule.say_env
            && *decision.action() == Action::Escalate
        {
            self.say(rule, request, &decision);
        }
        Ok(decision.by_rule(by))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Question;

    mod fuzz;
    mod in_place;

    /// Decides about a program with arguments; the policy is rules in short form.
    async fn decide(policy: &str, program: &str, arguments: &[&str]) -> Decision {
        let policy = PolicyFile::parse(policy).unwrap();
        let mut request = PolicyRequest::new(program);
        request.argv.extend(arguments.iter().map(Into::into));
        policy.decide(&request).await.unwrap()
    }

    const ENV: &str = "default = \"run\"\n[[rule]]\nprogram = \"/usr/bin/env\"\naction = \"escalate\"\n";

    /// Decides about `/usr/bin/env` as `change` makes it, by a rule that escalates it, with `more`.
    async fn decide_as(more: &str, change: impl FnOnce(&mut PolicyRequest)) -> Decision {
        let policy = PolicyFile::parse(&format!("{ENV}{more}\n")).unwrap();
        let mut request = PolicyRequest::new("/usr/bin/env");
        change(&mut request);
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
        assert!(denied(&decide(&rule("deny"), link.to_str().unwrap(), &[]).await));
        let policy = PolicyFile::parse(&rule("escalate")).unwrap();
        let mut request = PolicyRequest::new(&link);
        request.argv = vec!["cat".into()];
        let decision = policy.decide(&request).await.unwrap();
        assert_eq!(decision.action(), &Action::Escalate);
    }

    #[tokio::test]
    async fn a_program_is_escalated_under_its_own_name_only() {
        // `git-grep -O./evil` would execute ./evil, and the system has a link of that name to /usr/bin/git.
        let as_name = async |name: &str| decide_as("", |request| request.argv[0] = name.into()).await;
        assert_eq!(as_name("env").await.action(), &Action::Escalate);
        assert_eq!(as_name("bin/env").await.action(), &Action::Escalate);
        for name in ["env-grep", "", "-env", "env/"] {
            assert_eq!(as_name(name).await.action(), &Action::Run, "{name:?}");
        }
        let decision = decide_as("", |request| request.argv.clear()).await;
        assert_eq!(decision.action(), &Action::Run);
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("env-grep");
        std::os::unix::fs::symlink("/usr/bin/env", &link).unwrap();
        let decision = decide(ENV, link.to_str().unwrap(), &[]).await;
        assert_eq!(decision.action(), &Action::Run);
    }

    #[tokio::test]
    async fn a_rule_says_in_which_sandbox_the_command_is_executed() {
        let executed = async |more: &str| decide_as(more, |_| ()).await.execution().clone();
        assert_eq!(executed("").await, Execution::Unsandboxed);
        assert_eq!(executed("profile = \"same\"").await, Execution::SameSandbox);
        let built_in = executed("profile = \"read-only\"").await;
        assert_eq!(built_in, Execution::Profile("read-only".to_owned()));
    }

    #[tokio::test]
    async fn exact_arguments_are_all_arguments() {
        let with = async |arguments: &[&str]| {
            let exact = "argv_exact = [\"a\", \"b\"]";
            let decision = decide_as(exact, |request| {
                request.argv.extend(arguments.iter().map(Into::into));
            });
            decision.await.action().clone()
        };
        assert_eq!(with(&["a", "b"]).await, Action::Escalate);
        for other in [&["a"][..], &["a", "b", "c"], &["b", "a"], &[]] {
            assert_eq!(with(other).await, Action::Run, "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_directory_is_compared_as_the_kernel_knows_it() {
        let within = async |pattern: &str, received: &str, real: Option<&str>| {
            let workdir = format!("workdir = {pattern:?}");
            let decision = decide_as(&workdir, |request| {
                request.workdir = received.into();
                request.canonical_workdir = real.map(Into::into);
            });
            decision.await.action() == &Action::Escalate
        };
        assert!(within("/srv/a", "/srv/a", Some("/srv/a")).await);
        assert!(within("/srv/a/", "/link", Some("/srv/a")).await);
        assert!(!within("/srv/a", "/srv/a", Some("/tmp")).await);
        assert!(!within("/srv/a", "/srv/a", None).await);
        assert!(!within("/srv/a", "/srv/a/b", Some("/srv/a/b")).await);
        assert!(within("/srv/**", "/srv/a/b", Some("/srv/a/b")).await);
        assert!(!within("/srv/*", "/srv/a/b", Some("/srv/a/b")).await);
        // What is denied is so by any name of the place.
        let policy =
            "default = \"run\"\n[[rule]]\nprogram = \"env\"\nworkdir = \"/srv\"\naction = \"deny\"\n";
        let policy = PolicyFile::parse(policy).unwrap();
        for (received, real) in [("/srv", "/tmp"), ("/tmp", "/srv")] {
            let mut request = PolicyRequest::new("/usr/bin/env");
            request.workdir = received.into();
            request.canonical_workdir = Some(real.into());
            assert!(denied(&policy.decide(&request).await.unwrap()), "{received}");
        }
    }

    #[tokio::test]
    async fn an_escalated_command_gets_the_servers_basics_unless_more_is_listed() {
        let policy = |more: &str| {
            let own = [("PATH", "/bin"), ("HOME", "/h"), ("SECRET", "s")];
            PolicyFile::parse(&format!("{ENV}{more}"))
                .unwrap()
                .with_server_env(own.map(|(name, value)| (name.into(), value.into())))
        };
        let mut request = PolicyRequest::new("/usr/bin/env");
        let requested = [
            ("PATH", "/evil"),
            ("GIT_SSH_COMMAND", "evil"),
            ("LD_PRELOAD", "x"),
        ];
        request.env = requested.map(|(name, value)| (name.into(), value.into())).into();
        let given = async |more: &str| {
            let decision = policy(more).decide(&request).await.unwrap();
            let env = decision.child_env(&request.env);
            let shown = env
                .iter()
                .map(|(name, value)| format!("{}={}", name.display(), value.display()));
            shown.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(given("").await, "PATH=/bin HOME=/h");
        assert_eq!(
            given("env = [\"GIT_*\"]").await,
            "GIT_SSH_COMMAND=evil PATH=/bin HOME=/h"
        );
        assert_eq!(given("env = [\"*\"]").await, "PATH=/evil GIT_SSH_COMMAND=evil");
        assert_eq!(
            given("env = [\"LD_PRELOAD\"]").await,
            "LD_PRELOAD=x PATH=/bin HOME=/h"
        );
        assert_eq!(
            given("env = \"request\"").await,
            "PATH=/evil GIT_SSH_COMMAND=evil"
        );
        assert_eq!(
            given("env = \"everything\"").await,
            "PATH=/evil GIT_SSH_COMMAND=evil LD_PRELOAD=x"
        );
        let by_default = PolicyFile::parse("default = \"escalate\"").unwrap();
        let decision = by_default.decide(&request).await.unwrap();
        assert_eq!(decision.child_env(&request.env), request.env[..2]);
    }

    #[tokio::test]
    async fn what_is_taken_out_is_said_once_where_a_rule_asks_for_it() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let policy = |more: &str| {
            let said = Arc::clone(&said);
            PolicyFile::parse(&format!("{ENV}{more}"))
                .unwrap()
                .with_server_env([])
                .with_notices(move |line| said.lock().unwrap().push(line.to_owned()))
        };
        let mut request = PolicyRequest::new("/usr/bin/env");
        request.env = (0..30)
            .map(|number| (format!("V{number:02}").into(), "".into()))
            .collect();
        request.env.push(("GIT_SSH_COMMAND".into(), "evil".into()));
        policy("").decide(&request).await.unwrap();
        assert!(said.lock().unwrap().is_empty());
        let says = policy("say_env = true");
        says.decide(&request).await.unwrap();
        says.decide(&request).await.unwrap();
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(
                "line 2 of the policy does not pass on to /usr/bin/env: GIT_SSH_COMMAND, V00, V01"
            ),
            "{said:?}"
        );
        assert!(said[0].contains("V18 and 11 more"), "{said:?}");
    }

    #[tokio::test]
    async fn a_rule_escalates_only_what_only_root_can_replace() {
        let folder = tempfile::tempdir().unwrap();
        let writable = folder.path().join("bin");
        std::fs::create_dir(&writable).unwrap();
        std::fs::set_permissions(&writable, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let planted = writable.join("env");
        std::fs::copy("/usr/bin/env", &planted).unwrap();
        let linked = writable.join("elsewhere");
        std::os::unix::fs::symlink("/usr/bin/env", &linked).unwrap();
        let planted = planted.to_str().unwrap();
        for action in ["escalate", "prompt"] {
            for program in ["env", "en*", "**/env", planted] {
                let decide = async |more: &str, path: &str| {
                    let policy = format!(
                        "default = \"run\"\n[[rule]]\nprogram = {program:?}\naction = \"{action}\"\n{more}"
                    );
                    let policy = PolicyFile::parse(&policy).unwrap();
                    let mut request = PolicyRequest::new(path);
                    request.argv = vec!["env".into()];
                    policy.decide(&request).await.unwrap().rule.unwrap()
                };
                assert_eq!(decide("", planted).await, "default", "{program}");
                assert_eq!(
                    decide("replaceable = true\n", planted).await,
                    "line 2",
                    "{program}"
                );
                if program != planted {
                    assert_eq!(decide("", "/usr/bin/env").await, "line 2", "{program}");
                    // The link's target is the system's program, whatever the link is called.
                    assert_eq!(decide("", linked.to_str().unwrap()).await, "line 2", "{program}");
                }
            }
        }
        // A deny rule applies everywhere.
        let policy = "default = \"run\"\n[[rule]]\nprogram = \"env\"\naction = \"deny\"\n";
        assert!(denied(&decide(policy, planted, &[]).await));
    }

    #[tokio::test]
    async fn a_person_is_asked_about_the_sandbox_that_the_rule_names() {
        struct Asked(Arc<Mutex<Option<Execution>>>);
        impl Approver for Asked {
            async fn approve(&self, question: Question<'_>) -> Result<crate::Approval, PolicyError> {
                *self.0.lock().unwrap() = Some(question.request.execution.clone());
                Ok(crate::Approval::Yes)
            }
        }
        let asked = Arc::new(Mutex::new(None));
        let rule = "default = \"run\"\n[[rule]]\nprogram = \"/usr/bin/env\"\naction = \"prompt\"\nprofile = \"same\"\n";
        let policy = PolicyFile::parse(rule).unwrap();
        let policy = policy.with_approver(Asked(Arc::clone(&asked)));
        let decision = policy.decide(&PolicyRequest::new("/usr/bin/env")).await.unwrap();
        assert_eq!(decision.execution(), &Execution::SameSandbox);
        assert_eq!(*asked.lock().unwrap(), Some(Execution::SameSandbox));
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
