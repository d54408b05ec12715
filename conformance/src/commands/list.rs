//! `conformance list`: the cases, for people or as JSON.

use std::io::Write;

use serde_json::json;

use crate::command_line::{ListArguments, status};
use crate::suite;

/// Lists the cases.
///
/// # Errors
/// Where standard output cannot be written.
pub fn list(arguments: &ListArguments) -> anyhow::Result<i32> {
    let mut output = std::io::stdout().lock();
    let cases = suite::all();
    if arguments.json {
        let list: Vec<_> = cases
            .iter()
            .map(|case| {
                json!({
                    "id": case.id,
                    "requirement": case.requirement_id(),
                    "role": case.role,
                    "level": case.level,
                    "capability": case.capability,
                })
            })
            .collect();
        writeln!(output, "{}", serde_json::to_string_pretty(&list)?)?;
        return Ok(status::EXPECTED);
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
        crate::requirements::all().len()
    )?;
    Ok(status::EXPECTED)
}
