//! The requirements as data, read from the headings of SPEC.md, which are the only list of them.
//!
//! ``#### `ID` (LEVEL; ROLE, ROLE; extension NAME; since VERSION)``, of which the last two may be missing, and then the
//! normative sentence as a paragraph.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version in which everything was new. Until it is released, whatever is added belongs to it.
pub const FIRST_VERSION: &str = "0.1.0";

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
            .ok_or_else(|| format!("'{text}' is not a valid level; expected core, faithful or hardened"))
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
            .ok_or_else(|| format!("'{text}' is not a valid role; expected wrapper, server, shell or e2e"))
    }
}

/// One requirement of SPEC.md.
#[derive(Clone, Debug, Serialize)]
pub struct Requirement {
    /// Dotted, stable, never reused.
    pub id: String,
    /// The level at which it is demanded.
    pub level: Level,
    /// The roles that are held to it.
    pub roles: Vec<Role>,
    /// The normative sentence.
    pub sentence: String,
    /// The extension that it is part of: an implementation without it owes nothing.
    pub extension: Option<String>,
    /// The first version of the suite that had it.
    pub since: String,
}

impl Requirement {
    /// The requirement of a section that begins behind "#### `": id, heading, sentence, explanation.
    ///
    /// # Errors
    /// Says what of the heading cannot be read.
    fn parse(section: &str) -> Result<Requirement, String> {
        let (id, rest) = section.split_once('`').ok_or("a backquote stays open")?;
        let explained = |what: &str| format!("{id}: {what}");
        let (heading, body) = rest.split_once('\n').ok_or(explained("no text"))?;
        let facts = heading
            .trim()
            .strip_prefix('(')
            .and_then(|facts| facts.strip_suffix(')'));
        let mut facts = facts.ok_or(explained("no facts in parentheses"))?.split("; ");
        let level = facts.next().ok_or(explained("no level"))?.parse()?;
        let roles = facts.next().ok_or(explained("no roles"))?;
        let roles = roles
            .split(", ")
            .map(str::parse)
            .collect::<Result<Vec<Role>, String>>()?;
        let mut requirement = Requirement {
            id: id.to_owned(),
            level,
            roles,
            sentence: first_paragraph(body),
            extension: None,
            since: FIRST_VERSION.to_owned(),
        };
        for fact in facts {
            match fact.split_once(' ') {
                Some(("extension", name)) => requirement.extension = Some(name.to_owned()),
                Some(("since", version)) => version.clone_into(&mut requirement.since),
                _ => return Err(explained(&format!("unknown fact '{fact}'"))),
            }
        }
        if requirement.sentence.is_empty() {
            return Err(explained("no sentence below the heading"));
        }
        Ok(requirement)
    }
}

fn first_paragraph(text: &str) -> String {
    let paragraph = text.trim_start().split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads the requirements out of a specification: its headings of the fourth order that begin with an id.
///
/// # Errors
/// The first heading that cannot be read, and why.
pub fn parse(specification: &str) -> Result<Vec<Requirement>, String> {
    let sections = specification.split("\n#### `").skip(1);
    sections.map(Requirement::parse).collect()
}

static REQUIREMENTS: LazyLock<Vec<Requirement>> = LazyLock::new(|| {
    parse(include_str!("../../SPEC.md")).unwrap_or_else(|error| panic!("SPEC.md, heading of {error}"))
});

/// All requirements, in the order of SPEC.md.
pub fn all() -> &'static [Requirement] {
    &REQUIREMENTS
}

/// The requirement of that id.
pub fn find(id: &str) -> Option<&'static Requirement> {
    all().iter().find(|requirement| requirement.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &str = "\n#### `a.b` (faithful; wrapper, server; extension signals; since 0.2.0)\n\nIt MUST\nwork.\n\nMore.\n";

    #[test]
    fn a_heading_carries_id_level_roles_extension_and_version() {
        let parsed = parse(SECTION).expect("a requirement");
        let [requirement] = parsed.as_slice() else {
            panic!("{parsed:?}")
        };
        assert_eq!(requirement.id, "a.b");
        assert_eq!(requirement.level, Level::Faithful);
        assert_eq!(requirement.roles, [Role::Wrapper, Role::Server]);
        assert_eq!(requirement.sentence, "It MUST work.");
        assert_eq!(requirement.extension.as_deref(), Some("signals"));
        assert_eq!(requirement.since, "0.2.0");
    }

    #[test]
    fn a_heading_that_cannot_be_read_is_named() {
        for (wrong, complaint) in [
            (
                "\n#### `a.b` (great; wrapper)\n\nIt MUST.\n",
                "'great' is not a valid level",
            ),
            (
                "\n#### `a.b` (core; wrapper; often)\n\nIt MUST.\n",
                "a.b: unknown fact 'often'",
            ),
            ("\n#### `a.b` (core)\n\nIt MUST.\n", "a.b: no roles"),
            ("\n#### `a.b`\n\nIt MUST.\n", "a.b: no facts"),
            ("\n#### `a.b` (core; shell)\n\n", "a.b: no sentence"),
        ] {
            let refused = parse(wrong).expect_err(wrong);
            assert!(refused.contains(complaint), "{refused}");
        }
    }
}
