//! `conformance list`: the cases, for people, as JSON, or with what proves them.

use clap::Args;
use std::io::Write;

use serde_json::{Value, json};

use crate::exit;
use crate::report::human::counted;
use crate::spec::requirements::Role;
use crate::spec::{faults, requirements};
use crate::suite;

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Print requirements, cases and faults as JSON
    #[arg(long)]
    pub json: bool,
    /// Print a Markdown table: each requirement, its cases, and the broken implementations that prove them
    #[arg(long, conflicts_with = "json")]
    pub coverage: bool,
}

/// Lists the cases.
///
/// # Errors
/// Where standard output cannot be written.
pub fn list(arguments: &ListArguments) -> anyhow::Result<i32> {
    let mut output = std::io::stdout().lock();
    let cases = suite::all();
    if arguments.json {
        writeln!(output, "{}", serde_json::to_string_pretty(&data())?)?;
        return Ok(exit::EXPECTED);
    }
    if arguments.coverage {
        output.write_all(coverage().as_bytes())?;
        return Ok(exit::EXPECTED);
    }
    for case in &cases {
        writeln!(
            output,
            "{:<8} {:<9} {}",
            case.role.to_string(),
            case.level.to_string(),
            case.id
        )?;
    }
    writeln!(
        output,
        "{} cases of {} requirements",
        cases.len(),
        crate::spec::requirements::all().len()
    )?;
    Ok(exit::EXPECTED)
}

/// Requirements, cases and faults as data, for programs.
pub fn data() -> Value {
    let cases: Vec<_> = suite::all()
        .iter()
        .map(|case| {
            json!({
                "id": case.id,
                "requirement": case.requirement_id(),
                "role": case.role,
                "level": case.level,
                "capabilities": case.needed().collect::<Vec<_>>(),
                "since": case.since,
            })
        })
        .collect();
    json!({
        "requirements": requirements::all(),
        "cases": cases,
        "faults": faults::all(),
    })
}

/// The table of `evidence/COVERAGE.md`, which a test keeps current.
pub fn coverage() -> String {
    let mut text = String::from(
        "# Coverage: requirements, cases, faults\n\n\
         Made by `make coverage`, kept current by a test. A fault is a way in which an implementation of the suite's own\n\
         is broken; a test demands that a case of the requirement catches it (`conformance explain ID` says what each is).\n",
    );
    let (mut all_cases, mut all_faults) = (0, 0);
    for role in Role::ALL {
        text += &format!("\n## {role}\n\n| requirement | level | cases | faults |\n|---|---|---|---|\n");
        for requirement in requirements::all()
            .iter()
            .filter(|requirement| requirement.roles.contains(&role))
        {
            let cases: Vec<_> = suite::all()
                .into_iter()
                .filter(|case| case.role == role && case.requirement_id() == requirement.id)
                .filter_map(|case| case.id.split_once('/').map(|(_, variation)| variation))
                .collect();
            let proofs: Vec<_> = faults::proving(&requirement.id)
                .filter(|fault| fault.role == role || role == Role::E2e)
                .map(|fault| fault.name.as_str())
                .collect();
            all_cases += cases.len();
            all_faults += proofs.len();
            let named = |names: &[&str], thing: &str| match names {
                [] => "**none**".to_owned(),
                names => format!(
                    "<details><summary>{}</summary>{}</details>",
                    counted(names.len(), thing),
                    names.join(", ")
                ),
            };
            text += &format!(
                "| `{}` | {} | {} | {} |\n",
                requirement.id,
                requirement.level,
                named(&cases, "case"),
                named(&proofs, "fault"),
            );
        }
    }
    text + &format!("\n{all_cases} cases, proved {all_faults} times.\n")
}
