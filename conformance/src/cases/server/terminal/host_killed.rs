//! When the host is killed, its terminals end.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::one_shot::ignoring_signals;
use crate::stage::processes::{Kin, expect_all_end, fork};
use crate::stage::terminal::scene::{
    Preparation, expect_end_of, fleeing, fleeing_in_new_sessions, full_output_and_input,
    with_a_decision_pending,
};
use crate::stage::terminal::{Host, On, Way, on_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.host-killed/trees-of-all-terminals", trees_of_all_terminals),
    case("terminal.host-killed/ended-terminals", ended_terminals),
    case("terminal.host-killed/decision-pending", |context| ends(context, with_a_decision_pending)),
    case("terminal.host-killed/full-output-and-input", |context| ends(context, full_output_and_input)),
    case("terminal.host-killed/fleeing", |context| ends(context, fleeing)),
    case("terminal.host-killed/fleeing-in-new-sessions", |context| ends(context, fleeing_in_new_sessions)),
]);

/// Whatever is going on in the terminal.
fn ends(context: &mut Context, prepare: Preparation) -> Verdict {
    expect_end_of(context, Way::HostKilled, &[prepare])
}

/// Of several terminals, each with descendants that hear no polite signal and with an escalated child.
fn trees_of_all_terminals(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    let mut handles = Vec::new();
    let mut probes = Vec::new();
    for on in [On::Pipes, On::Tty, On::Pipes, On::Tty] {
        let mut terminal = host.open_shell(context, on)?;
        ignoring_signals(&mut terminal.probe)?;
        for kin in Kin::ALL {
            probes.push(fork(&mut terminal.probe, &host.shell, kin)?);
        }
        let escalated = terminal.escalate(&host.shim, &program)?;
        handles.extend([terminal.probe.process()?, escalated.child.process()?]);
        probes.extend([terminal.probe, escalated.child]);
        // The wrapper stays connected, so that it is the host's end that ends the child.
        std::mem::forget(escalated.requester);
    }
    for probe in &probes {
        handles.push(Probe::process(probe)?);
    }
    host.shim.process.signal(libc::SIGKILL)?;
    expect_all_end(
        &handles,
        "a process of a terminal whose host was killed",
        host.patience,
    )
}

/// What a terminal's process has left in the background ends, too.
fn ended_terminals(context: &mut Context) -> Verdict {
    on_both(|on| {
        let mut host = Host::new(context)?;
        let (id, mut probe) = host.open_probe(on)?;
        let mut left = fork(&mut probe, &host.shell, Kin::Daemon)?;
        probe.send(&Order::Exit(0))?;
        host.read_to_end(&id)?;
        host.shim.process.signal(libc::SIGKILL)?;
        left.expect_gone("what an ended terminal of a killed host has left")
    })
}
