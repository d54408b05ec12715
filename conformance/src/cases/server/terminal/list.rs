//! The list of terminals.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.list/those-that-are-there", those_that_are_there),
]);

/// Terminals appear with their opening, stay when they have ended, and go with their closing.
fn those_that_are_there(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    host.expect_listed(&[])?;
    let (living, _probe) = host.open_probe(On::Pipes)?;
    host.expect_listed(std::slice::from_ref(&living))?;
    let ended = host.open_direct(On::Tty, &["/bin/sh", "-c", "exit 0"])?;
    host.expect_listed(&[living.clone(), ended.clone()])?;
    host.read_to_end(&ended)?;
    host.expect_listed(&[living.clone(), ended.clone()])?;
    host.shim.close_terminal(&living)?;
    host.expect_listed(std::slice::from_ref(&ended))?;
    host.shim.close_terminal(&ended)?;
    host.expect_listed(&[])?;
    host.finish()
}
