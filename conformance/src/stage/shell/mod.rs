//! What several files of this area need: commands for scripts, and the table's entries.

pub mod scripts;
pub mod terminal;

use crate::case::context::Context;
use crate::peer::program::Program;
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::plan::Act;
use crate::verdict::CaseError;

/// A command `bin/NAME` that ignores its arguments.
pub fn command(context: &Context, name: &str) -> Result<Program, CaseError> {
    Program::new(context, name, [])
}

/// Commands `bin/NAME` that ignore their arguments, for scripts that only matter by which they start.
pub fn commands(context: &Context, names: &[&str]) -> Result<Vec<Program>, CaseError> {
    names.iter().map(|name| command(context, name)).collect()
}

/// A command `bin/NAME` that does what its arguments say ([`crate::probe::instructions`]).
pub fn obedient(context: &Context, name: &str) -> Result<Program, CaseError> {
    Program::new(context, name, [Act::Arguments])
}

/// Runs a script in the stock shell and in the shell under test with the pass-through wrapper, and demands the
/// same output, standard error and end. At least one command must have gone to the wrapper.
pub fn as_stock<'a>(context: &'a Context, script: &str) -> Result<RecordedShell<'a>, CaseError> {
    let shell = as_stock_without_calls(context, script)?;
    shell.some_calls()?;
    Ok(shell)
}

/// The same for a script that need not start anything.
pub fn as_stock_without_calls<'a>(
    context: &'a Context,
    script: &str,
) -> Result<RecordedShell<'a>, CaseError> {
    let mut shell = RecordedShell::new(context)?;
    shell.be_patient(2);
    let stock = shell.run_stock(script)?;
    shell.run(script)?.expect_as_stock(script, &stock)?;
    Ok(shell)
}
