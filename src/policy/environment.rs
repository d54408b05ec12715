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

/// Whether a variable of this name makes programs load code (`server.env.loader`).
#[must_use]
pub fn loads_code(name: &OsStr) -> bool {
    NAMES.iter().any(|known| name == *known)
        || PREFIXES
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}
