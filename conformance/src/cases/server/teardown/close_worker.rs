//! Closing a session ends its requests, in whichever phase they are.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::harness::Answer;
use crate::peer::wire::{frame, read_whole};
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::{objects, watched_pipes};
use crate::stage::ending::{SentinelSession, SessionEnd, late_answers_start_nothing, pending_request_ends};
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.close.worker/pending-decision", pending_decision),
    case("teardown.close.worker/late-answers", late_answers),
    case("teardown.close.worker/every-phase", every_phase),
    case("teardown.close.worker/sixty-four-pending", sixty_four_pending),
    case("teardown.close.worker/stalled-reader", stalled_reader).at(Level::Hardened),
]);

/// A request ends though its policy never answers, and that holds up neither the closing nor what comes after it.
fn pending_decision(context: &mut Context) -> Verdict {
    pending_request_ends(context, SessionEnd::Close)
}

/// Answers that come after closing start nothing.
fn late_answers(context: &mut Context) -> Verdict {
    late_answers_start_nothing(context, SessionEnd::Close)
}

/// A stream ends in whichever phase it is, and the descriptors that had come with half a frame are closed.
fn every_phase(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh"]);
    let bytes = frame(request.value().to_string().as_bytes());
    let mut streams: Vec<(&str, Requester)> = Vec::new();
    streams.push(("after the handshake", stage.session.socket.open()?));
    for (name, length) in [("half a length", 2), ("no payload", 4), ("half a payload", 20)] {
        let mut requester = stage.session.socket.open()?;
        requester.frames.send_bytes(&bytes[..length], &[])?;
        requester.frames.drained()?;
        streams.push((name, requester));
    }
    let (requester, _pending) = stage.ask(&request)?;
    streams.push(("the policy is deciding", requester));
    let (watch, pipes) = watched_pipes(3)?;
    for (name, length) in [
        ("the descriptor message is awaited", 0),
        ("half a descriptor message", 9),
    ] {
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let message = frame(br#"{"fds":[0,1,2]}"#);
        let numbers: Vec<i32> = objects(&pipes).iter().map(|pipe| pipe.number()).collect();
        if length > 0 {
            requester.frames.send_bytes(&message[..length], &numbers)?;
            requester.frames.drained()?;
        }
        streams.push((name, requester));
    }
    drop(pipes);
    stage.close_session()?;
    for (name, requester) in &mut streams {
        requester
            .frames
            .expect_end(&format!("its session has ended ({name})"))?;
    }
    watch.expect_closed("the server", stage.patience())?;
    stage.shim.expect_no_decision()?;
    stage.finish()
}

/// Each of 64 pending requests ends.
fn sixty_four_pending(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut pending = Vec::new();
    for index in 0..64 {
        let request = stage.request("/bin/sh", &["sh", &index.to_string()]);
        pending.push(stage.ask(&request)?);
    }
    stage.close_session()?;
    for (requester, _) in &mut pending {
        requester.frames.expect_end("its session has ended")?;
    }
    stage.finish()
}

/// A wrapper that doesn't read its long denial doesn't hold up the closing; its stream ends.
fn stalled_reader(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh"]);
    let (requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Deny(Some("r".repeat(8 << 20))))?;
    stage.sentinel()?;
    stage.close_session()?;
    // What is in the socket is read, and then comes the end of file: there is no whole frame.
    let stream = requester.frames.socket().try_clone()?;
    let what = "the stream ends though its reader has stalled";
    let bytes = read_whole(stream, what, stage.patience())?;
    expect::that(
        bytes.len() < 8 << 20,
        "the stream ends within the denial of 8 MiB that its reader did not read",
        format_args!("{} bytes", bytes.len()),
    )?;
    let mut sentinel = SentinelSession::new(context, &mut stage.shim)?;
    sentinel.served(&stage.shim)?;
    stage.finish()
}
