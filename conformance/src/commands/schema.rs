//! `conformance schema NAME`: the JSON Schema of the report, the baseline or the harness protocol.

use std::io::Write;

use crate::command_line::{SchemaArguments, status};
use crate::schema;

/// Prints a schema.
///
/// # Errors
/// An unknown name, or standard output that cannot be written.
pub fn schema(arguments: &SchemaArguments) -> anyhow::Result<i32> {
    let name = &arguments.name;
    let schema = schema::named(name)
        .ok_or_else(|| anyhow::anyhow!("no schema '{name}'; there are {}", schema::NAMES.join(", ")))?;
    writeln!(
        std::io::stdout().lock(),
        "{}",
        serde_json::to_string_pretty(&schema)?
    )?;
    Ok(status::EXPECTED)
}
