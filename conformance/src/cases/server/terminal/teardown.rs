//! However a terminal goes, nothing is left of it.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::holdings::Holdings;
use crate::stage::one_shot::ignoring_signals;
use crate::stage::processes::{Kin, expect_all_end, expect_no_zombies, expect_none_lives, fork};
use crate::stage::signals::stop;
use crate::stage::terminal::{Host, On, ProbeTerminal, numbered, on_both};
use crate::stage::tree::{Tree, grow};
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.teardown/by-closing", by_closing),
    case("terminal.teardown/by-cancelling", by_cancelling).needs("cancel"),
    case("terminal.teardown/by-pruning", by_pruning),
    case("terminal.teardown/by-the-end-of-the-host", by_the_end_of_the_host),
    case("terminal.teardown/fleeing", fleeing).within_seconds(60),
    case("terminal.teardown/full-output-and-input", full_output_and_input),
    case("terminal.teardown/host-as-before", host_as_before),
]);

/// A terminal with everything that is hard to end: its own tree, an escalated one, and a request that waits.
struct Hard {
    terminal: ProbeTerminal,
    /// Of both trees.
    handles: Vec<ProcessHandle>,
    _trees: (Vec<Probe>, Tree),
    _pending: (
        crate::peer::fake_wrapper::Requester,
        crate::peer::harness::Decision,
    ),
}

fn hard(context: &Context, host: &mut Host, program: &ConnectedProgram, on: On) -> Result<Hard, CaseError> {
    let mut terminal = host.open_shell(context, on)?;
    ignoring_signals(&mut terminal.probe)?;
    let mut own = Vec::new();
    for kin in Kin::ALL {
        let mut first = fork(&mut terminal.probe, &host.shell, kin)?;
        let second = fork(&mut first, &host.shell, Kin::Daemon)?;
        own.extend([first, second]);
    }
    let stopped = fork(&mut terminal.probe, &host.shell, Kin::OwnSession)?;
    stop(&stopped.process()?, host.patience)?;
    own.push(stopped);
    let escalated = terminal.escalate(&host.shim, program)?;
    let tree = grow(context, escalated, program)?;
    let request = RequestMessage::new("/bin/sh", &["pending"], "/");
    let pending = terminal.ask(&host.shim, &request)?;
    let mut handles = own.iter().map(Probe::process).collect::<Result<Vec<_>, _>>()?;
    handles.push(terminal.probe.process()?);
    for handle in &tree.handles {
        handles.push(handle.try_clone()?);
    }
    Ok(Hard {
        terminal,
        handles,
        _trees: (own, tree),
        _pending: pending,
    })
}

fn expect_end(host: &Host, hard: &Hard) -> Verdict {
    expect_all_end(
        &hard.handles,
        "a process of a terminal that is gone",
        host.patience,
    )
}

/// Closing.
fn by_closing(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        let hard = hard(context, &mut host, &program, on)?;
        host.shim.close_terminal(&hard.terminal.id)?;
        expect_end(&host, &hard)
    })?;
    expect_no_zombies(host.shim.process.pid.as_raw(), host.patience)?;
    host.finish()
}

/// Cancelling the parent token that was handed to the terminal.
fn by_cancelling(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        let hard = hard(context, &mut host, &program, on)?;
        host.shim
            .call("session/cancel", json!({"session": hard.terminal.session}))?;
        expect_end(&host, &hard)
    })?;
    expect_no_zombies(host.shim.process.pid.as_raw(), host.patience)?;
    host.finish()
}

/// Giving way to others.
fn by_pruning(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        let hard = hard(context, &mut host, &program, on)?;
        for _ in 0..64 {
            host.open_direct(On::Pipes, &["/bin/cat"])?;
        }
        expect_end(&host, &hard)
    })?;
    host.finish()
}

/// The orderly end of the host.
fn by_the_end_of_the_host(context: &mut Context) -> Verdict {
    on_both(|on| {
        let mut host = Host::new(context)?;
        let number = context.next_number();
        let program = ConnectedProgram::new(context, &format!("child-{number}"))?;
        let hard = hard(context, &mut host, &program, on)?;
        host.shim.shutdown()?;
        expect_end(&host, &hard)
    })
}

/// Processes that follow each other so fast that a list of them is outdated when it is read: in the terminal's own tree, and
/// in an escalated one. Six times on each kind of terminal.
fn fleeing(context: &mut Context) -> Verdict {
    const GENERATIONS: u32 = 3_000;
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        for round in 0..6 {
            let mut terminal = host.open_shell(context, on)?;
            let mut escalated = terminal.escalate(&host.shim, &program)?;
            let mut own = fork(&mut terminal.probe, &host.shell, Kin::Daemon)?;
            let mut outside = fork(&mut escalated.child, &program, Kin::Daemon)?;
            for fleeing in [&mut own, &mut outside] {
                fleeing.must(&Order::Flee {
                    generations: GENERATIONS,
                    new_session: round % 2 == 1,
                })?;
            }
            host.shim.close_terminal(&terminal.id)?;
            terminal.probe.expect_gone("the process of a closed terminal")?;
            own.expect_gone("a fleeing process of a closed terminal")?;
            outside.expect_gone("a fleeing process of an escalated tree of a closed terminal")?;
        }
        Ok(())
    })?;
    expect_none_lives(&host.shell, "a process of a closed terminal")?;
    host.finish()
}

/// An output that is full and isn't read, an input that isn't, and calls that wait for both.
fn full_output_and_input(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let write = host.shim.send_write(&id, &numbered(300 << 10))?;
        let babbler = host.open_direct(
            on,
            &["/bin/sh", "-c", "while :; do echo babble babble babble; done"],
        )?;
        let piece = numbered(1 << 18);
        for _ in 0..6 {
            probe.must(&Order::Write(1, piece.clone()))?;
        }
        probe.send(&Order::Write(1, piece))?;
        host.shim.close_terminal(&id)?;
        host.shim.close_terminal(&babbler)?;
        let _ = host.shim.answer_to(write, "terminal/write")?;
        probe.expect_gone("the process of a closed terminal")
    })?;
    expect_no_zombies(host.shim.process.pid.as_raw(), host.patience)?;
    host.finish()
}

/// Descriptors and processes of the host are as before.
fn host_as_before(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    // What a host sets up once for all terminals is there after the first of each kind.
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        terminal.escalate(&host.shim, &program)?.exit(0)?;
        host.shim.close_terminal(&terminal.id)
    })?;
    let before = Holdings::at_rest(&host.shim, &[], host.patience);
    on_both(|on| {
        let hard = hard(context, &mut host, &program, on)?;
        host.shim.close_terminal(&hard.terminal.id)?;
        expect_end(&host, &hard)?;
        drop(hard);
        Holdings::expect_returned(&host.shim, &[], &before, "a terminal", host.patience).map(drop)
    })?;
    host.finish()
}
