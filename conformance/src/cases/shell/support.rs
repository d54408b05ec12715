//! What several files of this area need: commands for scripts, and the table's entries.

use crate::context::Context;
use crate::outcome::{CaseError, Verdict};
use crate::peer::program::Program;
use crate::probe::plan::Act;
use crate::requirements::{Level, Role};
use crate::suite::Case;

/// An entry of a table of this area.
pub const fn case(id: &'static str, level: Level, run: fn(&mut Context) -> Verdict) -> Case {
    Case::new(id, Role::Shell, level, run)
}

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
