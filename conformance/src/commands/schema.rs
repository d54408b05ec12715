//! `conformance schema NAME`: the JSON Schema of the report, the baseline or the harness protocol.

use clap::Args;
use std::io::Write;

use schemars::{Schema, schema_for};

use crate::exit;
use crate::report::schema;
use crate::suite::baseline::Baseline;

/// The names of the schemas, each that of a file in `conformance/schemas/`.
pub const NAMES: [&str; 3] = ["report", "baseline", "harness"];

/// Options of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArguments {
    /// report, baseline or harness
    pub name: String,
}

/// Prints a schema.
///
/// # Errors
/// An unknown name, or standard output that cannot be written.
pub fn schema(arguments: &SchemaArguments) -> anyhow::Result<i32> {
    let name = &arguments.name;
    let schema =
        named(name).ok_or_else(|| anyhow::anyhow!("no schema '{name}'; there are {}", NAMES.join(", ")))?;
    writeln!(
        std::io::stdout().lock(),
        "{}",
        serde_json::to_string_pretty(&schema)?
    )?;
    Ok(exit::EXPECTED)
}

/// The schema of that name.
pub fn named(name: &str) -> Option<Schema> {
    match name {
        "report" => Some(schema::of_report()),
        "baseline" => Some(schema_for!(Baseline)),
        "harness" => Some(schema::of_harness()),
        _ => None,
    }
}
