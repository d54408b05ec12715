//! Handshakes, descriptors and the shapes of messages, between the suite and a server.

use std::os::fd::{AsRawFd, OwnedFd};

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, Requester};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{FrameStream, frame};
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::{file, null, objects};
use crate::stage::server::{Escalated, Stage, expect_program};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.handshake/content-ignored", content_ignored),
    case("wire.handshake/request-before-the-handshake", request_before_the_handshake),
    case("wire.handshake/nothing-travels-on-the-socket", nothing_travels_on_the_socket),
    case("wire.handshake/non-blocking-stream", non_blocking_stream).at(Level::Hardened),
    case("wire.fds/sixteen", sixteen),
    case("wire.fds/order", order),
    case("wire.fds/each-number", each_number),
    case("wire.json/decision-shapes", decision_shapes),
    case("wire.json/result-shape", result_shape),
    case("wire.json/no-word-before-the-request", no_word_before_the_request),
    case("wire.json/result-only-after-the-end", result_only_after_the_end),
    case("wire.json.unknown/in-the-request", in_the_request),
    case("wire.json.unknown/named-like-others", named_like_others),
    case("wire.json.unknown/in-the-descriptor-message", in_the_descriptor_message),
    case("wire.json.unknown/nested-100-deep", nested_100_deep),
    case("wire.json.unknown/nested-500-deep", nested_500_deep).at(Level::Hardened),
]);

/// A stream that is handed over with a datagram of these bytes is served.
fn expect_served(scene: &mut Stage, context: &Context, bytes: &[u8], mark: &str) -> Verdict {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    scene.session.socket.datagram(bytes, &[&theirs])?;
    drop(theirs);
    let patience = context.patience();
    let frames = FrameStream::new(ours, "request stream", context.transcript.clone(), patience);
    let mut requester = Requester { frames };
    let request = scene.request("/bin/sh", &["x", mark]);
    requester.request(&request)?;
    scene.question_about(&request)?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))
}

/// A handshake's bytes mean nothing: not their value and not their number.
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

/// A request that lies in the stream before the handshake is sent is found there.
fn request_before_the_handshake(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let patience = context.patience();
    let frames = FrameStream::new(ours, "request stream", context.transcript.clone(), patience);
    let mut requester = Requester { frames };
    let request = scene.request("/bin/sh", &["x", "early"]);
    requester.request(&request)?;
    scene.session.socket.datagram(&[0], &[&theirs])?;
    drop(theirs);
    scene.question_about(&request)?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    requester.frames.expect_end("after Run nothing more is said")?;
    scene.finish()
}

/// The server never sends towards the client's end.
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
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    scene.session.socket.datagram(&[0], &[&theirs])?;
    drop(theirs);
    let patience = context.patience();
    let frames = FrameStream::new(ours, "request stream", context.transcript.clone(), patience);
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

/// Escalates a program with a file for each number and demands that each number is its own file in the child.
fn expect_placed(context: &Context, scene: &mut Stage, numbers: &[i64]) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let files = numbers
        .iter()
        .map(|number| file(context, &format!("file-{}-{number}", context.next_number()), ""))
        .collect::<Result<Vec<_>, _>>()?;
    let placements: Vec<(i64, &dyn AsFdObject)> = numbers
        .iter()
        .zip(&files)
        .map(|(number, file)| (*number, file as &dyn AsFdObject))
        .collect();
    let request = scene.request(program.text(), &["program"]);
    scene
        .escalate_request(&request, &placements)?
        .expect_exit_code(0)?;
    let report = program.only_start()?;
    for (number, file) in numbers.iter().zip(&files) {
        let metadata = file.metadata()?;
        let held = i32::try_from(*number)
            .ok()
            .and_then(|number| report.descriptor(number))
            .map(|descriptor| descriptor.identity);
        expect::equal(
            &format!("device and inode of descriptor {number} of the child, for fds {numbers:?}"),
            Some((metadata.dev(), metadata.ino())),
            held,
        )?;
    }
    Ok(())
}

/// Sixteen descriptors with one message.
fn sixteen(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let numbers: Vec<i64> = (0..16).collect();
    expect_placed(context, &mut scene, &numbers)?;
    scene.finish()
}

/// The first number is the first descriptor's, whatever the order of the numbers.
fn order(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for numbers in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        expect_placed(context, &mut scene, &numbers)?;
    }
    scene.finish()
}

/// A number is not a position: there may be numbers beyond the standard streams, in any order.
fn each_number(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for numbers in [&[0, 1, 2, 5][..], &[2, 1, 0, 9, 3]] {
        expect_placed(context, &mut scene, numbers)?;
    }
    scene.finish()
}

/// The decisions in exactly their spellings; `reason` is there also where it is null.
fn decision_shapes(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let table = [
        (Answer::Run, json!("Run")),
        (Answer::Escalate, json!("Escalate")),
        (Answer::Deny(Some("no".to_owned())), json!({"reason": "no"})),
        (Answer::Deny(None), json!({"reason": null})),
    ];
    for (answer, shape) in table {
        let request = scene.request("/bin/sh", &["x"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&answer)?;
        let message = requester.frames.expect_frame("the decision")?.json()?;
        let denial = message["action"].get("Deny").and_then(Value::as_object);
        let found = match (&answer, denial) {
            (Answer::Deny(_), Some(members)) if members.contains_key("reason") => {
                json!({"reason": members["reason"]})
            }
            (Answer::Deny(_), _) => {
                return Err(violation("an action {\"Deny\":{\"reason\":…}}", &message));
            }
            _ => message["action"].clone(),
        };
        expect::equal("the action of the decision", &shape, &found)?;
    }
    scene.finish()
}

/// The result is an object whose `exit_code` is an integer.
fn result_shape(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for code in [0, 3, 255] {
        let request = scene.request("/bin/sh", &["sh", "-c", &format!("exit {code}")]);
        let mut requester = scene.escalate_quietly(&request)?;
        let message = requester.frames.expect_frame("the result")?.json()?;
        expect::that(message.is_object(), "a result that is an object", &message)?;
        // Compared as JSON: 3.0 and "3" are no integer 3.
        expect::equal("exit_code of the result", &json!(code), &message["exit_code"])?;
    }
    scene.finish()
}

/// Before the request is complete the server says nothing.
fn no_word_before_the_request(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["x", "in two parts"]);
    let bytes = frame(request.value().to_string().as_bytes());
    let mut requester = scene.session.socket.open()?;
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "there is no request yet")?;
    requester.frames.send_bytes(&bytes[..30], &[])?;
    requester.frames.drained()?;
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "there is half a request")?;
    requester.frames.send_bytes(&bytes[30..], &[])?;
    let decision = scene.question_about(&request)?;
    scene.expect_nothing_yet(&requester, "there is no decision yet")?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    scene.finish()
}

/// The result isn't there before the child has ended.
fn result_only_after_the_end(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        mut child,
    } = scene.start(&program)?;
    scene.sentinel()?;
    scene.expect_nothing_yet(&requester, "the child runs")?;
    child.send(&Order::Exit(11))?;
    requester.expect_exit_code(11)?;
    scene.finish()
}

/// Values of every type that unknown members can have.
const UNKNOWN: [&str; 12] = [
    "null",
    "true",
    "0",
    "-1.5e300",
    "1e400",
    "123456789012345678901234567890",
    "\"text\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[1,[2,{\"a\":null}]]",
    "{\"file\":\"/bin/other\",\"argv\":[\"other\"]}",
];

/// Sends a request whose members have `before` and `after` around them, and demands that it is understood.
fn expect_understood_with(scene: &mut Stage, before: &str, after: &str) -> Verdict {
    let request = scene.request("/bin/sh", &["x", "y"]).variable("K", "V");
    let text = request.value().to_string();
    let members = &text[1..text.len() - 1];
    let mut requester = scene.session.socket.open()?;
    let payload = format!("{{{before}{members}{after}}}");
    requester.frames.send(payload.as_bytes(), &[])?;
    let decision = scene.question_about(&request)?;
    expect_program("/bin/sh", &decision)?;
    expect::equal("workdir", &scene.directory, &decision.question.directory)?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))
}

/// Unknown members of every type, before and after the known ones.
fn in_the_request(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for value in UNKNOWN {
        expect_understood_with(
            &mut scene,
            &format!("\"unknown\":{value},"),
            &format!(",\"\":{value},\"x y\":{value}"),
        )?;
    }
    scene.finish()
}

/// Members whose names are those of other messages, or almost those of the request, are unknown too.
fn named_like_others(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let names = [
        "fds",
        "action",
        "exit_code",
        "signal",
        "signals",
        "File",
        "FILE",
        "file ",
        "args",
        "cwd",
        "version",
        "id",
    ];
    for name in names {
        let member = format!("{}:[\"/bin/other\"]", json!(name));
        expect_understood_with(&mut scene, &format!("{member},"), "")?;
        expect_understood_with(&mut scene, "", &format!(",{member}"))?;
    }
    scene.finish()
}

/// Unknown members of the descriptor message.
fn in_the_descriptor_message(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let null: OwnedFd = null()?.into();
    for value in UNKNOWN {
        let request = scene.request("/bin/sh", &["sh", "-c", "exit 5"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let payload = format!("{{\"unknown\":{value},\"fds\":[0,1,2],\"future\":{value}}}");
        let numbers: Vec<i32> = objects(std::slice::from_ref(&null))
            .iter()
            .cycle()
            .take(3)
            .map(|object| object.number())
            .collect();
        requester.frames.send(payload.as_bytes(), &numbers)?;
        requester.expect_exit_code(5)?;
    }
    scene.finish()
}

fn expect_nested(scene: &mut Stage, depth: usize) -> Verdict {
    let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!("{}null{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for value in [arrays, objects] {
        expect_understood_with(scene, &format!("\"deep\":{value},"), "")?;
        expect_understood_with(scene, "", &format!(",\"deep\":{value}"))?;
    }
    Ok(())
}

/// Unknown members that are nested 100 deep.
fn nested_100_deep(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    expect_nested(&mut scene, 100)?;
    scene.finish()
}

/// Unknown members that are nested 500 deep.
fn nested_500_deep(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    expect_nested(&mut scene, 499)?;
    expect_nested(&mut scene, 500)?;
    scene.finish()
}
