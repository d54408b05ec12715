//! Approvals of requests that have gone are withdrawn, and late answers start nothing.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::ApprovalAnswer;
use crate::peer::program::ConnectedProgram;
use crate::spec::requirements::Role;
use crate::stage::approval::{asked, needing};
use crate::stage::ending::SentinelSession;
use crate::stage::one_shot::{LONG_TIMEOUT_MS, OneShots};
use crate::stage::server::Stage;
use crate::stage::terminal::{Host, Way, on_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("approval.withdrawn/wrapper-gone", wrapper_gone),
    case("approval.withdrawn/session-closed", session_closed),
    case("approval.withdrawn/terminal-closed", |context| terminal_goes(context, Way::Closed)).needs("terminals"),
    case("approval.withdrawn/terminal-cancelled", |context| terminal_goes(context, Way::Cancelled)).needs("terminals").needs("cancel"),
    case("approval.withdrawn/terminal-pruned", |context| terminal_goes(context, Way::Pruned)).needs("terminals"),
    case("approval.withdrawn/one-shot-over", one_shot_over).needs("exec"),
    case("approval.withdrawn/answered-ones-are-not", answered_ones_are_not),
]);

/// The wrapper ends; a late answer starts nothing, and the session goes on.
fn wrapper_gone(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "late")?;
    for _ in 0..3 {
        let request = stage.request_for(program.text());
        let (requester, approval) = needing(&mut stage, &request)?;
        drop(requester);
        expect::equal(
            "id of the withdrawn approval",
            &approval.id,
            &stage.shim.next_withdrawn()?,
        )?;
        approval.answer(&ApprovalAnswer::Approve)?;
        stage.sentinel()?;
    }
    program.expect_no_start()?;
    stage.shim.expect_none_withdrawn()?;
    stage.finish()
}

/// The session is closed while several approvals are pending.
fn session_closed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "late")?;
    let mut pending = Vec::new();
    for number in 0..3 {
        let request = stage.request(program.text(), &["late", &number.to_string()]);
        pending.push(needing(&mut stage, &request)?);
    }
    stage.close_session()?;
    let mut expected: Vec<String> = pending
        .iter()
        .map(|(_, approval)| approval.id.to_string())
        .collect();
    let mut withdrawn = Vec::new();
    for _ in 0..pending.len() {
        withdrawn.push(stage.shim.next_withdrawn()?.to_string());
    }
    expected.sort();
    withdrawn.sort();
    expect::equal("ids of the withdrawn approvals, sorted", expected, withdrawn)?;
    for (mut requester, approval) in pending {
        requester.frames.expect_end("its session was closed")?;
        approval.answer(&ApprovalAnswer::Approve)?;
    }
    sentinel.served(&stage.shim)?;
    sentinel.served(&stage.shim)?;
    program.expect_no_start()?;
    stage.shim.expect_none_withdrawn()?;
    stage.finish()
}

/// A terminal goes while an approval of it is pending.
fn terminal_goes(context: &mut Context, way: Way) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "late")?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let request = RequestMessage::new(program.text(), &["late"], "/");
        let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
        let approval = asked(&host.shim, decision)?;
        way.take(&mut host.shim, &[terminal.names()])?;
        expect::equal(
            "id of the withdrawn approval",
            &approval.id,
            &host.shim.next_withdrawn()?,
        )?;
        requester.frames.expect_end("its terminal has gone")?;
        approval.answer(&ApprovalAnswer::Approve)?;
        let mut other = host.open_shell(context, on)?;
        let request = RequestMessage::new("/bin/sh", &["sentinel"], "/");
        let (mut requester, decision) = other.ask(&host.shim, &request)?;
        decision.answer(&crate::peer::harness::Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
        program.expect_no_start()
    })?;
    host.finish()
}

/// The shell of a one-shot ends while an approval is pending.
fn one_shot_over(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, Some(LONG_TIMEOUT_MS))?;
    let mut requester = begun.socket.open()?;
    requester.request(&RequestMessage::new("/bin/sh", &["late"], "/"))?;
    let approval = asked(&one_shots.shim, one_shots.shim.next_decision()?)?;
    begun.shell.send(&crate::probe::remote::Order::Exit(0))?;
    expect::equal(
        "id of the withdrawn approval",
        &approval.id,
        &one_shots.shim.next_withdrawn()?,
    )?;
    one_shots.result(begun.id)?;
    one_shots.shim.shutdown()
}

/// What has been answered isn't withdrawn, whatever becomes of it.
fn answered_ones_are_not(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    for answer in [ApprovalAnswer::Approve, ApprovalAnswer::Deny(None)] {
        let request = stage.request("/bin/sh", &["answered"]);
        let (mut requester, approval) = needing(&mut stage, &request)?;
        let action = match answer {
            ApprovalAnswer::Approve => json!("Escalate"),
            _ => json!({"Deny": {"reason": null}}),
        };
        approval.answer(&answer)?;
        requester.expect_action(&action)?;
    }
    stage.sentinel()?;
    stage.close_session()?;
    sentinel.served(&stage.shim)?;
    stage.shim.expect_none_withdrawn()?;
    stage.finish()
}
