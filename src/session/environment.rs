//! The environment of an escalated child.

use std::ffi::{OsStr, OsString};

use super::socket::{EXEC_WRAPPER, SOCKET_VARIABLE};
use crate::policy::{KeepEnv, loads_code};

/// The protocol's own variables: a patched shell would execute what EXEC_WRAPPER names. No decision keeps them.
const PROTOCOL_VARIABLES: &[&str] = &[EXEC_WRAPPER, "BASH_EXEC_WRAPPER", SOCKET_VARIABLE];

/// The part of its request's environment that an escalated child gets.
pub(super) fn child_environment(env: Vec<(OsString, OsString)>, keep: &KeepEnv) -> Vec<(OsString, OsString)> {
    let kept = |name: &OsStr| match keep {
        KeepEnv::Nothing => false,
        KeepEnv::Names(names) => names.contains(name),
        KeepEnv::Everything => true,
    };
    env.into_iter()
        .filter(|(name, _)| {
            !PROTOCOL_VARIABLES.iter().any(|own| name == *own) && (!loads_code(name) || kept(name))
        })
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
