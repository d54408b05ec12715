//! `.rules` files: the original's rules, in Starlark.
//!
//! ```python
//! prefix_rule(
//!     pattern = ["git", ["fetch", "pull"]],
//!     decision = "allow",
//!     justification = "only reads",
//!     match = ["git fetch origin", ["git", "pull"]],
//!     not_match = ["git push"],
//! )
//! host_executable(name = "git", paths = ["/usr/bin/git"])
//! ```
//!
//! `allow` escalates, `prompt` asks, `forbidden` denies. What may be escalated must be a program that only root can replace, as
//! for the rules in TOML; a rule by name forbids it anywhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use starlark::any::ProvidesStaticType;
use starlark::environment::{GlobalsBuilder, Module};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::syntax::{AstModule, Dialect};
use starlark::values::Value;
use starlark::values::list::ListRef;
use starlark::values::none::NoneType;

use crate::confinement::Execution;
use crate::policy::approval::Asks;

use super::environment::ChildEnv;
use super::error::{Complaint, PolicyFileError};
use super::rule::{Arguments, ProgramPattern, Rule, RuleAction};

/// A `prefix_rule`, before it is known which programs its name stands for.
#[derive(Debug)]
struct PrefixRule {
    line: usize,
    /// What the first word may be.
    programs: Vec<String>,
    /// What each of the next words may be.
    arguments: Vec<Vec<String>>,
    action: RuleAction,
}

/// What a file has said so far.
#[derive(Debug, Default, ProvidesStaticType)]
struct Statements {
    rules: RefCell<Vec<PrefixRule>>,
    /// Where programs that rules name without a path are.
    executables: RefCell<BTreeMap<String, Vec<PathBuf>>>,
}

/// Reads a file, or all files in a folder whose names end with `.rules`, in the order of their names.
pub(super) fn read(path: &Path) -> Result<Vec<Rule>, PolicyFileError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyFileError::Unreadable { path, source }
    };
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(unreadable(path))?;
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable(path))?;
        files = entries.iter().map(fs::DirEntry::path).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "rules"));
        files.sort();
    }
    let mut rules = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
        let found = parse(&file.display().to_string(), &text);
        rules.extend(found.map_err(|complaint| PolicyFileError::Invalid {
            path: file,
            complaint,
        })?);
    }
    Ok(rules)
}

/// Reads the text of a file called `name`.
fn parse(name: &str, text: &str) -> Result<Vec<Rule>, Complaint> {
    let statements = Statements::default();
    let evaluated = AstModule::parse(name, text.to_owned(), &Dialect::Standard).and_then(|program| {
        let globals = GlobalsBuilder::standard().with(functions).build();
        Module::with_temp_heap(|module| {
            let mut evaluator = Evaluator::new(&module);
            evaluator.extra = Some(&statements);
            evaluator.eval_module(program, &globals).map(drop)
        })
    });
    evaluated.map_err(|error| complaint(&error))?;
    let file: Arc<str> = name.into();
    let executables = statements.executables.into_inner();
    let rules = statements.rules.into_inner();
    Ok(rules
        .into_iter()
        .flat_map(|rule| rule.into_rules(&file, &executables))
        .collect())
}

fn complaint(error: &starlark::Error) -> Complaint {
    let begin = error.span().map(|place| place.resolve_span().begin);
    let message = error.without_diagnostic().to_string();
    Complaint {
        line: begin.map_or(1, |begin| begin.line + 1),
        column: begin.map_or(1, |begin| begin.column + 1),
        message: message.trim_end().replace('\n', "; "),
    }
}

impl PrefixRule {
    /// One rule for each program.
    fn into_rules(self, file: &Arc<str>, executables: &BTreeMap<String, Vec<PathBuf>>) -> Vec<Rule> {
        let arguments: Vec<Vec<OsString>> = self
            .arguments
            .iter()
            .map(|words| words.iter().map(OsString::from).collect())
            .collect();
        let forbids = matches!(self.action, RuleAction::Deny { .. });
        let rule = |program: String| Rule {
            line: self.line,
            file: Some(Arc::clone(file)),
            program: match executables.get(&program) {
                _ if program.contains('/') => ProgramPattern::Path(program.into()),
                Some(paths) if !forbids => ProgramPattern::NameAt(program.into(), paths.clone()),
                _ => ProgramPattern::Name(program.into()),
            },
            arguments: Arguments::Alternatives(arguments.clone()),
            workdir: None,
            action: self.action.clone(),
            execution: Execution::Unsandboxed,
            replaceable: false,
            in_place: false,
            say_env: false,
        };
        self.programs.into_iter().map(rule).collect()
    }

    fn matches(&self, words: &[String]) -> bool {
        let positions = std::iter::once(&self.programs).chain(&self.arguments);
        words.len() > self.arguments.len()
            && positions.zip(words).all(|(allowed, word)| allowed.contains(word))
    }
}

#[starlark_module]
fn functions(builder: &mut GlobalsBuilder) {
    fn prefix_rule<'v>(
        #[starlark(require = named)] pattern: Value<'v>,
        #[starlark(require = named)] decision: Option<&'v str>,
        #[starlark(require = named)] justification: Option<&'v str>,
        #[starlark(require = named)] r#match: Option<Value<'v>>,
        #[starlark(require = named)] not_match: Option<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<NoneType> {
        let mut words = list("pattern", pattern)?
            .iter()
            .map(|element| alternatives(*element))
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter();
        let programs = words
            .next()
            .ok_or_else(|| anyhow!("pattern: expected at least the program"))?;
        for program in &programs {
            let has_dots = program.split('/').any(|part| part == "." || part == "..");
            if program.is_empty() || has_dots || (program.contains('/') && !program.starts_with('/')) {
                bail!("pattern: `{program}`: expected a program's name or absolute path");
            }
        }
        let reason = justification.map(str::to_owned);
        let env = ChildEnv::Listed(Vec::new());
        let action = match decision.unwrap_or("allow") {
            "allow" => RuleAction::Escalate { env },
            "prompt" => RuleAction::Prompt {
                env,
                reason,
                asks: Asks::EachTime,
            },
            "forbidden" => RuleAction::Deny { reason },
            other => bail!("decision `{other}`: expected `allow`, `prompt` or `forbidden`"),
        };
        let place = eval.call_stack_top_location();
        let rule = PrefixRule {
            line: place.map_or(1, |place| place.resolve_span().begin.line + 1),
            programs,
            arguments: words.collect(),
            action,
        };
        for (key, expected, examples) in [("match", true, r#match), ("not_match", false, not_match)] {
            let Some(examples) = examples else { continue };
            for example in list(key, examples)? {
                let words = example_words(key, *example)?;
                if rule.matches(&words) != expected {
                    let does = if expected { "does not match" } else { "matches" };
                    bail!("{key}: the rule {does} the example `{}`", words.join(" "));
                }
            }
        }
        statements(eval)?.rules.borrow_mut().push(rule);
        Ok(NoneType)
    }

    fn host_executable<'v>(
        #[starlark(require = named)] name: &'v str,
        #[starlark(require = named)] paths: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<NoneType> {
        if name.is_empty() || name.contains('/') {
            bail!("name `{name}`: expected a file name without a path");
        }
        let paths = list("paths", paths)?
            .iter()
            .map(|path| {
                let path = PathBuf::from(text("paths", *path)?);
                if !path.is_absolute() || path.file_name() != Some(name.as_ref()) {
                    bail!(
                        "paths: `{}`: expected an absolute path that ends with {name}",
                        path.display()
                    );
                }
                Ok(path)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        // A later statement about the same name replaces an earlier one.
        statements(eval)?
            .executables
            .borrow_mut()
            .insert(name.to_owned(), paths);
        Ok(NoneType)
    }
}

fn statements<'a>(eval: &'a Evaluator<'_, '_, '_>) -> anyhow::Result<&'a Statements> {
    eval.extra
        .and_then(|extra| extra.downcast_ref::<Statements>())
        .ok_or_else(|| anyhow!("evaluated without its statements"))
}

fn list<'v>(key: &str, value: Value<'v>) -> anyhow::Result<&'v [Value<'v>]> {
    ListRef::from_value(value)
        .map(ListRef::content)
        .ok_or_else(|| anyhow!("{key}: expected a list, not a {}", value.get_type()))
}

fn text(key: &str, value: Value<'_>) -> anyhow::Result<String> {
    let text = value
        .unpack_str()
        .ok_or_else(|| anyhow!("{key}: expected a string, not a {}", value.get_type()))?;
    Ok(text.to_owned())
}

/// A word, or a list of the words that may stand there.
fn alternatives(element: Value<'_>) -> anyhow::Result<Vec<String>> {
    let Some(words) = ListRef::from_value(element) else {
        return Ok(vec![text("pattern", element)?]);
    };
    if words.content().is_empty() {
        bail!("pattern: an empty list matches nothing");
    }
    words.iter().map(|word| text("pattern", word)).collect()
}

/// A command line as a shell would split it, or a list of words.
fn example_words(key: &str, example: Value<'_>) -> anyhow::Result<Vec<String>> {
    if let Some(line) = example.unpack_str() {
        return shlex::split(line).ok_or_else(|| anyhow!("{key}: `{line}` has a quote that isn't closed"));
    }
    list(key, example)?.iter().map(|word| text(key, *word)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::PolicyFile;
    use super::*;
    use crate::policy::PolicyRequest;

    fn complain(text: &str) -> String {
        parse("test.rules", text).unwrap_err().to_string()
    }

    /// What is decided by a default that runs everything, TOML rules, and `.rules`.
    fn decide(toml: &str, rules: &str, program: &str, arguments: &[&str]) -> String {
        let mut policy = PolicyFile::parse(&format!("default = \"run\"\n{toml}")).unwrap();
        policy.rules = policy.rules.with(parse("test.rules", rules).unwrap()).unwrap();
        let mut request = PolicyRequest::new(program);
        let name = Path::new(program).file_name().unwrap();
        request.argv = [name.to_owned()]
            .into_iter()
            .chain(arguments.iter().map(OsString::from))
            .collect();
        let explanation = policy.explain(&request);
        format!(
            "{explanation} by {}",
            explanation.by.as_deref().unwrap_or_default()
        )
    }

    #[test]
    fn the_strictest_matching_rule_decides() {
        let rules = "prefix_rule(pattern = [\"env\"])\n\
            prefix_rule(pattern = [\"env\", [\"-i\", \"-u\"], \"a\"], decision = \"prompt\", justification = \"asks\")\n\
            prefix_rule(pattern = [\"env\", \"-u\", \"a\", \"b\"], decision = \"forbidden\", justification = \"no\")\n";
        let decide = |arguments: &[&str]| decide("", rules, "/usr/bin/env", arguments);
        assert_eq!(decide(&[]), "escalate by test.rules:1");
        assert_eq!(decide(&["-i"]), "escalate by test.rules:1");
        assert_eq!(decide(&["-i", "a", "x"]), "prompt (asks) by test.rules:2");
        assert_eq!(decide(&["-u", "a", "b"]), "deny (no) by test.rules:3");
    }

    #[test]
    fn what_gives_away_less_wins_over_the_policy_file() {
        let toml = |action: &str| format!("[[rule]]\nprogram = \"env\"\naction = \"{action}\"\n");
        let rules = |decision: &str| format!("prefix_rule(pattern = [\"env\"], decision = \"{decision}\")\n");
        let decide = |action: &str, decision: &str| {
            let said = decide(&toml(action), &rules(decision), "/usr/bin/env", &[]);
            said.split(' ').next().unwrap().to_owned()
        };
        assert_eq!(decide("run", "allow"), "run");
        assert_eq!(decide("run", "prompt"), "run");
        assert_eq!(decide("escalate", "prompt"), "prompt");
        assert_eq!(decide("prompt", "allow"), "prompt");
        assert_eq!(decide("deny", "allow"), "deny");
        assert_eq!(decide("run", "forbidden"), "deny");
    }

    #[test]
    fn a_name_never_escalates_what_the_sandboxed_side_could_have_put_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let planted = folder.path().join("env");
        fs::copy("/usr/bin/env", &planted).unwrap();
        let planted = planted.to_str().unwrap();
        let decide = |rules: &str, program: &str| decide("", rules, program, &[]);
        assert_eq!(decide("prefix_rule(pattern = [\"env\"])", planted), "run by ");
        let forbids = "prefix_rule(pattern = [\"env\"], decision = \"forbidden\")";
        assert_eq!(decide(forbids, planted), "deny by test.rules:1");
        let located = "host_executable(name = \"env\", paths = [\"/opt/env\"])\n";
        let allows = format!("{located}prefix_rule(pattern = [\"env\"])");
        assert_eq!(decide(&allows, "/usr/bin/env"), "run by ");
        assert_eq!(
            decide(&format!("{located}{forbids}"), "/usr/bin/env"),
            "deny by test.rules:2"
        );
        // A path that is allowed doesn't outweigh a name that is forbidden.
        let both = format!("{forbids}\nprefix_rule(pattern = [\"/usr/bin/env\"])");
        assert_eq!(decide(&both, "/usr/bin/env"), "deny by test.rules:1");
    }

    #[test]
    fn starlark_may_compute_the_rules() {
        let rules = "def allow(words):\n    for word in words:\n        prefix_rule(pattern = [\"env\", word])\nallow([\"a\", \"b\"])\n";
        assert_eq!(
            decide("", rules, "/usr/bin/env", &["b"]),
            "escalate by test.rules:3"
        );
    }

    #[test]
    fn examples_are_checked_and_errors_have_a_place() {
        let good = "prefix_rule(pattern = [\"git\", [\"push\", \"fetch\"]], match = [\"git push 'a b'\", [\"git\", \"fetch\"]], \
            not_match = [\"git\", \"git status\"])";
        assert_eq!(parse("test.rules", good).unwrap().len(), 1);
        let files = [
            "\n  prefix_rule(pattern = [\"git\"])",
            "prefix_rule(pattern = [\"git\"]",
            "prefix_rule()",
            "\n\nprefix_rule(pattern = [])",
            "prefix_rule(pattern = \"git\")",
            "prefix_rule(pattern = [1])",
            "prefix_rule(pattern = [\"git\", []])",
            "prefix_rule(pattern = [\"./git\"])",
            "prefix_rule(pattern = [\"git\"], decision = \"run\")",
            "prefix_rule(pattern = [\"git\"], reason = \"x\")",
            "x = 1; prefix_rule(pattern = [\"git\", \"push\"], match = [\"git status\"])",
            "prefix_rule(pattern = [\"git\"], not_match = [[\"git\", \"push\"]])",
            "prefix_rule(pattern = [\"git\"], match = [\"git 'push\"])",
            "host_executable(name = \"/usr/bin/git\", paths = [])",
            "host_executable(name = \"git\", paths = [\"bin/git\"])",
            "unknown()",
        ];
        let complaints: Vec<String> = files
            .iter()
            .map(|file| format!("{file:?}\n  → {}\n", complain(file)))
            .collect();
        insta::assert_snapshot!(complaints.concat());
    }
}
