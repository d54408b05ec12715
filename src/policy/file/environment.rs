//! The environment that a rule gives to what it escalates.

use std::ffi::{OsStr, OsString};

use globset::{GlobBuilder, GlobMatcher};

use crate::policy::{KeepEnv, loads_code};

/// Where the variables of an escalated command come from.
#[derive(Clone, Debug)]
pub(super) enum ChildEnv {
    /// These from the request, and the basic ones that are not among them from the server.
    Listed(Vec<NamePattern>),
    /// All of the request's, without those that load code.
    Request,
    /// All of the request's.
    Everything,
}

/// One entry of a list of variables.
#[derive(Clone, Debug)]
pub(super) enum NamePattern {
    Name(OsString),
    Glob(GlobMatcher),
}

/// What comes from the server's own environment, beside the locale's `LC_*`.
const BASIC: &[&str] = &["PATH", "HOME", "TERM", "LANG"];

impl NamePattern {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err(format!("`{text}` cannot be a variable's name"));
        }
        if !text.contains(['*', '?', '[', '{']) {
            return Ok(Self::Name(text.into()));
        }
        match GlobBuilder::new(text).build() {
            Ok(glob) => Ok(Self::Glob(glob.compile_matcher())),
            Err(error) => Err(format!("`{text}`: {}", error.kind())),
        }
    }

    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Name(own) => own == name,
            // What loads code must be listed by its whole name.
            Self::Glob(glob) => !loads_code(name) && glob.is_match(name),
        }
    }
}

impl ChildEnv {
    /// The child's environment, from the request's and the server's.
    pub(super) fn of(
        &self,
        request: &[(OsString, OsString)],
        server: &[(OsString, OsString)],
    ) -> Vec<(OsString, OsString)> {
        let passes = |name: &OsStr| match self {
            Self::Listed(listed) => listed.iter().any(|pattern| pattern.matches(name)),
            Self::Request => !loads_code(name),
            Self::Everything => true,
        };
        let mut env: Vec<_> = request.iter().filter(|(name, _)| passes(name)).cloned().collect();
        if matches!(self, Self::Listed(_)) {
            let own = server.iter().filter(|(name, _)| is_basic(name) && !passes(name));
            env.extend(own.cloned());
        }
        env
    }

    /// What of it may pass although it loads code.
    pub(super) fn kept(&self) -> KeepEnv {
        match self {
            Self::Listed(listed) => {
                let names = listed.iter().filter_map(|pattern| match pattern {
                    NamePattern::Name(name) => Some(name.clone()),
                    NamePattern::Glob(_) => None,
                });
                KeepEnv::Names(names.collect())
            }
            Self::Request => KeepEnv::Nothing,
            Self::Everything => KeepEnv::Everything,
        }
    }
}

/// Whether the server gives its own variable of this name to what it executes.
pub(super) fn is_basic(name: &OsStr) -> bool {
    BASIC.iter().any(|basic| name == *basic) || name.as_encoded_bytes().starts_with(b"LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn given(env: &ChildEnv) -> Vec<String> {
        let request = variables(&[
            ("PATH", "/evil"),
            ("GIT_SSH_COMMAND", "evil"),
            ("GIT_DIR", "x"),
            ("LD_PRELOAD", "evil.so"),
            ("LC_ALL", "evil"),
            ("LANG", "de"),
        ]);
        let server = variables(&[("PATH", "/bin"), ("HOME", "/h"), ("SECRET", "s"), ("LC_ALL", "C")]);
        env.of(&request, &server)
            .into_iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect()
    }

    fn listed(names: &[&str]) -> ChildEnv {
        ChildEnv::Listed(
            names
                .iter()
                .map(|name| NamePattern::parse(name).unwrap())
                .collect(),
        )
    }

    #[test]
    fn without_a_list_only_the_servers_basics_are_given() {
        assert_eq!(given(&listed(&[])), ["PATH=/bin", "HOME=/h", "LC_ALL=C"]);
    }

    #[test]
    fn what_is_listed_comes_from_the_request() {
        assert_eq!(
            given(&listed(&["PATH", "GIT_D*", "HOME"])),
            ["PATH=/evil", "GIT_DIR=x", "LC_ALL=C"]
        );
    }

    #[test]
    fn what_loads_code_must_be_listed_by_its_whole_name() {
        let wild = given(&listed(&["*"]));
        assert!(!wild.iter().any(|text| text.starts_with("LD_")), "{wild:?}");
        let by_name = listed(&["LD_PRELOAD"]);
        assert_eq!(given(&by_name)[0], "LD_PRELOAD=evil.so");
        assert_eq!(by_name.kept(), KeepEnv::Names(["LD_PRELOAD".into()].into()));
    }

    #[test]
    fn the_whole_request_is_given_to_a_rule_that_asks_for_it() {
        assert_eq!(given(&ChildEnv::Request).len(), 5);
        assert_eq!(given(&ChildEnv::Everything).len(), 6);
        assert_eq!(ChildEnv::Request.kept(), KeepEnv::Nothing);
        assert_eq!(ChildEnv::Everything.kept(), KeepEnv::Everything);
    }
}
