//! wire.handshake, for a server: a datagram with any bytes opens a request stream.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_wrapper::Requester;
use crate::peer::harness::Answer;
use crate::peer::wire::{FrameStream, frame};
use crate::spec::requirements::{Level, Role};
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.handshake/content-ignored", content_ignored),
    case("wire.handshake/request-before-the-handshake", request_before_the_handshake),
    case("wire.handshake/nothing-travels-on-the-socket", nothing_travels_on_the_socket),
    case("wire.handshake/non-blocking-stream", non_blocking_stream).at(Level::Hardened),
]);

/// A stream that is handed over with a datagram of these bytes is served.
fn expect_served(scene: &mut Stage, context: &Context, bytes: &[u8], mark: &str) -> Verdict {
    let (ours, theirs) = UnixStream::pair()?;
    scene.session.socket.datagram(bytes, &[&theirs])?;
    drop(theirs);
    let patience = context.patience();
    let frames = FrameStream::new(ours, "request stream", context.transcript.clone(), patience)
        .with(Some(scene.shim.counterpart().clone()));
    let mut requester = Requester { frames };
    let request = scene.request("/bin/sh", &["x", mark]);
    requester.request(&request)?;
    scene.question_about(&request)?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))
}

/// Neither the value nor the number of a handshake's bytes matters.
fn content_ignored(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for bytes in [
        &[0][..],
        &[1],
        &[255],
        &[0, 0],
        &[7; 100],
        b"GET / HTTP/1.1\r\n",
        &[9; 20_000],
    ] {
        let mark = format!("{} bytes of {}", bytes.len(), bytes[0]);
        expect_served(&mut scene, context, bytes, &mark)?;
    }
    scene.finish()
}

/// A request written before the handshake is sent is served.
fn request_before_the_handshake(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let (ours, theirs) = UnixStream::pair()?;
    let patience = context.patience();
    let frames = FrameStream::new(ours, "request stream", context.transcript.clone(), patience)
        .with(Some(scene.shim.counterpart().clone()));
    let mut requester = Requester { frames };
    let request = scene.request("/bin/sh", &["x", "early"]);
    requester.request(&request)?;
    scene.session.socket.datagram(&[0], &[&theirs])?;
    drop(theirs);
    scene.question_about(&request)?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    requester.frames.expect_end("nothing follows Run")?;
    scene.finish()
}

/// The server never sends on the escalation socket.
fn nothing_travels_on_the_socket(context: &mut Context) -> Verdict {
    use nix::sys::socket::{MsgFlags, recv};
    let mut scene = Stage::new(context)?.decide_by_hand();
    for answer in [Answer::Run, Answer::Deny(Some("no".to_owned()))] {
        let request = scene.request("/bin/sh", &["x"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&answer)?;
        requester.frames.expect_frame("a decision")?;
    }
    scene.session.socket.datagram(&[0], &[])?;
    scene.sentinel()?;
    let received = recv(
        scene.session.socket.descriptor().as_raw_fd(),
        &mut [0; 64],
        MsgFlags::MSG_DONTWAIT,
    );
    expect::equal(
        "receiving on the client's end",
        Err(nix::errno::Errno::EAGAIN),
        received,
    )?;
    scene.finish()
}

/// A stream whose open file descriptions are non-blocking is a stream like any other.
fn non_blocking_stream(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    scene.session.socket.datagram(&[0], &[&theirs])?;
    drop(theirs);
    let patience = context.patience();
    let frames = FrameStream::new(ours, "request stream", context.transcript.clone(), patience)
        .with(Some(scene.shim.counterpart().clone()));
    let mut requester = Requester { frames };
    let request = scene.request("/bin/sh", &["x"]);
    let bytes = frame(request.value().to_string().as_bytes());
    requester.frames.send_pieces(&bytes, &[2, 10], &[])?;
    let reason = "r".repeat(1 << 20);
    scene
        .question_about(&request)?
        .answer(&Answer::Deny(Some(reason.clone())))?;
    requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
    scene.finish()
}
