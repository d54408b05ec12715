//! Variables that make a program load code of somebody else's choice, and so would turn any escalation into every
//! escalation.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Which variables that load code an escalated child may have nevertheless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeepEnv {
    /// None of them.
    #[default]
    Nothing,
    /// Those with these names.
    Names(BTreeSet<OsString>),
    /// All of them.
    Everything,
}

/// What the dynamic loader and the C library read, then what shells read at their start. Interpreters have variables of this
/// kind, too (PYTHONPATH, NODE_OPTIONS, GIT_SSH_COMMAND): those are for the policy to judge, which knows the program and sees
/// the environment.
const NAMES: &[&str] = &[
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "ZDOTDIR",
];

/// Families of names.
const PREFIXES: &[&str] = &["LD_", "BASH_FUNC_"];

/// The protocol's own variables: a patched shell would execute what EXEC_WRAPPER names. No decision keeps them.
const OWN: &[&str] = &["EXEC_WRAPPER", "BASH_EXEC_WRAPPER", "CODEX_ESCALATE_SOCKET"];

/// Whether a variable of this name makes programs load code (`server.env.loader`).
#[must_use]
pub fn loads_code(name: &OsStr) -> bool {
    NAMES.iter().any(|known| name == *known)
        || PREFIXES
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// The environment that an escalated child gets.
pub(crate) fn child_environment(env: Vec<(OsString, OsString)>, keep: &KeepEnv) -> Vec<(OsString, OsString)> {
    let kept = |name: &OsStr| match keep {
        KeepEnv::Nothing => false,
        KeepEnv::Names(names) => names.contains(name),
        KeepEnv::Everything => true,
    };
    env.into_iter()
        .filter(|(name, _)| !OWN.iter().any(|own| name == *own) && (!loads_code(name) || kept(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(env: &[&str], keep: &KeepEnv) -> Vec<String> {
        let env = env
            .iter()
            .map(|name| (OsString::from(name), OsString::new()))
            .collect();
        child_environment(env, keep)
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    const MIXED: &[&str] = &[
        "PATH",
        "LD_PRELOAD",
        "HOME",
        "BASH_FUNC_ls%%",
        "ENV",
        "ENVY",
        "EXEC_WRAPPER",
        "PYTHONPATH",
    ];

    #[test]
    fn variables_that_load_code_do_not_reach_the_child() {
        assert_eq!(
            names(MIXED, &KeepEnv::Nothing),
            ["PATH", "HOME", "ENVY", "PYTHONPATH"]
        );
    }

    #[test]
    fn a_decision_may_keep_some_or_all_of_them() {
        let some = KeepEnv::Names([OsString::from("LD_PRELOAD")].into());
        assert_eq!(
            names(MIXED, &some),
            ["PATH", "LD_PRELOAD", "HOME", "ENVY", "PYTHONPATH"]
        );
        let all = names(MIXED, &KeepEnv::Everything);
        assert_eq!(
            all,
            [
                "PATH",
                "LD_PRELOAD",
                "HOME",
                "BASH_FUNC_ls%%",
                "ENV",
                "ENVY",
                "PYTHONPATH"
            ]
        );
    }
}
