//! However a terminal goes, nothing is left of it.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::spec::requirements::Role;
use crate::stage::terminal::Way;
use crate::stage::terminal::scene::{
    Preparation, expect_end_of, fleeing, fleeing_in_new_sessions, full_output_and_input,
    with_a_decision_pending,
};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.teardown/by-closing", |context| hard_to_end(context, Way::Closed)),
    case("terminal.teardown/by-cancelling", |context| hard_to_end(context, Way::Cancelled)).needs("cancel"),
    case("terminal.teardown/by-pruning", |context| hard_to_end(context, Way::Pruned)).within_seconds(60),
    case("terminal.teardown/by-the-end-of-the-host", |context| hard_to_end(context, Way::HostShutDown)),
    case("terminal.teardown/fleeing", fleeing_when_closed).within_seconds(60),
    case("terminal.teardown/fleeing-when-cancelled", |context| flees(context, Way::Cancelled)).needs("cancel"),
    case("terminal.teardown/fleeing-when-pruned", |context| flees(context, Way::Pruned)).within_seconds(60),
    case("terminal.teardown/fleeing-when-the-host-ends", |context| flees(context, Way::HostShutDown)),
    case("terminal.teardown/full-output-and-input", |context| is_full(context, Way::Closed)),
    case("terminal.teardown/full-when-cancelled", |context| is_full(context, Way::Cancelled)).needs("cancel"),
    case("terminal.teardown/full-when-pruned", |context| is_full(context, Way::Pruned)).within_seconds(60),
    case("terminal.teardown/full-when-the-host-ends", |context| is_full(context, Way::HostShutDown)),
]);

/// A decision is pending, and there are daemons, stopped processes and deaf ones, inside and outside.
fn hard_to_end(context: &mut Context, way: Way) -> Verdict {
    expect_end_of(context, way, &[with_a_decision_pending])
}

/// Processes follow each other while they are being ended.
fn flees(context: &mut Context, way: Way) -> Verdict {
    expect_end_of(context, way, &[fleeing, fleeing_in_new_sessions])
}

/// Twelve times: what escapes by chance escapes now and then.
fn fleeing_when_closed(context: &mut Context) -> Verdict {
    let both: [Preparation; 2] = [fleeing, fleeing_in_new_sessions];
    expect_end_of(context, Way::Closed, &both.repeat(3))
}

/// Pipes and terminals are full, and neither the host's caller nor the programs read.
fn is_full(context: &mut Context, way: Way) -> Verdict {
    expect_end_of(context, way, &[full_output_and_input])
}
