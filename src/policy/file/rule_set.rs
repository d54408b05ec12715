//! The rules of a file in their order, found by the names of programs: a question about one costs the same among ten rules as
//! among ten thousand.

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
    by_path: HashMap<PathBuf, Vec<usize>>,
    by_name: HashMap<OsString, Vec<usize>>,
    path_globs: Globs,
    name_globs: Globs,
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
        let mut by_path: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        let mut by_name: HashMap<OsString, Vec<usize>> = HashMap::new();
        let (mut path_globs, mut name_globs) = (Vec::new(), Vec::new());
        for (position, rule) in in_order.iter().enumerate() {
            match &rule.program {
                ProgramPattern::Path(path) => by_path.entry(path.clone()).or_default().push(position),
                ProgramPattern::Name(name) => by_name.entry(name.clone()).or_default().push(position),
                ProgramPattern::PathGlob(glob) => path_globs.push((position, glob.glob().clone())),
                ProgramPattern::NameAt(name, _) => by_name.entry(name.clone()).or_default().push(position),
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

    /// The positions of the rules whose pattern names the program by one of its paths.
    fn naming(&self, request: &PolicyRequest) -> BTreeSet<usize> {
        let mut positions = BTreeSet::new();
        for path in [Some(&request.program), request.canonical.as_ref()]
            .into_iter()
            .flatten()
        {
            let name = path.file_name().unwrap_or(OsStr::new(""));
            positions.extend(self.by_path.get(path).into_iter().flatten());
            positions.extend(self.by_name.get(name).into_iter().flatten());
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
    use super::*;

    /// What the rule is without an index.
    fn plainly<'a>(rules: &'a RuleSet, request: &PolicyRequest) -> Option<&'a Rule> {
        let matches = |rule: &&Rule| rule.matches(request, Wait::Allowed).unwrap();
        let denies = |rule: &&Rule| matches!(rule.action, RuleAction::Deny { .. });
        let all = rules.in_order().iter();
        let denied = all.clone().filter(denies).find(matches);
        denied.or_else(|| all.clone().find(matches))
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_look_at_every_rule_finds(
            rules in proptest::collection::vec((
                prop::sample::select(vec![
                    "/bin/cat", "/usr/bin/cat", "cat", "c*", "/usr/*/cat", "/usr/**", "**/bin/cat", "[c]at", "env", "?", "/bin/*",
                    "/nowhere/tool", "tool", "*",
                ]),
                prop::sample::select(vec!["run", "deny", "escalate"]),
                prop::sample::select(vec!["", "argv = [\"a\"]\n"]),
            ), 0..8),
            program in prop::sample::select(vec!["/bin/cat", "/usr/bin/cat", "/usr/bin/env", "/nowhere/tool", "/", "/usr"]),
            argument in prop::sample::select(vec!["a", "b"]),
        ) {
            let mut text = "default = \"run\"\n".to_owned();
            for (program, action, argv) in rules {
                text.push_str(&format!("[[rule]]\nprogram = \"{program}\"\naction = \"{action}\"\n{argv}"));
            }
            let rules = parse(&text).unwrap().rules;
            let mut request = PolicyRequest::new(program);
            request.argv.push(argument.into());
            let found = rules.rule_for(&request, Wait::Allowed).unwrap();
            prop_assert_eq!(found.map(|rule| rule.line), plainly(&rules, &request).map(|rule| rule.line));
        }
    }
}
