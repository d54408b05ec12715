//! The end of a one-shot ends its requests, its escalated children, and its escalation socket.

use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::EscalationSocket;
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::ending::expect_ended_child_stream;
use crate::stage::one_shot::{LONG_TIMEOUT_MS, OneShots, ignoring_signals};
use crate::stage::server::Escalated;
use crate::system::clock::Moment;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("exec.teardown/escalated-background-child", escalated_background_child),
    case("exec.teardown/pending-request", pending_request),
    case("exec.teardown/socket-dead-afterwards", socket_dead_afterwards),
]).needs("exec");

/// An escalated child that the shell left in the background, holding its output, neither delays the
/// result nor outlives it.
fn escalated_background_child(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, Some(LONG_TIMEOUT_MS))?;
    let output = begun.shell.take_descriptor(1)?;
    let child = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        child: mut probe,
    } = begun.escalate_with(&one_shots.shim, &child, &[(1, &output), (2, &output)])?;
    drop(output);
    ignoring_signals(&mut probe)?;
    let process = probe.process()?;
    begun.shell.send(&Order::Exit(5))?;
    let result = one_shots.result(begun.id)?;
    expect::equal("exit_code", &json!(5), &result["exit_code"])?;
    expect::equal("timed_out", &json!(false), &result["timed_out"])?;
    process.expect_end(
        "the escalated child that was left in the background",
        one_shots.patience,
    )?;
    expect_ended_child_stream(&mut requester)?;
    one_shots.shim.shutdown()
}

/// A request that is pending when the shell ends is ended with it, and a late answer starts nothing.
fn pending_request(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, Some(LONG_TIMEOUT_MS))?;
    let mut requester = begun.ask(&one_shots.shim, "/bin/sh", None)?;
    begun.shell.send(&Order::Exit(6))?;
    expect::equal("exit_code", &json!(6), &one_shots.result(begun.id)?["exit_code"])?;
    requester.frames.expect_end("its session has ended")?;
    one_shots.shim.shutdown()
}

/// A process that kept the escalation socket is not served after the end.
fn socket_dead_afterwards(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, Some(LONG_TIMEOUT_MS))?;
    begun.shell.send(&Order::Exit(0))?;
    one_shots.result(begun.id)?;
    expect_dead(&mut begun.socket, one_shots.patience)?;
    one_shots.shim.expect_no_decision()?;
    one_shots.shim.shutdown()
}

/// Demands that a handshake fails, or that its stream ends. The listener may end a moment after the answer, so a
/// silent stream is given time to end.
fn expect_dead(socket: &mut EscalationSocket, patience: Duration) -> Verdict {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    if socket.try_datagram(&[0], &[&theirs]).is_err() {
        return Ok(());
    }
    drop(theirs);
    let ended = crate::peer::wire::read_to_end(ours, Moment::now() + patience)?;
    expect::equal("bytes before the end of the stream", Some(Vec::new()), ended)
}
