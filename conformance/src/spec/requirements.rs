//! The requirements as data: `requirements.toml`, from which `list` and `explain` speak.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Conformance level; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What the published protocol and its description promise.
    Core,
    /// A command behaves as if the shell had executed it directly.
    Faithful,
    /// Hostile input, leaks, races, process trees; everything fails closed.
    Hardened,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 3] = [Level::Core, Level::Faithful, Level::Hardened];
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Level::Core => "core",
            Level::Faithful => "faithful",
            Level::Hardened => "hardened",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Level::ALL
            .into_iter()
            .find(|level| level.to_string() == text)
            .ok_or_else(|| format!("'{text}' is no level; expected core, faithful or hardened"))
    }
}

/// What a case judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The program that the shell runs in place of a command.
    Wrapper,
    /// The program that decides and that starts escalated children.
    Server,
    /// The patched shell.
    Shell,
    /// Shell, wrapper and server together.
    E2e,
}

impl Role {
    /// All roles, in the order of reports.
    pub const ALL: [Role; 4] = [Role::Wrapper, Role::Server, Role::Shell, Role::E2e];
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Wrapper => "wrapper",
            Role::Server => "server",
            Role::Shell => "shell",
            Role::E2e => "e2e",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| format!("'{text}' is no role; expected wrapper, server, shell or e2e"))
    }
}

/// One requirement of SPEC.md.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Dotted, stable, never reused.
    pub id: String,
    /// The level at which it is demanded.
    pub level: Level,
    /// The roles that are held to it.
    pub roles: Vec<Role>,
    /// The normative sentence, word for word as in SPEC.md.
    pub sentence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementFile {
    requirement: Vec<Requirement>,
}

static REQUIREMENTS: LazyLock<Vec<Requirement>> = LazyLock::new(|| {
    let file: RequirementFile = toml::from_str(include_str!("../../requirements.toml"))
        .expect("requirements.toml is part of this executable and is checked by a test");
    file.requirement
});

/// All requirements, in the order of SPEC.md.
pub fn all() -> &'static [Requirement] {
    &REQUIREMENTS
}

/// The requirement of that id.
pub fn find(id: &str) -> Option<&'static Requirement> {
    all().iter().find(|requirement| requirement.id == id)
}
