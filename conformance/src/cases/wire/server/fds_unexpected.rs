//! Descriptors where a server expects none: all of them are closed, and no process gets them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::frame;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{PipeWatch, null, watched_pipes};
use crate::stage::holdings::Holdings;
use crate::stage::server::{Escalated, Stage};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.fds.unexpected/request-that-is-run", request_that_is_run),
    case("wire.fds.unexpected/request-that-is-denied", request_that_is_denied),
    case("wire.fds.unexpected/request-that-is-escalated", request_that_is_escalated),
    case("wire.fds.unexpected/child-of-another", child_of_another),
    case("wire.fds.unexpected/as-many-as-there-can-be", as_many_as_there_can_be),
    case("wire.fds.unexpected/with-later-bytes", with_later_bytes),
    case("wire.fds.unexpected/with-malformed-requests", with_malformed_requests),
    case("wire.fds.unexpected/with-half-a-frame", with_half_a_frame),
    case("wire.fds.unexpected/with-signal-frames", with_signal_frames).needs("signals").within_seconds(60),
]);

fn numbers(descriptors: &[OwnedFd]) -> Vec<RawFd> {
    descriptors.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Sends a request with the ends of `count` pipes.
fn send_with_pipes(
    scene: &mut Stage,
    request: &RequestMessage,
    count: usize,
) -> Result<(Requester, PipeWatch), CaseError> {
    let (watch, pipes) = watched_pipes(count)?;
    let mut requester = scene.session.socket.open()?;
    let payload = request.value().to_string();
    requester.frames.send(payload.as_bytes(), &numbers(&pipes))?;
    Ok((requester, watch))
}

/// Sends requests with descriptors, which may be refused or answered with `answer`, and demands that they are
/// closed when the request is over.
fn expect_closed_after(context: &Context, answer: &Answer, action: &serde_json::Value) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for count in [1, 3, 16] {
        let request = scene.request("/bin/sh", &["sh", "with", &count.to_string()]);
        let (mut requester, watch) = send_with_pipes(&mut scene, &request, count)?;
        if let Some(decision) = scene.asked_or_refused(&mut requester)? {
            decision.answer(answer)?;
            requester.expect_action(action)?;
            requester.frames.expect_end("the request is over")?;
        }
        watch.expect_closed("the server", scene.patience())?;
        scene.sentinel()?;
    }
    scene.finish()
}

/// With a request that is run.
fn request_that_is_run(context: &mut Context) -> Verdict {
    expect_closed_after(context, &Answer::Run, &json!("Run"))
}

/// With a request that is denied.
fn request_that_is_denied(context: &mut Context) -> Verdict {
    let action = json!({"Deny": {"reason": "no"}});
    expect_closed_after(context, &Answer::Deny(Some("no".to_owned())), &action)
}

/// Demands that a child has none of these descriptors.
fn expect_none_of(pipes: &[(u64, u64)], child: &Probe) -> Verdict {
    let held: Vec<_> = child
        .report
        .descriptors
        .iter()
        .filter(|descriptor| pipes.contains(&descriptor.identity))
        .collect();
    expect::that(
        held.is_empty(),
        "the escalated child holds nothing that came with a request",
        shown(&held),
    )
}

fn identities(descriptors: &[OwnedFd]) -> Result<Vec<(u64, u64)>, CaseError> {
    descriptors
        .iter()
        .map(|descriptor| {
            let metadata = std::fs::File::from(descriptor.as_fd().try_clone_to_owned()?).metadata()?;
            Ok((metadata.dev(), metadata.ino()))
        })
        .collect()
}

/// With a request that is escalated: they are closed while the child lives, which does not have them.
fn request_that_is_escalated(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    for count in [1, 16] {
        let (watch, pipes) = watched_pipes(count)?;
        let identities = identities(&pipes)?;
        let mut requester = scene.session.socket.open()?;
        let request = scene.request(program.text(), &["child"]);
        let payload = request.value().to_string();
        requester.frames.send(payload.as_bytes(), &numbers(&pipes))?;
        drop(pipes);
        if let Some(decision) = scene.asked_or_refused(&mut requester)? {
            decision.answer(&Answer::Escalate)?;
            requester.expect_action(&json!("Escalate"))?;
            let null = null()?;
            requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
            let mut child = program.accept("the escalated child")?;
            expect_none_of(&identities, &child)?;
            watch.expect_closed("the server, before the child starts,", scene.patience())?;
            child.send(&Order::Exit(5))?;
            requester.expect_exit_code(5)?;
        }
        watch.expect_closed("the server", scene.patience())?;
        scene.sentinel()?;
    }
    scene.finish()
}

/// A child that starts while another request, which brought descriptors, is pending.
fn child_of_another(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let (watch, pipes) = watched_pipes(16)?;
    let identities = identities(&pipes)?;
    let mut pending = scene.session.socket.open()?;
    let request = scene.request("/bin/sh", &["pending"]);
    let payload = request.value().to_string();
    pending.frames.send(payload.as_bytes(), &numbers(&pipes))?;
    drop(pipes);
    let decision = scene.asked_or_refused(&mut pending)?;
    let Escalated {
        mut requester,
        mut child,
    } = scene.start(&program)?;
    expect_none_of(&identities, &child)?;
    if let Some(decision) = decision {
        decision.answer(&Answer::Run)?;
        pending.expect_action(&json!("Run"))?;
    }
    watch.expect_closed(
        "the server, while a child of another request lives,",
        scene.patience(),
    )?;
    child.send(&Order::Exit(6))?;
    requester.expect_exit_code(6)?;
    scene.finish()
}

/// The kernel passes up to 253 with one message, far more than a receiver has room for: the message is truncated,
/// and what was received of it is to be closed all the same.
fn as_many_as_there_can_be(context: &mut Context) -> Verdict {
    const AT_ONCE: usize = 253;
    let mut scene = Stage::new(context)?.decide_by_hand();
    for count in [17, 64, AT_ONCE] {
        let (watch, pipe) = watched_pipes(1)?;
        let copies = vec![pipe[0].as_raw_fd(); count];
        let mut requester = scene.session.socket.open()?;
        let request = scene.request("/bin/sh", &["sh", &count.to_string()]);
        requester
            .frames
            .send(request.value().to_string().as_bytes(), &copies)?;
        drop(pipe);
        if let Some(decision) = scene.asked_or_refused(&mut requester)? {
            decision.answer(&Answer::Run)?;
            requester.expect_action(&json!("Run"))?;
        }
        watch.expect_closed(&format!("the server, of {count} copies,"), scene.patience())?;
        scene.sentinel()?;
    }
    scene.finish()
}

/// With bytes of a request that are not its first: when the request is over, they are closed.
fn with_later_bytes(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for cut in [1, 4, 5, 30] {
        let (watch, pipes) = watched_pipes(8)?;
        let mut requester = scene.session.socket.open()?;
        let request = scene.request("/bin/sh", &["sh", &cut.to_string()]);
        let bytes = frame(request.value().to_string().as_bytes());
        requester.frames.send_bytes(&bytes[..cut], &[])?;
        // A server that refuses it closes the stream under the suite's hands.
        let _ = requester.frames.try_send_bytes(&bytes[cut..], &numbers(&pipes));
        drop(pipes);
        if let Some(decision) = scene.asked_or_refused(&mut requester)? {
            decision.answer(&Answer::Run)?;
            requester.expect_action(&json!("Run"))?;
        }
        drop(requester);
        watch.expect_closed("the server, when the request is over,", scene.patience())?;
        scene.sentinel()?;
    }
    scene.finish()
}

/// With requests that are refused: malformed ones, and one beyond every limit.
fn with_malformed_requests(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let payloads = ["", "nope", "[]", "{\"file\":\"/bin/sh\"}"];
    let too_long = vec![0xff; 4];
    for bytes in payloads
        .map(|text| frame(text.as_bytes()))
        .into_iter()
        .chain([too_long])
    {
        let (watch, pipes) = watched_pipes(16)?;
        let mut requester = scene.session.socket.open()?;
        requester.frames.send_bytes(&bytes, &numbers(&pipes))?;
        drop(pipes);
        scene.expect_refused(&mut requester, "the request is malformed")?;
        watch.expect_closed("the server", scene.patience())?;
    }
    scene.finish()
}

/// With one byte, after which the wrapper goes: a hundred times, and the server has what it had.
fn with_half_a_frame(context: &mut Context) -> Verdict {
    const TIMES: usize = 100;
    let mut scene = Stage::new(context)?.decide_by_hand();
    scene.sentinel()?;
    let shell = [scene.session.probe.report.pid];
    let before = Holdings::at_rest(&scene.shim, &shell, context.patience());
    let bytes = frame(scene.request("/bin/sh", &["half"]).value().to_string().as_bytes());
    let (watch, pipes) = watched_pipes(16)?;
    for index in 0..TIMES {
        let mut requester = scene.session.socket.open()?;
        let cut = [1, 3, 4, 20][index % 4];
        requester.frames.send_bytes(&bytes[..cut], &numbers(&pipes))?;
    }
    drop(pipes);
    watch.expect_closed("the server", scene.patience())?;
    scene.sentinel()?;
    let what = format!("{TIMES} half frames with 16 descriptors each");
    Holdings::expect_returned(&scene.shim, &shell, &before, &what, context.patience())?;
    scene.finish()
}

/// With signal frames to a running child.
fn with_signal_frames(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let null = null()?;
    for count in [1, 16] {
        let request = scene.request(program.text(), &["child"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let placements: &[(i64, &dyn crate::peer::fake_wrapper::AsFdObject)] =
            &[(0, &null), (1, &null), (2, &null)];
        requester.send_descriptors_with(placements, &[("signals", json!(true))])?;
        let mut child = program.accept("the escalated child")?;
        child.must(&Order::Ignore(libc::SIGUSR1))?;
        let (watch, pipes) = watched_pipes(count)?;
        let payload = json!({"signal": libc::SIGUSR1}).to_string();
        requester.frames.send(payload.as_bytes(), &numbers(&pipes))?;
        drop(pipes);
        watch.expect_closed("the server, while the child lives or is ended,", scene.patience())?;
        scene.sentinel()?;
        // The frame may have been refused, and the request with it.
        drop(requester);
        child.expect_gone("the escalated child of a wrapper that is gone")?;
    }
    scene.finish()
}
