//! Malformed handshakes: dropped, their descriptors closed, and the next handshake is served.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::wire::FrameStream;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{objects, watched_pipes};
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.handshake.bad/no-descriptor", no_descriptor),
    case("server.handshake.bad/several-descriptors", several_descriptors),
    case("server.handshake.bad/several-streams", several_streams),
    case("server.handshake.bad/fifty-in-a-row", fifty_in_a_row),
    case("server.handshake.bad/while-others-are-pending", while_others_are_pending),
]);

/// A datagram without a descriptor is dropped.
fn no_descriptor(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    stage.session.socket.datagram(&[0], &[])?;
    stage.sentinel()?;
    stage.session.socket.datagram(&[0; 100], &[])?;
    stage.sentinel()?;
    stage.finish()
}

/// A datagram with several descriptors is dropped, and the server keeps none of them.
fn several_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for count in [2, 3, 16] {
        let (watch, pipes) = watched_pipes(count)?;
        stage.session.socket.datagram(&[0], &objects(&pipes))?;
        drop(pipes);
        watch.expect_closed("the server", stage.patience())?;
        stage.sentinel()?;
    }
    stage.finish()
}

/// Two good streams in one datagram: neither is served.
fn several_streams(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["x"]).value();
    let mut ours = Vec::new();
    let mut theirs: Vec<OwnedFd> = Vec::new();
    for name in ["first stream", "second stream"] {
        let (our_end, their_end) = UnixStream::pair()?;
        let mut frames = FrameStream::new(our_end, name, context.transcript.clone(), context.patience());
        frames.send_json(&request)?;
        ours.push(frames);
        theirs.push(their_end.into());
    }
    stage.session.socket.datagram(&[0], &objects(&theirs))?;
    drop(theirs);
    for frames in &mut ours {
        frames.expect_end("it came with another descriptor in one datagram")?;
    }
    // The next question is about this one: the policy was not asked about the two.
    stage.sentinel()?;
    stage.finish()
}

/// Fifty bad datagrams, a good request after each, and fifty more in a row.
fn fifty_in_a_row(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let (watch, pipes) = watched_pipes(3)?;
    for round in 0..50 {
        if round % 2 == 0 {
            stage.session.socket.datagram(&[0], &[])?;
        } else {
            stage.session.socket.datagram(&[0], &objects(&pipes))?;
        }
        let request = stage.request("/bin/sh", &["x", &round.to_string()]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))?;
    }
    for _ in 0..50 {
        stage.session.socket.datagram(&[0], &objects(&pipes))?;
    }
    drop(pipes);
    stage.sentinel()?;
    watch.expect_closed("the server", stage.patience())?;
    stage.finish()
}

/// Bad datagrams disturb neither a pending decision nor its answer.
fn while_others_are_pending(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["pending"]);
    let (mut requester, decision) = stage.ask(&request)?;
    let (watch, pipes) = watched_pipes(2)?;
    for _ in 0..5 {
        stage.session.socket.datagram(&[0], &[])?;
        stage.session.socket.datagram(&[0], &objects(&pipes))?;
    }
    drop(pipes);
    watch.expect_closed("the server", stage.patience())?;
    decision.answer(&Answer::Deny(Some("late".to_owned())))?;
    requester.expect_action(&json!({"Deny": {"reason": "late"}}))?;
    stage.finish()
}
