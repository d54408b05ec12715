//! The rules of a file in their order, found by the name of the program and by its first argument: a question costs the same
//! among ten rules as among ten thousand.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::rule::{ProgramPattern, Rule, RuleAction, WouldWait};
use crate::files::Wait;
use crate::policy::PolicyRequest;

/// All rules of a file.
#[derive(Debug)]
pub(super) struct RuleSet {
    in_order: Vec<Rule>,
    by_path: HashMap<PathBuf, OfProgram>,
    by_name: HashMap<OsString, OfProgram>,
    path_globs: Globs,
    name_globs: Globs,
}

/// The rules for one program.
#[derive(Debug, Default)]
struct OfProgram {
    by_first_argument: HashMap<OsString, Vec<usize>>,
    /// Those that don't say what the first argument is.
    others: Vec<usize>,
}

impl OfProgram {
    fn add(&mut self, position: usize, rule: &Rule) {
        match rule.arguments.first() {
            Some(first) => {
                for argument in first {
                    let found = self.by_first_argument.entry(argument.clone());
                    found.or_default().push(position);
                }
            }
            None => self.others.push(position),
        }
    }

    fn naming(&self, request: &PolicyRequest) -> impl Iterator<Item = &usize> {
        let first = request.argv.get(1);
        let by_argument = first.and_then(|argument| self.by_first_argument.get(argument));
        self.others.iter().chain(by_argument.into_iter().flatten())
    }
}

/// Patterns that are compared all at once.
#[derive(Debug)]
struct Globs {
    patterns: GlobSet,
    /// The rule of each pattern.
    rules: Vec<usize>,
}

impl Globs {
    fn new(patterns: Vec<(usize, Glob)>) -> Result<Self, globset::Error> {
        let mut together = GlobSetBuilder::new();
        let mut rules = Vec::new();
        for (rule, pattern) in patterns {
            together.add(pattern);
            rules.push(rule);
        }
        Ok(Self {
            patterns: together.build()?,
            rules,
        })
    }

    fn matching(&self, text: &Path) -> impl Iterator<Item = usize> {
        let found = self.patterns.matches(text);
        found.into_iter().map(|pattern| self.rules[pattern])
    }
}

impl RuleSet {
    /// Puts rules in this order.
    ///
    /// # Errors
    /// When their patterns are too large to be compared at once.
    pub(super) fn new(in_order: Vec<Rule>) -> Result<Self, globset::Error> {
        let mut by_path: HashMap<PathBuf, OfProgram> = HashMap::new();
        let mut by_name: HashMap<OsString, OfProgram> = HashMap::new();
        let (mut path_globs, mut name_globs) = (Vec::new(), Vec::new());
        for (position, rule) in in_order.iter().enumerate() {
            match &rule.program {
                ProgramPattern::Path(path) => by_path.entry(path.clone()).or_default().add(position, rule),
                ProgramPattern::Name(name) | ProgramPattern::NameAt(name, _) => {
                    by_name.entry(name.clone()).or_default().add(position, rule);
                }
                ProgramPattern::PathGlob(glob) => path_globs.push((position, glob.glob().clone())),
                ProgramPattern::NameGlob(glob) => name_globs.push((position, glob.glob().clone())),
            }
        }
        Ok(Self {
            in_order,
            by_path,
            by_name,
            path_globs: Globs::new(path_globs)?,
            name_globs: Globs::new(name_globs)?,
        })
    }

    /// The rules in the order of the file.
    pub(super) fn in_order(&self) -> &[Rule] {
        &self.in_order
    }

    /// The same with more rules behind them.
    ///
    /// # Errors
    /// As for [`Self::new`].
    #[cfg(feature = "rules")]
    pub(super) fn with(mut self, more: Vec<Rule>) -> Result<Self, globset::Error> {
        self.in_order.extend(more);
        Self::new(self.in_order)
    }

    /// The rule for a request; `None` if none matches. A matching denial comes before all others. Otherwise the policy file's
    /// first match and the strictest of `.rules` files are compared, and the stricter one decides.
    ///
    /// # Errors
    /// When only waiting would tell.
    pub(super) fn rule_for(&self, request: &PolicyRequest, wait: Wait) -> Result<Option<&Rule>, WouldWait> {
        let (mut own, mut added): (Option<&Rule>, Option<&Rule>) = (None, None);
        for position in self.naming(request) {
            let rule = &self.in_order[position];
            let denies = matches!(rule.action, RuleAction::Deny { .. });
            let from_policy = rule.file.is_none();
            let counts = if from_policy {
                own.is_none()
            } else {
                added.is_none_or(|other| rule.action.strictness() > other.action.strictness())
            };
            if (denies || counts) && rule.matches(request, wait)? {
                match from_policy {
                    _ if denies => return Ok(Some(rule)),
                    true => own = Some(rule),
                    false => added = Some(rule),
                }
            }
        }
        let stricter =
            added.filter(|added| own.is_none_or(|own| added.action.strictness() > own.action.strictness()));
        Ok(stricter.or(own))
    }

    /// The positions of the rules whose pattern names the program by one of its paths, but for those that demand another first
    /// argument.
    fn naming(&self, request: &PolicyRequest) -> BTreeSet<usize> {
        let mut positions = BTreeSet::new();
        for path in [Some(&request.program), request.canonical.as_ref()]
            .into_iter()
            .flatten()
        {
            let name = path.file_name().unwrap_or(OsStr::new(""));
            let of_program = [self.by_path.get(path), self.by_name.get(name)];
            for rules in of_program.into_iter().flatten() {
                positions.extend(rules.naming(request));
            }
            positions.extend(self.path_globs.matching(path));
            positions.extend(self.name_globs.matching(Path::new(name)));
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse::parse;
    use super::super::rule::Arguments;
    use super::*;

    /// What the rule is without an index.
    fn plainly<'a>(rules: &'a [Rule], request: &PolicyRequest) -> Option<&'a Rule> {
        let mut matching = rules
            .iter()
            .filter(|rule| rule.matches(request, Wait::Allowed).unwrap());
        let denies = |rule: &&Rule| matches!(rule.action, RuleAction::Deny { .. });
        if let Some(denial) = matching.clone().find(denies) {
            return Some(denial);
        }
        let own = matching.clone().find(|rule| rule.file.is_none());
        let strictness = |rule: Option<&Rule>| rule.map(|rule| rule.action.strictness());
        // The first of the strictest.
        let of_files = matching.clone().filter(|rule| rule.file.is_some());
        let strictest = of_files.map(|rule| rule.action.strictness()).max();
        let added = matching.find(|rule| rule.file.is_some() && Some(rule.action.strictness()) == strictest);
        if strictness(added) > strictness(own) {
            added
        } else {
            own
        }
    }

    const PROGRAMS: &[&str] = &[
        "/bin/cat",
        "/usr/bin/cat",
        "cat",
        "c*",
        "/usr/*/cat",
        "/usr/**",
        "**/bin/cat",
        "[c]at",
        "env",
        "?",
        "/bin/*",
        "/nowhere/tool",
        "tool",
        "*",
    ];

    const ARGUMENTS: &[&str] = &[
        "",
        "argv = []",
        "argv = [\"a\"]",
        "argv = [\"a\", \"b\"]",
        "argv = [\"b\"]",
        "argv_exact = []",
        "argv_exact = [\"a\"]",
        "argv_exact = [\"b\", \"a\"]",
    ];

    proptest! {
        #[test]
        fn the_index_finds_what_a_look_at_every_rule_finds(
            rules in proptest::collection::vec((
                prop::sample::select(PROGRAMS),
                prop::sample::select(&["run", "run", "escalate", "deny"][..]),
                prop::sample::select(ARGUMENTS),
                // As of a `.rules` file: any of these, one after the other.
                prop::option::of(proptest::collection::vec(prop::sample::subsequence(vec!["a", "b", "c"], 0..3), 0..3)),
            ), 0..12),
            program in prop::sample::select(&["/bin/cat", "/usr/bin/cat", "/usr/bin/env", "/nowhere/tool", "/", "/usr"][..]),
            arguments in proptest::collection::vec(prop::sample::select(&["a", "b", "c", "d"][..]), 0..3),
        ) {
            let mut text = "default = \"run\"\n".to_owned();
            for (program, action, arguments, _) in &rules {
                text.push_str(&format!("[[rule]]\nprogram = \"{program}\"\naction = \"{action}\"\n{arguments}\n"));
            }
            let mut in_order = parse(&text).unwrap().rules.in_order;
            for (rule, (.., alternatives)) in in_order.iter_mut().zip(rules) {
                if let Some(alternatives) = alternatives {
                    let words = |words: Vec<&str>| words.into_iter().map(OsString::from).collect();
                    rule.arguments = Arguments::Alternatives(alternatives.into_iter().map(words).collect());
                    rule.file = Some("some.rules".into());
                }
            }
            let rules = RuleSet::new(in_order.clone()).unwrap();
            let mut request = PolicyRequest::new(program);
            request.argv.extend(arguments.into_iter().map(OsString::from));
            let found = rules.rule_for(&request, Wait::Allowed).unwrap();
            prop_assert_eq!(found.map(|rule| rule.line), plainly(&in_order, &request).map(|rule| rule.line));
        }
    }
}
