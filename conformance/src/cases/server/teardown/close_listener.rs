//! Closing a session ends the service on its escalation socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::{Answer, Decision};
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::frame;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::ending::{SentinelSession, SessionEnd, expect_not_served, handshakes_are_refused};
use crate::stage::server::Stage;
use crate::system::clock::Moment;
use crate::system::holders::still_open;
use crate::system::poll::readable_until;
use crate::verdict::{Verdict, violation};

/// Handshakes that wait on the socket when its session ends.
const QUEUED: usize = 20;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.close.listener/no-more", no_more),
    case("teardown.close.listener/queued-datagrams", queued_datagrams),
    case("teardown.close.listener/restart", restart),
]);

/// After closing, a handshake is an error or its stream ends; the policy isn't asked.
fn no_more(context: &mut Context) -> Verdict {
    handshakes_are_refused(context, SessionEnd::Close)
}

/// Handshakes that were queued when the session was closed come to their end; if the policy is asked about one all the
/// same, nothing is started, whatever it answers.
fn queued_datagrams(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "queued")?;
    let text = RequestMessage::new(program.text(), &["queued"], "/")
        .value()
        .to_string();
    stage.shim.process.signal(libc::SIGSTOP)?;
    let mut queued = Vec::new();
    for _ in 0..QUEUED {
        let (ours, theirs) = UnixStream::pair()?;
        (&ours).write_all(&frame(text.as_bytes()))?;
        stage.session.socket.datagram(&[0], &[&theirs])?;
        queued.push(ours);
    }
    let close = stage
        .shim
        .send("session/close", json!({"session": stage.session.name}))?;
    stage.shim.process.signal(libc::SIGCONT)?;
    stage
        .shim
        .answer_to(close, "session/close")?
        .map_err(|error| violation("session/close succeeds", shown(&error)))?;
    let deadline = Moment::now() + stage.patience();
    for stream in &queued {
        // Readability is enough: end of file, or the reset of a stream that was closed with its request unread.
        expect::that(
            readable_until(stream, deadline)?,
            "the stream of a queued handshake ends with its session",
            still_open(stream, stage.patience()),
        )?;
        let mut byte = [0];
        if let Ok(1) = (&*stream).read(&mut byte) {
            return Err(violation("no answer to a queued handshake", "bytes"));
        }
    }
    // A server may have taken some before it read that the session is over, and may only then come to ask about
    // them. However late such a question is, its answer starts nothing.
    let mut late = 0;
    let name = stage.session.name.clone();
    let mut answer = |decision: Decision| {
        late += 1;
        expect::equal(
            "session of a late question",
            name.as_str(),
            &*decision.question.session,
        )?;
        decision.answer(&Answer::Escalate)
    };
    sentinel.served_beside(&stage.shim, &mut answer)?;
    sentinel.served_beside(&stage.shim, &mut answer)?;
    program.expect_no_start()?;
    expect::that(
        late <= QUEUED,
        format_args!("at most {QUEUED} questions about {QUEUED} requests"),
        format_args!("{late}"),
    )?;
    stage.finish()
}

/// A session that starts after the end of another one serves, and doesn't revive the other's socket.
fn restart(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    stage.sentinel()?;
    stage.close_session()?;
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    sentinel.served(&stage.shim)?;
    expect_not_served(&mut stage.session.socket, context.patience())?;
    sentinel.served(&stage.shim)?;
    stage.finish()
}
