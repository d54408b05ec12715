//! Parses policy files; every error says where it is and what was expected.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use toml::Spanned;

use super::environment::{ChildEnv, NamePattern};
use super::error::Complaint;
use crate::confinement::{Execution, Profile};
use crate::policy::approval::Asks;

use super::rule::{Arguments, DirectoryPattern, ProgramPattern, Rule, RuleAction};
use super::rule_set::RuleSet;

/// What a rule calls the sandbox of the shell.
const SAME: &str = "same";

/// Which profiles there are.
const PROFILES: &str = "`read-only`, `workspace-write`, `full-access`, or a [profile.NAME] of this file";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
    #[serde(default)]
    profile: BTreeMap<Spanned<String>, RawProfile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    inherit: Option<Spanned<String>>,
    read: Option<Vec<PathBuf>>,
    #[serde(default)]
    write: Vec<PathBuf>,
    network: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    program: Spanned<String>,
    #[serde(default)]
    argv: Option<Vec<String>>,
    argv_exact: Option<Spanned<Vec<String>>>,
    workdir: Option<Spanned<String>>,
    action: Spanned<String>,
    reason: Option<Spanned<String>>,
    ask: Option<Spanned<String>>,
    env: Option<Spanned<RawEnv>>,
    say_env: Option<Spanned<bool>>,
    replaceable: Option<Spanned<bool>>,
    in_place: Option<Spanned<bool>>,
    profile: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of variables' names, \"request\" or \"everything\""
)]
enum RawEnv {
    Word(EnvWord),
    Names(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EnvWord {
    Request,
    Everything,
}

/// What to write instead of a key that existed once.
fn instead(message: &str) -> Option<&'static str> {
    if message.starts_with("unknown field `anywhere`") {
        Some("`anywhere` is now `replaceable`, for every rule that escalates: write `replaceable = true`")
    } else if message.starts_with("unknown field `keep_env`") {
        Some(
            "`keep_env` is now part of `env`: write the names there, `env = [\"LD_LIBRARY_PATH\"]`, or `env = \"everything\"`",
        )
    } else {
        None
    }
}

/// What a policy file says.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) default: RuleAction,
    pub(super) rules: RuleSet,
    pub(super) profiles: BTreeMap<String, Profile>,
}

/// Reads the text of a policy file.
pub(super) fn parse(text: &str) -> Result<Parsed, Complaint> {
    parts_of(text).map_err(|complaint| Complaint {
        message: on_one_line(&complaint.message),
        ..complaint
    })
}

/// A complaint may quote the file: its control characters are shown as escapes.
fn on_one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for character in message.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

fn parts_of(text: &str) -> Result<Parsed, Complaint> {
    let file = Text(text);
    let raw: RawPolicy = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let message =
            instead(error.message()).map_or_else(|| error.message().replace('\n', "; "), str::to_owned);
        file.complaint(start..start, message)
    })?;
    let Some(default) = raw.default else {
        let message = "missing field `default`, expected `run`, `escalate`, `deny` or `prompt`";
        return Err(file.complaint(0..0, message));
    };
    let default = match default.get_ref().as_str() {
        "run" => RuleAction::Run,
        // The default escalates everything, and so trusts everything.
        "escalate" => RuleAction::Escalate {
            env: ChildEnv::Request,
        },
        "deny" => RuleAction::Deny { reason: None },
        // The question shows all of it.
        "prompt" => RuleAction::Prompt {
            env: ChildEnv::Request,
            reason: None,
            asks: Asks::EachTime,
        },
        other => return Err(file.complaint(default.span(), unknown_action(other))),
    };
    let profiles = file.profiles(&raw.profile)?;
    let rules = raw
        .rule
        .into_iter()
        .map(|rule| file.rule(rule, &profiles))
        .collect::<Result<_, _>>()?;
    let rules = RuleSet::new(rules).map_err(|error| {
        let message = format!("the patterns of all rules together: {}", error.kind());
        file.complaint(0..0, message)
    })?;
    Ok(Parsed {
        default,
        rules,
        profiles,
    })
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
        let before = self.0.get(..span.start).unwrap_or(self.0);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Complaint {
            line: self.line(span.start),
            column: 1 + before[line_start..].chars().count(),
            message: message.into(),
        }
    }

    fn profiles(
        &self,
        raw: &BTreeMap<Spanned<String>, RawProfile>,
    ) -> Result<BTreeMap<String, Profile>, Complaint> {
        let mut profiles = BTreeMap::new();
        for name in raw.keys() {
            if name.get_ref() == SAME || Profile::built_in(name.get_ref()).is_some() {
                let message = format!("profile `{}` is built in and can't be defined", name.get_ref());
                return Err(self.complaint(name.span(), message));
            }
            let mut seen = Vec::new();
            let profile = self.inherited(raw, name, &mut seen)?;
            profiles.insert(name.get_ref().clone(), profile);
        }
        Ok(profiles)
    }

    /// A profile with all that it inherits; `seen` are the names on the way to it.
    fn inherited<'a>(
        &self,
        raw: &'a BTreeMap<Spanned<String>, RawProfile>,
        name: &'a Spanned<String>,
        seen: &mut Vec<&'a str>,
    ) -> Result<Profile, Complaint> {
        let Some((_, own)) = raw.iter().find(|(key, _)| key.get_ref() == name.get_ref()) else {
            return Profile::built_in(name.get_ref()).ok_or_else(|| {
                let message = format!("no profile is called `{}`: expected {PROFILES}", name.get_ref());
                self.complaint(name.span(), message)
            });
        };
        if seen.contains(&name.get_ref().as_str()) {
            return Err(self.complaint(name.span(), "this profile inherits from itself"));
        }
        seen.push(name.get_ref());
        let base = match &own.inherit {
            Some(base) => self.inherited(raw, base, seen)?,
            None => Profile::read_only(),
        };
        if let Some(base) = own.inherit.as_ref().filter(|_| !base.confines()) {
            let message = "`full-access` confines nothing, so there is nothing to inherit";
            return Err(self.complaint(base.span(), message));
        }
        let network = own.network.unwrap_or(base.allows_network());
        let base = own.write.iter().fold(base, Profile::with_write);
        let base = match &own.read {
            Some(read) => base.with_read(read.iter().cloned()),
            None => base,
        };
        Ok(base.with_network(network))
    }

    fn execution(
        &self,
        profile: &Spanned<String>,
        profiles: &BTreeMap<String, Profile>,
    ) -> Result<Execution, Complaint> {
        match profile.get_ref().as_str() {
            "full-access" => Ok(Execution::Unsandboxed),
            SAME => Ok(Execution::SameSandbox),
            name if profiles.contains_key(name) || Profile::built_in(name).is_some() => {
                Ok(Execution::Profile(name.to_owned()))
            }
            name => {
                let message = format!("no profile is called `{name}`: expected `{SAME}`, {PROFILES}");
                Err(self.complaint(profile.span(), message))
            }
        }
    }

    fn rule(&self, rule: Spanned<RawRule>, profiles: &BTreeMap<String, Profile>) -> Result<Rule, Complaint> {
        let line = self.line(rule.span().start);
        let rule = rule.into_inner();
        let program = self.program(&rule.program)?;
        let env = self.environment(rule.env.as_ref())?;
        let reason = rule.reason.as_ref().map(|reason| reason.get_ref().clone());
        let action = match rule.action.get_ref().as_str() {
            "run" => RuleAction::Run,
            "escalate" => RuleAction::Escalate { env },
            "deny" => RuleAction::Deny { reason },
            "prompt" => RuleAction::Prompt {
                env,
                reason,
                asks: self.asks(rule.ask.as_ref())?,
            },
            other => return Err(self.complaint(rule.action.span(), unknown_action(other))),
        };
        // A key without effect is a misunderstanding, which is dangerous in a policy.
        if let Some(reason) = &rule.reason
            && !matches!(action, RuleAction::Deny { .. } | RuleAction::Prompt { .. })
        {
            let message = "`reason` has no effect here; it is only for `deny` and `prompt`";
            return Err(self.complaint(reason.span(), message));
        }
        if let Some(ask) = &rule.ask
            && !matches!(action, RuleAction::Prompt { .. })
        {
            let message = "`ask` has no effect here; it is only for `prompt`";
            return Err(self.complaint(ask.span(), message));
        }
        let only_escalating = [
            ("env", rule.env.as_ref().map(Spanned::span)),
            ("say_env", rule.say_env.as_ref().map(Spanned::span)),
            ("replaceable", rule.replaceable.as_ref().map(Spanned::span)),
            ("in_place", rule.in_place.as_ref().map(Spanned::span)),
            ("profile", rule.profile.as_ref().map(Spanned::span)),
        ];
        for (key, span) in only_escalating {
            if let (Some(span), false) = (span, action.may_escalate()) {
                let message = format!("`{key}` has no effect here; it is only for `escalate` and `prompt`");
                return Err(self.complaint(span, message));
            }
        }
        let texts = |texts: Vec<String>| texts.into_iter().map(OsString::from).collect();
        let arguments = match (rule.argv, rule.argv_exact) {
            (Some(_), Some(exact)) => {
                let message = "`argv` and `argv_exact` exclude each other: \
                               `argv` are the first arguments, `argv_exact` all of them";
                return Err(self.complaint(exact.span(), message));
            }
            (None, Some(exact)) => Arguments::Exactly(texts(exact.into_inner())),
            (first, None) => Arguments::Prefix(texts(first.unwrap_or_default())),
        };
        Ok(Rule {
            line,
            file: None,
            program,
            arguments,
            workdir: rule.workdir.map(|workdir| self.directory(&workdir)).transpose()?,
            action,
            execution: match &rule.profile {
                Some(profile) => self.execution(profile, profiles)?,
                None => Execution::Unsandboxed,
            },
            replaceable: rule.replaceable.is_some_and(Spanned::into_inner),
            in_place: rule.in_place.is_some_and(Spanned::into_inner),
            say_env: rule.say_env.is_some_and(Spanned::into_inner),
        })
    }

    fn asks(&self, ask: Option<&Spanned<String>>) -> Result<Asks, Complaint> {
        match ask.map(|ask| (ask.get_ref().as_str(), ask.span())) {
            None | Some(("each-time", _)) => Ok(Asks::EachTime),
            Some(("once", _)) => Ok(Asks::Once),
            Some((other, span)) => {
                let message = format!("ask `{other}`: expected `once` or `each-time`");
                Err(self.complaint(span, message))
            }
        }
    }

    fn environment(&self, env: Option<&Spanned<RawEnv>>) -> Result<ChildEnv, Complaint> {
        let Some(env) = env else {
            return Ok(ChildEnv::Listed(Vec::new()));
        };
        match env.get_ref() {
            RawEnv::Word(EnvWord::Request) => Ok(ChildEnv::Request),
            RawEnv::Word(EnvWord::Everything) => Ok(ChildEnv::Everything),
            RawEnv::Names(names) => {
                let patterns: Result<_, _> = names.iter().map(|name| NamePattern::parse(name)).collect();
                let patterns = patterns.map_err(|error| {
                    self.complaint(env.span(), format!("env {error}; expected a name or a glob"))
                })?;
                Ok(ChildEnv::Listed(patterns))
            }
        }
    }

    fn directory(&self, workdir: &Spanned<String>) -> Result<DirectoryPattern, Complaint> {
        let text = workdir.get_ref();
        if !(text.starts_with('/') || text.starts_with("**/")) {
            let message = format!("workdir `{text}`: expected an absolute path, or a glob for one");
            return Err(self.complaint(workdir.span(), message));
        }
        self.without_dots("workdir", workdir)?;
        if is_glob(text) {
            Ok(DirectoryPattern::Glob(self.glob("workdir", workdir)?))
        } else {
            // Compared with a path as the kernel knows it, which ends without a slash.
            Ok(DirectoryPattern::Path(PathBuf::from(text).components().collect()))
        }
    }

    fn without_dots(&self, key: &str, path: &Spanned<String>) -> Result<(), Complaint> {
        let text = path.get_ref();
        if text.split('/').any(|part| part == "." || part == "..") {
            let message = format!("{key} `{text}`: expected a path without `.` or `..`");
            return Err(self.complaint(path.span(), message));
        }
        Ok(())
    }

    fn glob(&self, key: &str, text: &Spanned<String>) -> Result<GlobMatcher, Complaint> {
        let glob = GlobBuilder::new(text.get_ref())
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        glob.map(|glob| glob.compile_matcher()).map_err(|error| {
            let message = format!("{key} `{}`: {}", text.get_ref(), error.kind());
            self.complaint(text.span(), message)
        })
    }

    fn program(&self, program: &Spanned<String>) -> Result<ProgramPattern, Complaint> {
        let text = program.get_ref();
        let expected = "expected an absolute path, a file name, or a glob for either";
        if text.is_empty() || (text.contains('/') && !text.starts_with('/') && !text.starts_with("**/")) {
            return Err(self.complaint(program.span(), format!("program `{text}`: {expected}")));
        }
        self.without_dots("program", program)?;
        let in_a_folder = text.contains('/');
        Ok(match (is_glob(text), in_a_folder) {
            (false, true) => ProgramPattern::Path(PathBuf::from(text)),
            (false, false) => ProgramPattern::Name(OsString::from(text)),
            (true, true) => ProgramPattern::PathGlob(self.glob("program", program)?),
            (true, false) => ProgramPattern::NameGlob(self.glob("program", program)?),
        })
    }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        parse(text).unwrap_err().to_string()
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
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"deny\"\nenv = []\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nask = \"once\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"prompt\"\nask = \"always\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"run\"\nsay_env = true\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"run\"\nreplaceable = false\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"deny\"\nin_place = true\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nin_place = \"yes\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nenv = \"PATH\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nenv = [\"A=B\"]\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nenv = [\"A[\"]\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\nargv = []\nargv_exact = []\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\nworkdir = \"src\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\nworkdir = \"/a/../b\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\nworkdir = \"/a/[b\"\naction = \"run\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nanywhere = true\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nkeep_env = true\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"run\"\nprofile = \"same\"\n",
            "default = \"run\"\n[[rule]]\nprogram = \"git\"\naction = \"escalate\"\nprofile = \"nowhere\"\n",
            "default = \"run\"\n[profile.same]\n",
            "default = \"run\"\n[profile.read-only]\n",
            "default = \"run\"\n[profile.a]\nwritable = []\n",
            "default = \"run\"\n[profile.a]\ninherit = \"nowhere\"\n",
            "default = \"run\"\n[profile.a]\ninherit = \"full-access\"\n",
            "default = \"run\"\n[profile.a]\ninherit = \"b\"\n[profile.b]\ninherit = \"a\"\n",
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
    fn profiles_add_to_what_they_inherit() {
        let text = "default = \"run\"\n\
            [profile.net]\ninherit = \"work\"\nnetwork = true\nwrite = [\"out\"]\n\
            [profile.work]\ninherit = \"workspace-write\"\nread = [\"/usr\"]\n\
            [[rule]]\nprogram = \"git\"\naction = \"escalate\"\nprofile = \"net\"\n\
            [[rule]]\nprogram = \"git\"\naction = \"escalate\"\nprofile = \"same\"\n\
            [[rule]]\nprogram = \"git\"\naction = \"escalate\"\nprofile = \"full-access\"\n";
        let parsed = parse(text).unwrap();
        let expected = Profile::workspace_write()
            .with_read(["/usr".into()])
            .with_write("out")
            .with_network(true);
        assert_eq!(parsed.profiles["net"], expected);
        let executions: Vec<_> = parsed
            .rules
            .in_order()
            .iter()
            .map(|rule| rule.execution.clone())
            .collect();
        let profile = Execution::Profile("net".to_owned());
        assert_eq!(
            executions,
            [profile, Execution::SameSandbox, Execution::Unsandboxed]
        );
    }

    #[test]
    fn programs_are_paths_names_or_globs() {
        let kind = |program: &str| {
            let text = format!("default = \"run\"\n[[rule]]\nprogram = {program:?}\naction = \"run\"\n");
            let parsed = parse(&text).unwrap();
            match &parsed.rules.in_order()[0].program {
                ProgramPattern::Path(_) => "path",
                ProgramPattern::Name(_) => "name",
                ProgramPattern::NameGlob(_) => "glob for names",
                ProgramPattern::PathGlob(_) => "glob for paths",
                ProgramPattern::NameAt(..) => "name at paths",
            }
        };
        assert_eq!(kind("/usr/bin/git"), "path");
        assert_eq!(kind("git"), "name");
        assert_eq!(kind("git-*"), "glob for names");
        assert_eq!(kind("/usr/bin/git-*"), "glob for paths");
        assert_eq!(kind("/usr/*/git"), "glob for paths");
        assert_eq!(kind("**/git"), "glob for paths");
    }
}
