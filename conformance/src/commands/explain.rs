//! `conformance explain ID`: what a requirement or a case is about, and what proves it.

use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;

use super::unknown_id;
use crate::case::Case;
use crate::exit;
use crate::spec::requirements::Requirement;
use crate::spec::requirements::Role;
use crate::spec::{faults, requirements};
use crate::suite;

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Id of a requirement or a case
    pub id: String,
}

/// Explains an id.
///
/// # Errors
/// An unknown id, or standard output that cannot be written.
pub fn explain(arguments: &ExplainArguments) -> anyhow::Result<i32> {
    let text = if let Some(requirement) = requirements::find(&arguments.id) {
        requirement_text(requirement)
    } else if let Some(case) = suite::find(&arguments.id) {
        case_text(&case)
    } else {
        return Err(unknown_id(&arguments.id));
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(exit::EXPECTED)
}

fn requirement_text(requirement: &Requirement) -> String {
    let mut text = String::new();
    let roles: Vec<String> = requirement.roles.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        text,
        "{} ({}; {})",
        requirement.id,
        requirement.level,
        roles.join(", ")
    );
    let _ = writeln!(text, "\n  {}\n", requirement.sentence);
    let _ = writeln!(text, "cases:");
    let cases: Vec<Case> = suite::all()
        .into_iter()
        .filter(|case| case.requirement_id() == requirement.id)
        .collect();
    for case in &cases {
        let _ = writeln!(text, "  {} ({}, {})", case.id, case.role, case.level);
    }
    if cases.is_empty() {
        let _ = writeln!(text, "  none yet");
    }
    proofs(&mut text, &requirement.id);
    text
}

fn case_text(case: &Case) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} ({}, {})", case.id, case.role, case.level);
    for capability in case.needed() {
        let _ = if case.role == Role::Wrapper {
            writeln!(text, "applies to wrappers that have the extension '{capability}'")
        } else {
            writeln!(text, "applies to shims that name the capability '{capability}'")
        };
    }
    let requirement = case.requirement();
    let _ = writeln!(text, "\nrequirement {} ({}):", requirement.id, requirement.level);
    let _ = writeln!(text, "  {}", requirement.sentence);
    proofs(&mut text, &requirement.id);
    text
}

fn proofs(text: &mut String, requirement: &str) {
    let _ = writeln!(text, "\nbroken implementations that its cases catch:");
    let mut none = true;
    for fault in faults::proving(requirement) {
        none = false;
        let _ = writeln!(text, "  {} {}: {}", fault.role, fault.name, fault.sentence);
    }
    if none {
        let _ = writeln!(text, "  none yet");
    }
}
