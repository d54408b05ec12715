//! e2e.inherited: limits, niceness and ignored signals of the shell are its commands'.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::spec::requirements::Role;
use crate::stage::e2e::{commands, same_under_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.inherited/limits", limits),
    case("e2e.inherited/niceness", niceness),
    case("e2e.inherited/ignored-signals", ignored_signals),
]).needs("inherited");

fn compared(context: &Context, script: &str) -> Verdict {
    commands(context, ["it"])?;
    same_under_both(context, script, &["it"])
}

/// Soft and hard ones, in the shell and in a subshell; and the limit of processor time ends an endless command.
fn limits(context: &mut Context) -> Verdict {
    commands(context, ["it"])?;
    let script = "it inherited; ulimit -S -n 60; it inherited; ulimit -c 0; it inherited | cat; \
         (ulimit -t 100; ulimit -f 4000; it inherited); it inherited; \
         (ulimit -t 1; sh -c 'while :; do :; done'; echo $?)";
    same_under_both(context, script, &["it", "sh"])
}

/// What `renice` has set.
fn niceness(context: &mut Context) -> Verdict {
    compared(context, "it inherited; renice -n 5 $$ >/dev/null; it inherited")
}

/// What `trap ''` ignores, and what the shell ignores for its background commands.
fn ignored_signals(context: &mut Context) -> Verdict {
    compared(
        context,
        "it inherited; trap '' HUP USR1 PIPE; it inherited; trap : TERM; it inherited; it inherited & wait; \
         trap - HUP; it inherited",
    )
}
