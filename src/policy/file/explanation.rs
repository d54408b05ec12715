//! What a policy file says about a request, for a person who writes one.

use std::fmt;

use super::rule::{Mismatch, Rule, RuleAction};
use super::rule_set::RuleSet;
use crate::confinement::Execution;
use crate::files::{Wait, is_elf, is_of_system, look_up};
use crate::policy::PolicyRequest;

/// What would be decided about a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The decision: `run`, `escalate`, `deny` or `prompt`, where a person would be asked.
    pub action: &'static str,
    /// How what is escalated would be executed.
    pub execution: Execution,
    /// Whether what is escalated would be executed [in place](crate::Decision::in_place), if it is a script.
    pub in_place: bool,
    /// The reason that is shown to who is denied or asked.
    pub reason: Option<String>,
    /// The rule that decides: `line 6`, or `git.rules:6`; `None` if the default does.
    pub by: Option<String>,
    /// Every rule about the program, in their order.
    pub steps: Vec<Step>,
}

/// What one rule says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The rule: `line 6`, or `git.rules:6`.
    pub rule: String,
    /// What it makes of the request, or why it doesn't apply.
    pub verdict: String,
}

impl Explanation {
    /// Blocks as long as the file systems do.
    pub(super) fn new(default: &RuleAction, rules: &RuleSet, request: &PolicyRequest) -> Self {
        // Where waiting is allowed, there is always an answer.
        let decisive = rules.rule_for(request, Wait::Allowed).ok().flatten();
        let about = rules.in_order().iter().filter_map(|rule| {
            let verdict = match rule.mismatch(request, Wait::Allowed).ok()? {
                Some(Mismatch::Program) => return None,
                Some(mismatch) => format!("does not apply: {}", reason(mismatch)),
                None if decisive.is_some_and(|decisive| std::ptr::eq(decisive, rule)) => {
                    let renames = rule.action.may_escalate()
                        && !rule.executes_in_place(request, Wait::Allowed)
                        && is_changeable_script(request);
                    let consequence = match (renames, rule.in_place) {
                        (false, _) => "",
                        (true, false) => RENAMED,
                        (true, true) => REDIRECTED,
                    };
                    format!("{}: decides{consequence}", name(&rule.action))
                }
                None => format!("{}: matches, but another rule decides", name(&rule.action)),
            };
            Some(Step {
                rule: rule.place(),
                verdict,
            })
        });
        let action = decisive.map_or(default, |rule| &rule.action);
        Self {
            action: name(action),
            execution: decisive.map_or_else(Execution::default, |rule| rule.execution.clone()),
            in_place: decisive.is_some_and(|rule| rule.executes_in_place(request, Wait::Allowed)),
            reason: match action {
                RuleAction::Deny { reason } | RuleAction::Prompt { reason, .. } => reason.clone(),
                RuleAction::Run | RuleAction::Escalate { .. } => None,
            },
            by: decisive.map(Rule::place),
            steps: about.collect(),
        }
    }
}

/// What surprises a script that is escalated by a rule without `in_place`.
const RENAMED: &str = "; a sandboxed process could change this script, so it gets /dev/fd/N as its $0: `in_place = true` \
                       executes it by its name";

/// What surprises one that a rule with `in_place` and without `replaceable` escalates.
const REDIRECTED: &str = "; not in place but from a copy: a user other than root could make this name lead elsewhere, and the \
                          rule does not say `replaceable = true`";

/// Whether the program is a script, and others than root could change it or make its name lead elsewhere. One that can't be read
/// is not known to be one.
fn is_changeable_script(request: &PolicyRequest) -> bool {
    let Ok(found) = look_up(&request.workdir, request.program.as_os_str(), Wait::Allowed) else {
        return false;
    };
    let is_fixed = found.trust.is_some_and(|trust| !trust.others_can_redirect())
        && is_of_system(&found.requested)
        && found.canonical.as_deref().is_some_and(is_of_system);
    let content = found.file.and_then(|file| file.open_to_read());
    !is_fixed && content.is_ok_and(|content| !is_elf(&content))
}

fn name(action: &RuleAction) -> &'static str {
    match action {
        RuleAction::Run => "run",
        RuleAction::Escalate { .. } => "escalate",
        RuleAction::Deny { .. } => "deny",
        RuleAction::Prompt { .. } => "prompt",
    }
}

fn reason(mismatch: Mismatch) -> &'static str {
    match mismatch {
        Mismatch::Program => "it is about other programs",
        Mismatch::Arguments => "it is about other arguments",
        Mismatch::Directory => "it is about another working directory",
        Mismatch::Name => "argv[0] is not the program's name",
        Mismatch::Replaceable => {
            "a user other than root could replace the program, and the rule does not say `replaceable = true`"
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.action)?;
        match &self.execution {
            Execution::Unsandboxed => {}
            Execution::SameSandbox => formatter.write_str(", in the shell's sandbox")?,
            Execution::Profile(name) => write!(formatter, ", in the sandbox profile {name}")?,
        }
        if self.in_place {
            formatter.write_str(", a script in place")?;
        }
        if let Some(reason) = &self.reason {
            write!(formatter, " ({reason})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::PolicyFile;
    use super::*;

    const POLICY: &str = "default = \"run\"\n\
        [[rule]]\nprogram = \"env\"\nargv = [\"-i\"]\naction = \"escalate\"\nprofile = \"same\"\n\
        [[rule]]\nprogram = \"env\"\naction = \"escalate\"\n\
        [[rule]]\nprogram = \"env\"\nworkdir = \"/srv\"\naction = \"escalate\"\n\
        [[rule]]\nprogram = \"cat\"\naction = \"deny\"\nreason = \"no cats\"\n\
        [[rule]]\nprogram = \"cat\"\naction = \"run\"\n";

    fn explain(
        program: &str,
        change: impl FnOnce(&mut PolicyRequest),
    ) -> (String, Option<String>, Vec<String>) {
        let mut request = PolicyRequest::new(program);
        change(&mut request);
        let explanation = PolicyFile::parse(POLICY).unwrap().explain(&request);
        let steps = explanation
            .steps
            .iter()
            .map(|step| format!("{}: {}", step.rule, step.verdict));
        (explanation.to_string(), explanation.by, steps.collect())
    }

    #[test]
    fn every_rule_about_the_program_is_accounted_for() {
        let (decision, line, steps) = explain("/usr/bin/env", |request| request.argv.push("-i".into()));
        assert_eq!(
            (decision.as_str(), line.as_deref()),
            ("escalate, in the shell's sandbox", Some("line 2"))
        );
        assert_eq!(
            steps,
            [
                "line 2: escalate: decides",
                "line 7: escalate: matches, but another rule decides",
                "line 10: does not apply: it is about another working directory"
            ]
        );
        let (decision, line, steps) = explain("/bin/cat", |_| ());
        assert_eq!(
            (decision.as_str(), line.as_deref()),
            ("deny (no cats)", Some("line 14"))
        );
        assert_eq!(steps[1], "line 18: run: matches, but another rule decides");
    }

    #[test]
    fn what_keeps_a_rule_from_escalating_is_said() {
        let (decision, line, steps) = explain("/usr/bin/env", |request| request.argv[0] = "env-grep".into());
        assert_eq!((decision.as_str(), line), ("run", None));
        assert_eq!(
            steps[1],
            "line 7: does not apply: argv[0] is not the program's name"
        );
        let folder = tempfile::tempdir().unwrap();
        let planted = folder.path().join("env");
        std::fs::copy("/usr/bin/env", &planted).unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let (decision, line, steps) = explain(planted.to_str().unwrap(), |request| {
            request.argv[0] = "env".into()
        });
        assert_eq!((decision.as_str(), line), ("run", None));
        assert!(steps[1].contains("replaceable = true"), "{steps:?}");
        assert_eq!(explain("/bin/echo", |_| ()).2, [""; 0]);
    }

    #[test]
    fn where_a_script_is_executed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let configure = folder.path().join("configure");
        std::fs::write(&configure, "#!/bin/sh\n").unwrap();
        std::fs::copy("/usr/bin/env", folder.path().join("binary")).unwrap();
        std::os::unix::fs::symlink("configure", folder.path().join("linked")).unwrap();
        let explain = |more: &str, program: &str| {
            let pattern = folder.path().join("*").display().to_string();
            let rule =
                format!("[[rule]]\nprogram = {pattern:?}\naction = \"escalate\"\nreplaceable = true\n{more}");
            let policy = PolicyFile::parse(&format!("default = \"run\"\n{rule}")).unwrap();
            let explanation = policy.explain(&PolicyRequest::new(folder.path().join(program)));
            (explanation.to_string(), explanation.steps[0].verdict.clone())
        };
        for script in ["configure", "linked"] {
            let (decision, verdict) = explain("", script);
            assert_eq!(decision, "escalate");
            assert_eq!(verdict, format!("escalate: decides{RENAMED}"));
        }
        assert_eq!(explain("", "binary").1, "escalate: decides");
        assert_eq!(explain("", "missing").1, "escalate: decides");
        assert_eq!(
            explain("in_place = true\nprofile = \"same\"", "configure"),
            (
                "escalate, in the shell's sandbox, a script in place".to_owned(),
                "escalate: decides".to_owned()
            )
        );
        // Only root changes this one.
        let system = "/usr/bin/ldd";
        if std::path::Path::new(system).exists() {
            let policy = "default = \"run\"\n[[rule]]\nprogram = \"ldd\"\naction = \"escalate\"\n";
            let explanation = PolicyFile::parse(policy)
                .unwrap()
                .explain(&PolicyRequest::new(system));
            assert_eq!(explanation.steps[0].verdict, "escalate: decides");
        }
    }
}
