//! Closing a terminal ends what was started in it, and what waits for it.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::ending::{expect_ended_child_stream, expect_not_served, expect_reaped};
use crate::stage::one_shot::ignoring_signals;
use crate::stage::processes::{Kin, fork};
use crate::stage::terminal::{Host, On, on_both};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.close/process-and-descendants", process_and_descendants),
    case("terminal.close/deaf-to-polite-signals", deaf_to_polite_signals),
    case("terminal.close/session", session),
    case("terminal.close/late-answers", late_answers),
    case("terminal.close/calls-that-wait", calls_that_wait),
    case("terminal.close/id-is-unknown", id_is_unknown),
    case("terminal.close/others-go-on", others_go_on),
]);

/// The process and what it has forked end, and are reaped.
fn process_and_descendants(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let mut descendants = Vec::new();
        for kin in Kin::ALL {
            descendants.push(fork(&mut probe, &host.shell, kin)?);
        }
        host.shim.close_terminal(&id)?;
        for mut descendant in descendants {
            descendant.expect_gone("a descendant of a closed terminal's process")?;
        }
        let pid = probe.report.pid;
        probe.expect_gone("the process of a closed terminal")?;
        expect_reaped(pid, host.patience)
    })?;
    host.finish()
}

/// SIGHUP and SIGTERM ignored make no difference.
fn deaf_to_polite_signals(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        ignoring_signals(&mut probe)?;
        let mut child = fork(&mut probe, &host.shell, Kin::Child)?;
        host.shim.close_terminal(&id)?;
        probe.expect_gone("the process of a closed terminal")?;
        child.expect_gone("a child of a closed terminal's process")
    })?;
    host.finish()
}

/// Pending requests, escalated children and the socket go with it.
fn session(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let request = RequestMessage::new("/bin/sh", &["pending"], "/");
        let (mut pending, _decision) = terminal.ask(&host.shim, &request)?;
        let mut escalated = terminal.escalate(&host.shim, &program)?;
        host.shim.close_terminal(&terminal.id)?;
        pending.frames.expect_end("its terminal was closed")?;
        escalated
            .child
            .expect_gone("an escalated child of a closed terminal")?;
        expect_ended_child_stream(&mut escalated.requester)?;
        expect_not_served(&mut terminal.socket, host.patience)?;
        expect::that(
            host.shim.decision_within(Duration::ZERO)?.is_none(),
            "the policy isn't asked about requests of a closed terminal",
            "it is",
        )
    })?;
    host.finish()
}

/// A decision that comes after the closing starts nothing.
fn late_answers(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "late")?;
    let sentinel = ConnectedProgram::new(context, "sentinel")?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let request = RequestMessage::new(program.text(), &["late"], "/");
        let (mut pending, decision) = terminal.ask(&host.shim, &request)?;
        host.shim.close_terminal(&terminal.id)?;
        pending.frames.expect_end("its terminal was closed")?;
        decision.answer(&Answer::Escalate)?;
        for _ in 0..2 {
            let mut other = host.open_shell(context, on)?;
            other.escalate(&host.shim, &sentinel)?.exit(3)?;
            host.shim.close_terminal(&other.id)?;
        }
        program.expect_no_start()
    })?;
    host.finish()
}

/// A read that waits for output returns.
fn calls_that_wait(context: &mut Context) -> Verdict {
    const LONG: Duration = Duration::from_secs(600);
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let read = host.shim.send_read(&id, LONG, None)?;
        // It has been taken when this has been answered, or is taken later and refused.
        host.shim.list_terminals()?;
        host.shim.close_terminal(&id)?;
        let _ = host.shim.answer_to(read, "terminal/read")?;
        probe.expect_gone("the process of a closed terminal")
    })?;
    host.finish()
}

/// Every method refuses the id of a terminal that was closed, and one that never was.
fn id_is_unknown(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let ended = host.open_direct(On::Pipes, &["/bin/sh", "-c", "exit 0"])?;
    host.read_to_end(&ended)?;
    host.shim.close_terminal(&ended)?;
    host.expect_unknown(&ended)?;
    let (living, _probe) = host.open_probe(On::Tty)?;
    host.shim.close_terminal(&living)?;
    host.expect_unknown(&living)?;
    host.expect_unknown(&serde_json::json!("of no terminal"))?;
    host.finish()
}

/// Other terminals, and sessions without one, aren't disturbed.
fn others_go_on(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| -> Result<(), CaseError> {
        let closed = host.open_shell(context, on)?;
        let mut other = host.open_shell(context, on)?;
        let escalated = other.escalate(&host.shim, &program)?;
        host.shim.close_terminal(&closed.id)?;
        let mut gone = closed.probe;
        gone.expect_gone("the process of a closed terminal")?;
        other.probe.must(&Order::Write(1, b"goes on".to_vec()))?;
        host.read_until(&other.id, "goes on")?;
        escalated.exit(6)
    })?;
    host.finish()
}
