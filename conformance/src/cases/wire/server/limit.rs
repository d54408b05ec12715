//! Lengths at a server: 16 MiB are accepted in every message, and what is over every limit costs four bytes.

use std::os::fd::AsRawFd;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Probe, Program};
use crate::peer::wire::frame;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{null, watched_pipes};
use crate::stage::holdings::largest_address_space;
use crate::stage::server::{Stage, expect_program};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.limit/request-of-16-mib", request_of_16_mib).within_seconds(60),
    case("wire.limit/request-of-16-mib-in-pieces", request_of_16_mib_in_pieces).within_seconds(60),
    case("wire.limit/descriptor-message-of-16-mib", descriptor_message_of_16_mib).within_seconds(60),
    case("wire.limit/signal-frame-of-16-mib", signal_frame_of_16_mib).needs("signals").within_seconds(60),
    case("wire.limit/request-announced-4-gib", request_announced_4_gib),
    case("wire.limit/length-one-byte-at-a-time", length_one_byte_at_a_time),
    case("wire.limit/descriptor-message-announced-4-gib", descriptor_message_announced_4_gib),
    case("wire.limit/signal-frame-announced-4-gib", signal_frame_announced_4_gib).needs("signals"),
]);

/// The payload that every receiver accepts.
const ACCEPTED: usize = 16 << 20;

/// The length that is over every limit.
const TOO_LONG: [u8; 4] = [0xff; 4];

/// The same JSON object, with an unknown member that makes it `length` bytes long.
fn padded(object: &str, length: usize) -> Vec<u8> {
    let head = "{\"padding\":\"";
    let tail = format!("\",{}", &object[1..]);
    let padding = "p".repeat(length - head.len() - tail.len());
    format!("{head}{padding}{tail}").into_bytes()
}

fn expect_asked(scene: &mut Stage, requester: &mut Requester, request: &RequestMessage) -> Verdict {
    let decision = scene.question_about(request)?;
    expect_program("/bin/sh", &decision)?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))
}

/// A request of exactly 16 MiB, and one of a byte less.
fn request_of_16_mib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for length in [ACCEPTED - 1, ACCEPTED] {
        let request = scene.request("/bin/sh", &["sh", &length.to_string()]);
        let mut requester = scene.session.socket.open()?;
        let payload = padded(&request.value().to_string(), length);
        expect::equal("the length of the payload", length, payload.len())?;
        requester.frames.send(&payload, &[])?;
        expect_asked(&mut scene, &mut requester, &request)?;
    }
    scene.finish()
}

/// It comes piece by piece, and others are served while it does.
fn request_of_16_mib_in_pieces(context: &mut Context) -> Verdict {
    const PIECES: usize = 32;
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["sh", "long"]);
    let bytes = frame(&padded(&request.value().to_string(), ACCEPTED));
    let mut requester = scene.session.socket.open()?;
    for (index, piece) in bytes.chunks(bytes.len().div_ceil(PIECES)).enumerate() {
        requester.frames.send_bytes(piece, &[])?;
        if index % 8 == 4 {
            scene.sentinel()?;
        }
    }
    expect_asked(&mut scene, &mut requester, &request)?;
    scene.finish()
}

/// A descriptor message of 16 MiB, whose descriptors came with its first byte.
fn descriptor_message_of_16_mib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["sh", "-c", "exit 7"]);
    let (mut requester, decision) = scene.ask(&request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let null = null()?;
    let numbers = [null.as_raw_fd(); 3];
    requester
        .frames
        .send(&padded("{\"fds\":[0,1,2]}", ACCEPTED), &numbers)?;
    requester.expect_exit_code(7)?;
    scene.finish()
}

/// A child that runs, with signals announced.
fn started(scene: &mut Stage, program: &ConnectedProgram) -> Result<(Requester, Probe), CaseError> {
    let request = scene.request(program.text(), &["child"]);
    let (mut requester, decision) = scene.ask(&request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let null = null()?;
    requester.send_descriptors_with(&[(0, &null), (1, &null), (2, &null)], &[("signals", json!(true))])?;
    let probe = program.accept("the escalated child")?;
    Ok((requester, probe))
}

/// A signal frame of 16 MiB is a signal frame.
fn signal_frame_of_16_mib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let (mut requester, mut child) = started(&mut scene, &program)?;
    child.must(&Order::Watch(vec![libc::SIGUSR1]))?;
    let payload = padded(&json!({"signal": libc::SIGUSR1}).to_string(), ACCEPTED);
    requester.frames.send(&payload, &[])?;
    expect::equal(
        "the signal that came",
        libc::SIGUSR1,
        child.next_signal("the signal of a long frame")?,
    )?;
    child.send(&Order::Exit(3))?;
    requester.expect_exit_code(3)?;
    scene.finish()
}

/// Eight streams that announce 4 GiB each and stay open: each is closed, and none of the memory was ever asked for.
fn request_announced_4_gib(context: &mut Context) -> Verdict {
    const STREAMS: usize = 8;
    /// Less than one of them announces, and far more than a server takes for eight requests.
    const ALLOWED: u64 = 3 << 30;
    let mut scene = Stage::new(context)?.decide_by_hand();
    scene.sentinel()?;
    let shell = [scene.session.probe.report.pid];
    let before = largest_address_space(&scene.shim, &shell);
    let mut requesters = Vec::new();
    for _ in 0..STREAMS {
        let mut requester = scene.session.socket.open()?;
        requester.frames.send_bytes(&TOO_LONG, &[])?;
        requesters.push(requester);
    }
    for requester in &mut requesters {
        requester
            .frames
            .expect_end("it announces 4 GiB, and not another byte will come")?;
    }
    scene.sentinel()?;
    let after = largest_address_space(&scene.shim, &shell);
    expect::that(
        after.saturating_sub(before) < ALLOWED,
        format_args!(
            "an address space of the server (VmPeak) that was never {ALLOWED} bytes larger than before"
        ),
        format_args!("{before} bytes before, {after} bytes after {STREAMS} streams announced 4 GiB each"),
    )?;
    scene.finish()
}

/// Three bytes are not a length yet; after the fourth the server closes the stream.
fn length_one_byte_at_a_time(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let mut requester = scene.session.socket.open()?;
    for byte in &TOO_LONG[..3] {
        requester.frames.send_bytes(&[*byte], &[])?;
        requester.frames.drained()?;
    }
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "three bytes are not a length yet")?;
    requester.frames.send_bytes(&TOO_LONG[3..], &[])?;
    scene.expect_refused(&mut requester, "it announces 4 GiB")?;
    scene.finish()
}

/// In place of a descriptor message: no child, and what came with it is closed.
fn descriptor_message_announced_4_gib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "never", [])?;
    let request = scene.request(program.text(), &["never"]);
    let (mut requester, decision) = scene.ask(&request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let (watch, pipes) = watched_pipes(3)?;
    let numbers: Vec<i32> = pipes.iter().map(AsRawFd::as_raw_fd).collect();
    requester.frames.send_bytes(&TOO_LONG, &numbers)?;
    drop(pipes);
    scene.expect_refused(&mut requester, "the descriptor message announces 4 GiB")?;
    watch.expect_closed("the server", scene.patience())?;
    program.expect_not_started()?;
    scene.finish()
}

/// In place of a signal frame: the stream is closed, and thereby the child ended.
fn signal_frame_announced_4_gib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let (mut requester, mut child) = started(&mut scene, &program)?;
    requester.frames.send_bytes(&TOO_LONG, &[])?;
    scene.expect_refused(&mut requester, "a signal frame announces 4 GiB")?;
    child.expect_gone("the escalated child of a request that was closed")?;
    scene.finish()
}
