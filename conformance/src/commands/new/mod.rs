//! `conformance new ID`: the skeleton of a requirement, its first case and the fault that proves it, in the source tree
//! of the current folder.

mod skeleton;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use clap::Args;

use crate::exit;
use crate::spec::requirements::{Level, Role};
use skeleton::{Names, Tree};

/// Options of `new`.
#[derive(Debug, Args)]
pub struct NewArguments {
    /// Id of the first case of a new requirement, such as wrapper.deny.prompt/stream-stays-open
    pub id: String,
    /// Level of the requirement: core, faithful or hardened
    #[arg(long)]
    pub level: Level,
    /// The role that is held to it: wrapper, server, shell or e2e
    #[arg(long)]
    pub role: Role,
    /// Name of the fault that proves it [default: made of the id]
    #[arg(long, value_name = "NAME")]
    pub fault: Option<String>,
}

/// Writes the skeleton and says what is left to be edited.
///
/// # Errors
/// An id that is not valid or exists already, or a folder that is not the source tree. Nothing is written then.
pub fn new(arguments: &NewArguments) -> anyhow::Result<i32> {
    let names = Names::of(
        &arguments.id,
        arguments.level,
        arguments.role,
        arguments.fault.as_deref(),
    )?;
    let mut tree = Tree::at(Path::new("."));
    tree.add_requirement(&names)?;
    let case = tree.add_case(&names)?;
    let fault = tree.add_fault(&names)?;
    tree.write()?;
    let mut text = format!("{} is there. Four edits are left:\n\n", names.requirement);
    let edits = [
        (
            skeleton::SPECIFICATION.to_owned(),
            format!("the sentence of {}, with its MUST", names.requirement),
        ),
        (case.clone(), format!("the body of {}", names.function)),
        (
            fault.table.clone(),
            format!("the sentence of the fault {}", names.fault),
        ),
        (fault.code.clone(), fault.what.clone()),
    ];
    for (number, (file, what)) in edits.iter().enumerate() {
        let _ = writeln!(text, "  {}. {file}: {what}", number + 1);
    }
    let _ = writeln!(
        text,
        "\nThen: cargo test --package shell-escalation-conformance --test specification, and make coverage."
    );
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(exit::EXPECTED)
}
