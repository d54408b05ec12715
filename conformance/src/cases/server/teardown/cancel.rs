//! Cancelling the parent token of a session has all effects of closing the session.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{EscalationSocket, RequestMessage};
use crate::peer::harness::{Answer, Shim};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::stage::ending::{
    SentinelSession, SessionEnd, child_ends, expect_ended_child_stream, expect_not_served,
    handshakes_are_refused, late_answers_start_nothing, pending_request_ends,
};
use crate::stage::server::{Escalated, Stage};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.cancel/pending-decision", pending_decision),
    case("teardown.cancel/late-answers", late_answers),
    case("teardown.cancel/child", child),
    case("teardown.cancel/listener", listener),
    case("teardown.cancel/before-the-spawn", before_the_spawn),
    case("teardown.cancel/other-sessions-live", other_sessions_live),
    case("teardown.cancel/then-close", then_close).at(Level::Faithful),
]).needs("cancel");

/// A request that waits for its decision ends when the parent token is cancelled.
fn pending_decision(context: &mut Context) -> Verdict {
    pending_request_ends(context, SessionEnd::Cancel)
}

/// Answers that come after cancelling start nothing.
fn late_answers(context: &mut Context) -> Verdict {
    late_answers_start_nothing(context, SessionEnd::Cancel)
}

/// A child is killed and reaped, even if it ignores SIGTERM.
fn child(context: &mut Context) -> Verdict {
    child_ends(context, SessionEnd::Cancel, |_| Ok(()), expect_ended_child_stream)?;
    let ignore_term = |child: &mut Probe| child.must(&Order::Ignore(libc::SIGTERM));
    child_ends(
        context,
        SessionEnd::Cancel,
        ignore_term,
        expect_ended_child_stream,
    )
}

/// No handshake is served any more.
fn listener(context: &mut Context) -> Verdict {
    handshakes_are_refused(context, SessionEnd::Cancel)
}

/// A session that is cancelled before its shell was spawned serves no request: the spawn fails, or the socket is
/// dead.
fn before_the_spawn(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let mut sentinel = SentinelSession::new(context, &mut shim)?;
    let program = ConnectedProgram::new(context, "shell")?;
    let overlay = shim.start_session("main", program.text(), "/opt/wrapper")?;
    shim.cancel_session("main")?;
    let directory = context.work_directory();
    let params = json!({"session": "main", "argv": [program.text()], "cwd": directory, "env": {}});
    let id = shim.send("session/spawn", params)?;
    if shim.answer_to(id, "session/spawn")?.is_ok() {
        let mut probe = program.accept("the spawned shell")?;
        let number = overlay.socket_number()?;
        if let Ok(socket) = probe.take_descriptor(number) {
            let patience = context.patience();
            let mut socket = EscalationSocket::new(socket, context.transcript.clone(), patience);
            expect_not_served(&mut socket, patience)?;
        }
    }
    sentinel.served(&shim)?;
    shim.shutdown()
}

/// A session that has another parent token is not disturbed.
fn other_sessions_live(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut other = stage.shim.probe_session(context, "other")?;
    let request = RequestMessage::new("/bin/sh", &["sh", "kept"], "/");
    let mut kept = other.socket.open()?;
    kept.request(&request)?;
    let kept_decision = stage.shim.next_decision()?;
    let request = stage.request("/bin/sh", &["sh", "ended"]);
    let (mut ended, _never) = stage.ask(&request)?;
    stage.cancel_session()?;
    ended.frames.expect_end("its session was cancelled")?;
    kept_decision.answer(&Answer::Run)?;
    kept.expect_action(&json!("Run"))?;
    stage.finish()
}

/// Closing after cancelling, and ending it once more, does not disturb other sessions.
fn then_close(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "child")?;
    let Escalated {
        requester: _requester,
        child,
    } = stage.start(&program)?;
    let handle = child.process()?;
    stage.cancel_session()?;
    handle.expect_end("the escalated child", stage.patience())?;
    stage.close_session()?;
    for method in ["session/close", "session/cancel"] {
        let id = stage.shim.send(method, json!({"session": stage.session.name}))?;
        // The shim may have forgotten an ended session, but it must answer.
        let _: Result<Value, _> = stage.shim.answer_to(id, method)?;
    }
    sentinel.served(&stage.shim)?;
    stage.finish()
}
