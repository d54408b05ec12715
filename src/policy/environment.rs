//! Variables that make a program load code of the sandboxed side's choice, so that escalating any program would amount to
//! escalating every program.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Which variables an escalated child may have although they load code.
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

/// What the dynamic loader and the C library read, then what shells read when they start. Interpreters have such variables too
/// (PYTHONPATH, NODE_OPTIONS, GIT_SSH_COMMAND); they are left to the policy, which knows the program and sees the environment.
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

/// Prefixes of such names.
const PREFIXES: &[&str] = &["LD_", "BASH_FUNC_"];

/// Whether a variable of this name makes programs load code (`server.env.loader`).
#[must_use]
pub fn loads_code(name: &OsStr) -> bool {
    NAMES.iter().any(|known| name == *known)
        || PREFIXES
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}
