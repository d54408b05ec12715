//! Parses policy files; every error says where it is and what was expected.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use globset::GlobBuilder;
use serde::Deserialize;
use toml::Spanned;

use super::rule::{ProgramPattern, Rule, RuleAction};
use crate::policy::KeepEnv;

/// Number of a line, starting at 1, and what is wrong there.
type Complaint = (usize, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    program: Spanned<String>,
    #[serde(default)]
    argv: Vec<String>,
    action: Spanned<String>,
    reason: Option<Spanned<String>>,
    anywhere: Option<Spanned<bool>>,
    keep_env: Option<Spanned<RawKeepEnv>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, false, or a list of names")]
enum RawKeepEnv {
    All(bool),
    Names(BTreeSet<String>),
}

/// The default action and the rules in their order.
pub(super) fn parse(text: &str) -> Result<(RuleAction, Vec<Rule>), Complaint> {
    let file = Text(text);
    let raw: RawPolicy = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        (file.line(start), error.message().replace('\n', "; "))
    })?;
    let Some(default) = raw.default else {
        return Err((
            1,
            "missing field `default`, expected `run`, `escalate`, `deny` or `prompt`".to_owned(),
        ));
    };
    let default = match default.get_ref().as_str() {
        "run" => RuleAction::Run,
        "escalate" => RuleAction::Escalate {
            keep_env: KeepEnv::Nothing,
        },
        "deny" => RuleAction::Deny { reason: None },
        "prompt" => RuleAction::Prompt {
            keep_env: KeepEnv::Nothing,
            reason: None,
        },
        other => return Err(file.complaint(default.span(), unknown_action(other))),
    };
    let rules = raw
        .rule
        .into_iter()
        .map(|rule| file.rule(rule))
        .collect::<Result<_, _>>()?;
    Ok((default, rules))
}

fn unknown_action(action: &str) -> String {
    format!("unknown action `{action}`, expected `run`, `escalate`, `deny` or `prompt`")
}

struct Text<'a>(&'a str);

impl Text<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.0.as_bytes().get(..offset).unwrap_or(self.0.as_bytes());
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    fn complaint(&self, span: Range<usize>, message: impl Into<String>) -> Complaint {
        (self.line(span.start), message.into())
    }

    fn rule(&self, rule: Spanned<RawRule>) -> Result<Rule, Complaint> {
        let line = self.line(rule.span().start);
        let rule = rule.into_inner();
        let program = self.program(&rule.program)?;
        let keep_env = match rule.keep_env.as_ref().map(Spanned::get_ref) {
            None | Some(RawKeepEnv::All(false)) => KeepEnv::Nothing,
            Some(RawKeepEnv::All(true)) => KeepEnv::Everything,
            Some(RawKeepEnv::Names(names)) => KeepEnv::Names(names.iter().map(OsString::from).collect()),
        };
        let reason = rule.reason.as_ref().map(|reason| reason.get_ref().clone());
        let action = match rule.action.get_ref().as_str() {
            "run" => RuleAction::Run,
            "escalate" => RuleAction::Escalate { keep_env },
            "deny" => RuleAction::Deny { reason },
            "prompt" => RuleAction::Prompt { keep_env, reason },
            other => return Err(self.complaint(rule.action.span(), unknown_action(other))),
        };
        // A key without effect is a misunderstanding, which is dangerous in a policy.
        let escalates = matches!(action, RuleAction::Escalate { .. } | RuleAction::Prompt { .. });
        if let Some(reason) = &rule.reason
            && !matches!(action, RuleAction::Deny { .. } | RuleAction::Prompt { .. })
        {
            let message = "`reason` has no effect here; it is only for `deny` and `prompt`";
            return Err(self.complaint(reason.span(), message));
        }
        if let Some(keep_env) = &rule.keep_env
            && !escalates
        {
            let message = "`keep_env` has no effect here; it is only for `escalate` and `prompt`";
            return Err(self.complaint(keep_env.span(), message));
        }
        if let Some(anywhere) = &rule.anywhere
            && !(escalates && program.any_folder())
        {
            let message = "`anywhere` has no effect here; it is only for `escalate` and `prompt`, \
                           with a program that is not in a fixed directory";
            return Err(self.complaint(anywhere.span(), message));
        }
        let anywhere = rule.anywhere.is_some_and(Spanned::into_inner);
        let argv = rule.argv.into_iter().map(OsString::from).collect();
        Ok(Rule {
            line,
            program,
            argv,
            action,
            anywhere,
        })
    }

    fn program(&self, program: &Spanned<String>) -> Result<ProgramPattern, Complaint> {
        let text = program.get_ref();
        let expected = "expected an absolute path, a file name, or a glob for either";
        let is_glob = text.contains(['*', '?', '[', '{']);
        if text.is_empty() || (text.contains('/') && !text.starts_with('/') && !text.starts_with("**/")) {
            return Err(self.complaint(program.span(), format!("program `{text}`: {expected}")));
        }
        if text.split('/').any(|part| part == "." || part == "..") {
            let message = format!("program `{text}`: expected a path without `.` or `..`");
            return Err(self.complaint(program.span(), message));
        }
        if !is_glob {
            return Ok(if text.starts_with('/') {
                ProgramPattern::Path(PathBuf::from(text))
            } else {
                ProgramPattern::Name(OsString::from(text))
            });
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        let glob = glob
            .map_err(|error| self.complaint(program.span(), format!("program `{text}`: {}", error.kind())))?;
        let glob = glob.compile_matcher();
        Ok(match text.rsplit_once('/') {
            None => ProgramPattern::NameGlob(glob),
            Some((folder, _)) => ProgramPattern::PathGlob {
                glob,
                fixed_folder: !folder.contains(['*', '?', '[', '{']),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        let (line, message) = parse(text).unwrap_err();
        format!("{line}: {message}")
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        let files = [
            "",
            "default = 1\n",
            "default = \"maybe\"\n",
            "default = \"run\"\n\n[[rule]]\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"allow\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"bin/git\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"/usr/../bin/git\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"/usr/[bin\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\nargs = []\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\nargv = \"push\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"run\"\nreason = \"x\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"deny\"\nkeep_env = true\n",
            "default = \"run\"\n[[rule]]\nprogram = \"/bin/git\"\naction = \"escalate\"\nanywhere = true\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nkeep_env = \"PATH\"\n",
            "default = \"run\"\nrules = []\n",
            "default = \"run\"\n[[rule]\n",
        ];
        let complaints: Vec<String> = files
            .iter()
            .map(|file| format!("{file:?}\n  → {}\n", complaint(file)))
            .collect();
        insta::assert_snapshot!(complaints.concat());
    }

    #[test]
    fn programs_are_paths_names_or_globs() {
        let kind = |program: &str| {
            let text = format!("default = \"run\"\n[[rule]]\nprogram = {program:?}\naction = \"run\"\n");
            let (_, rules) = parse(&text).unwrap();
            match &rules[0].program {
                ProgramPattern::Path(_) => "path",
                ProgramPattern::Name(_) => "name",
                ProgramPattern::NameGlob(_) => "glob for names",
                ProgramPattern::PathGlob {
                    fixed_folder: true, ..
                } => "glob in a directory",
                ProgramPattern::PathGlob {
                    fixed_folder: false, ..
                } => "glob for directories",
            }
        };
        assert_eq!(kind("/usr/bin/git"), "path");
        assert_eq!(kind("git"), "name");
        assert_eq!(kind("git-*"), "glob for names");
        assert_eq!(kind("/usr/bin/git-*"), "glob in a directory");
        assert_eq!(kind("/usr/*/git"), "glob for directories");
        assert_eq!(kind("**/git"), "glob for directories");
    }
}
