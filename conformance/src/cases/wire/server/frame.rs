//! Frames between the suite and a server: lengths, spellings, pieces, and several in one write.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{Received, frame};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::{file, null};
use crate::stage::server::{Stage, expect_program};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.frame/decisions", decisions),
    case("wire.frame/result", result),
    case("wire.frame/reason-of-300-kib", reason_of_300_kib),
    case("wire.frame/reason-to-a-slow-reader", reason_to_a_slow_reader),
    case("wire.frame/request-pretty-printed", request_pretty_printed),
    case("wire.frame/request-in-another-order", request_in_another_order),
    case("wire.frame/request-with-escapes", request_with_escapes),
    case("wire.frame/request-of-one-mib", request_of_one_mib),
    case("wire.frame/descriptor-message-pretty-printed", descriptor_message_pretty_printed),
    case("wire.frame.split/request-one-byte-at-a-time", request_one_byte_at_a_time),
    case("wire.frame.split/request-within-the-length", request_within_the_length),
    case("wire.frame.split/descriptor-byte-alone", descriptor_byte_alone),
    case("wire.frame.split/within-a-character", within_a_character),
    case("wire.frame.split/a-pause-of-four-seconds", a_pause_of_four_seconds).within_seconds(60),
    case("wire.frame.split/at-random-cuts", at_random_cuts).within_seconds(90),
    case("wire.frame.joined/descriptor-message-and-harmless-signal", descriptor_message_and_harmless_signal),
    case("wire.frame.joined/descriptor-message-and-signal", descriptor_message_and_signal).at(Level::Faithful).needs("signals"),
    case("wire.frame.joined/signal-frames-in-one-write", signal_frames_in_one_write).at(Level::Faithful).needs("signals"),
    case("wire.frame.joined/a-frame-and-a-half", a_frame_and_a_half).at(Level::Faithful).needs("signals"),
]);

/// Sends `payload` as a request and demands that the policy is asked with the values of `meant`.
fn expect_understood(scene: &mut Stage, payload: &[u8], meant: &RequestMessage) -> Verdict {
    let mut requester = scene.session.socket.open()?;
    requester.frames.send(payload, &[])?;
    expect_asked(scene, &mut requester, meant)
}

fn expect_asked(scene: &mut Stage, requester: &mut Requester, meant: &RequestMessage) -> Verdict {
    let decision = scene.question_about(meant)?;
    let meant = meant.value();
    expect_program(meant["file"].as_str().unwrap_or_default(), &decision)?;
    expect::equal("workdir", &meant["workdir"], &json!(decision.question.directory))?;
    if let Some(environment) = decision.question.params.get("env") {
        expect::equal("env", &meant["env"], environment)?;
    }
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))
}

/// Each decision is one frame, of just the announced length, and after Run and Deny nothing follows.
fn decisions(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let denial = Answer::Deny(Some("ü–😀".to_owned()));
    for answer in [Answer::Run, denial, Answer::Deny(None), Answer::Escalate] {
        let request = scene.request("/bin/sh", &["x"]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&answer)?;
        let message = requester.frames.expect_frame("the decision")?.json()?;
        expect::that(
            message.is_object(),
            "a decision that is one JSON object",
            &message,
        )?;
        if answer == Answer::Escalate {
            scene.sentinel()?;
            scene.expect_nothing_yet(&requester, "after Escalate it is the wrapper's turn")?;
        } else {
            requester
                .frames
                .expect_end("after Run and Deny nothing more is said")?;
        }
    }
    scene.finish()
}

/// The result is one frame too.
fn result(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["sh", "-c", "exit 42"]);
    let mut requester = scene.escalate_quietly(&request)?;
    requester.expect_exit_code(42)?;
    scene.sentinel()?;
    match requester.frames.receive_within(Duration::ZERO)? {
        Received::End { bytes: 0 } | Received::Silence { bytes: 0 } => scene.finish(),
        other => Err(violation("nothing after the frame of the result", shown(&other))),
    }
}

fn long_reason() -> String {
    (0..).map(|line| format!("{line:>9}\n")).take(30 << 10).collect()
}

/// A reason of 300 KiB comes in one frame, complete.
fn reason_of_300_kib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["x"]);
    let (mut requester, decision) = scene.ask(&request)?;
    let reason = long_reason();
    decision.answer(&Answer::Deny(Some(reason.clone())))?;
    requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
    requester.frames.expect_end("after Deny nothing more is said")?;
    scene.finish()
}

/// A wrapper that reads slowly gets all of it, and no other wrapper waits for that one.
fn reason_to_a_slow_reader(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["x"]);
    let (mut requester, decision) = scene.ask(&request)?;
    let reason = long_reason().repeat(3);
    decision.answer(&Answer::Deny(Some(reason.clone())))?;
    // Far more than a socket holds: the server must wait for this wrapper while it serves the sentinel.
    scene.sentinel()?;
    requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
    scene.finish()
}

/// White space in and around the value is part of the payload.
fn request_pretty_printed(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let meant = scene.request("/bin/sh", &["sh", "a b", ""]).variable("A", "1");
    let pretty = serde_json::to_string_pretty(&meant.value())?;
    for payload in [
        pretty.clone(),
        format!(" \t\r\n{pretty}\n\n \t"),
        pretty.replace('\n', "\r\n\t "),
    ] {
        expect_understood(&mut scene, payload.as_bytes(), &meant)?;
    }
    scene.finish()
}

/// The order of members is free.
fn request_in_another_order(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let meant = scene.request("/bin/sh", &["sh", "x"]).variable("A", "1");
    let value = meant.value();
    let members: Vec<String> = ["file", "argv", "workdir", "env"]
        .iter()
        .map(|name| format!("{}:{}", json!(name), value[*name]))
        .collect();
    for order in [[3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let members: Vec<&str> = order.iter().map(|index| members[*index].as_str()).collect();
        let payload = format!("{{{}}}", members.join(","));
        expect_understood(&mut scene, payload.as_bytes(), &meant)?;
    }
    scene.finish()
}

/// Characters may be escaped or not: in names and values, with surrogate pairs, with any case of the digits.
fn request_with_escapes(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let meant = scene
        .request("/bin/sh", &["sh", "ü–😀", "a/b\n\"\\"])
        .variable("K", "€");
    let workdir = json!(scene.directory).to_string();
    let payloads = [
        format!(
            r#"{{"\u0066ile":"\/bin\/s\u0068","\u0061\u0072gv":["sh","\u00fc\u2013\ud83d\ude00","a\/b\u000a\u0022\u005c"],"workdir":{workdir},"env":{{"\u004b":"\u20AC"}}}}"#
        ),
        format!(
            r#"{{"file":"/bin/sh","argv":["sh","ü–😀","a/b\n\"\\"],"workdir":{workdir},"env":{{"K":"€"}}}}"#
        ),
    ];
    for payload in payloads {
        expect_understood(&mut scene, payload.as_bytes(), &meant)?;
    }
    scene.finish()
}

/// A request of 1 MiB is one message.
fn request_of_one_mib(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let meant = (0..16).fold(scene.request("/bin/sh", &["sh"]), |request, index| {
        request.variable(&format!("BIG_{index}"), &"v".repeat(64 << 10))
    });
    expect_understood(&mut scene, meant.value().to_string().as_bytes(), &meant)?;
    scene.finish()
}

/// The descriptor message may be spelled in any way too.
fn descriptor_message_pretty_printed(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    for payload in ["{\n  \"fds\" : [ 1 ,\r\n\t2 ] }\n", r#" {"\u0066ds":[1,2]}"#] {
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let (output, output_writer) = pipe()?;
        let (error, error_writer) = pipe()?;
        let numbers = [&output_writer, &error_writer].map(std::os::fd::AsRawFd::as_raw_fd);
        requester.frames.send(payload.as_bytes(), &numbers)?;
        drop((output_writer, error_writer));
        requester.expect_exit_code(7)?;
        let deadline = Moment::now() + context.patience();
        for (pipe, text) in [(output, "out\n"), (error, "err\n")] {
            let bytes = crate::peer::wire::read_to_end(pipe, deadline)?.unwrap_or_default();
            expect::equal("what the child wrote", text, &*String::from_utf8_lossy(&bytes))?;
        }
    }
    scene.finish()
}

/// Every byte of a request comes alone, the length's included.
fn request_one_byte_at_a_time(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let meant = scene.request("/bin/sh", &["sh", "ü–😀"]);
    let bytes = frame(meant.value().to_string().as_bytes());
    let mut requester = scene.session.socket.open()?;
    let cuts: Vec<usize> = (1..bytes.len()).collect();
    requester.frames.send_pieces(&bytes, &cuts, &[])?;
    expect_asked(&mut scene, &mut requester, &meant)?;
    scene.finish()
}

/// A cut within the four bytes of the length, and one right after them.
fn request_within_the_length(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for cut in 1..=5 {
        let meant = scene.request("/bin/sh", &["sh", &cut.to_string()]);
        let bytes = frame(meant.value().to_string().as_bytes());
        let mut requester = scene.session.socket.open()?;
        requester.frames.send_pieces(&bytes, &[cut], &[])?;
        // The server has taken the first piece and had all the time of a whole request for it.
        let mut whole = scene.session.socket.open()?;
        whole.request(&scene.request("/bin/sh", &["whole"]))?;
        for _ in 0..2 {
            let decision = scene.shim.next_decision()?;
            let arguments = decision.question.arguments.clone();
            decision.answer(&Answer::Deny(Some(arguments.join(" "))))?;
        }
        whole.expect_action(&json!({"Deny": {"reason": "whole"}}))?;
        requester.expect_action(&json!({"Deny": {"reason": format!("sh {cut}")}}))?;
    }
    scene.finish()
}

/// The first byte of the descriptor message brings the descriptors, and every other byte comes alone.
fn descriptor_byte_alone(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [Act::Copy, Act::Exit(8)])?;
    let request = scene.request(program.text(), &["program"]);
    let (mut requester, decision) = scene.ask(&request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let input = file(context, "input", "copied")?;
    let (output, output_writer) = pipe()?;
    let bytes = frame(br#"{"fds":[0,1]}"#);
    let cuts: Vec<usize> = (1..bytes.len()).collect();
    let numbers = [&input, &output_writer].map(std::os::fd::AsRawFd::as_raw_fd);
    requester.frames.send_pieces(&bytes, &cuts, &numbers)?;
    drop(output_writer);
    requester.expect_exit_code(8)?;
    let deadline = Moment::now() + context.patience();
    let copied = crate::peer::wire::read_to_end(output, deadline)?.unwrap_or_default();
    expect::equal(
        "what the child wrote",
        "copied",
        &*String::from_utf8_lossy(&copied),
    )?;
    scene.finish()
}

/// Cuts within characters and escapes of a request.
fn within_a_character(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let meant = scene.request("/bin/sh", &["ü", "😀"]);
    let workdir = json!(scene.directory);
    let text = format!(r#"{{"argv":["ü","\ud83d\ude00"],"file":"/bin/sh","workdir":{workdir},"env":{{}}}}"#);
    let bytes = frame(text.as_bytes());
    let character = 4 + text.find('ü').unwrap_or_default();
    let pair = 4 + text.find("\\ud83d").unwrap_or_default();
    for cuts in [vec![character + 1], vec![pair + 1, pair + 3, pair + 6, pair + 9]] {
        let mut requester = scene.session.socket.open()?;
        requester.frames.send_pieces(&bytes, &cuts, &[])?;
        expect_asked(&mut scene, &mut requester, &meant)?;
    }
    scene.finish()
}

/// Pauses of up to 5 seconds between pieces are nothing to give up for, in the length and in the payload.
fn a_pause_of_four_seconds(context: &mut Context) -> Verdict {
    const PAUSE: Duration = Duration::from_secs(4);
    let mut scene = Stage::new(context)?.decide_by_hand();
    let mut halves = Vec::new();
    for (index, cut) in [2, 4, 20].into_iter().enumerate() {
        let meant = scene.request("/bin/sh", &["sh", &index.to_string()]);
        let bytes = frame(meant.value().to_string().as_bytes());
        let mut requester = scene.session.socket.open()?;
        requester.frames.send_bytes(&bytes[..cut], &[])?;
        halves.push((requester, meant, bytes[cut..].to_vec()));
    }
    match halves[0].0.frames.receive_within(PAUSE)? {
        Received::Silence { .. } => {}
        other => {
            return Err(violation(
                format_args!("the server waits for the rest for {PAUSE:?}"),
                shown(&other),
            ));
        }
    }
    for (mut requester, meant, rest) in halves {
        requester.frames.send_bytes(&rest, &[])?;
        expect_asked(&mut scene, &mut requester, &meant)?;
    }
    scene.finish()
}

/// A request and a descriptor message at random cuts do what they do uncut.
fn at_random_cuts(context: &mut Context) -> Verdict {
    let scene = std::cell::RefCell::new(Stage::new(context)?.decide_by_hand());
    let strategy = (
        prop::collection::vec(1_usize..200, 0..6),
        prop::collection::vec(1_usize..20, 0..4),
        0_i64..256,
    );
    crate::case::property::holds(
        context,
        &strategy,
        |(mut request_cuts, mut descriptor_cuts, code)| {
            let mut scene = scene.borrow_mut();
            request_cuts.sort_unstable();
            descriptor_cuts.sort_unstable();
            let meant = scene.request("/bin/sh", &["sh", "-c", "exit \"$0\"", &code.to_string()]);
            let bytes = frame(meant.value().to_string().as_bytes());
            let mut requester = scene.session.socket.open()?;
            requester.frames.send_pieces(&bytes, &request_cuts, &[])?;
            scene.question_about(&meant)?.answer(&Answer::Escalate)?;
            requester.expect_action(&json!("Escalate"))?;
            let null = null()?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&null);
            let bytes = frame(br#"{"fds":[0,1,2]}"#);
            requester
                .frames
                .send_pieces(&bytes, &descriptor_cuts, &[number; 3])?;
            requester.expect_exit_code(code)
        },
    )?;
    scene.into_inner().finish()
}

fn escalated_up_to_the_descriptors(
    scene: &mut Stage,
    request: &RequestMessage,
) -> Result<Requester, crate::verdict::CaseError> {
    let (mut requester, decision) = scene.ask(request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    Ok(requester)
}

/// Sends frames in one write, with /dev/null three times.
fn send_joined(requester: &mut Requester, payloads: &[&str]) -> Verdict {
    let null = null()?;
    let bytes: Vec<u8> = payloads
        .iter()
        .flat_map(|payload| frame(payload.as_bytes()))
        .collect();
    let number = std::os::fd::AsRawFd::as_raw_fd(&null);
    requester.frames.send_bytes(&bytes, &[number; 3])
}

/// The descriptor message and a signal that does nothing to a running child, in one write: two messages, so the
/// child starts and its result comes. A server without the extension ignores the second one.
fn descriptor_message_and_harmless_signal(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let request = scene.request("/bin/sh", &["sh", "-c", "exit 9"]);
    let mut requester = escalated_up_to_the_descriptors(&mut scene, &request)?;
    let signal = json!({"signal": libc::SIGCONT}).to_string();
    send_joined(&mut requester, &[r#"{"fds":[0,1,2],"signals":true}"#, &signal])?;
    requester.expect_exit_code(9)?;
    scene.finish()
}

/// The descriptor message and a deadly signal in one write: the signal isn't lost.
fn descriptor_message_and_signal(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let request = scene.request(program.text(), &["child"]);
    let mut requester = escalated_up_to_the_descriptors(&mut scene, &request)?;
    let signal = json!({"signal": libc::SIGUSR1}).to_string();
    send_joined(&mut requester, &[r#"{"fds":[0,1,2],"signals":true}"#, &signal])?;
    let result = requester.result()?;
    expect::equal(
        "exit_code of a child that SIGUSR1 killed",
        &json!(128 + libc::SIGUSR1),
        &result["exit_code"],
    )?;
    scene.finish()
}

/// Three signal frames in one write are three signals.
fn signal_frames_in_one_write(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let request = scene.request(program.text(), &["child"]);
    let mut requester = escalated_up_to_the_descriptors(&mut scene, &request)?;
    send_joined(&mut requester, &[r#"{"fds":[0,1,2],"signals":true}"#])?;
    let mut child = program.accept("the escalated child")?;
    let signals = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM];
    child.must(&Order::Watch(signals.to_vec()))?;
    let bytes: Vec<u8> = signals
        .iter()
        .flat_map(|signal| frame(json!({"signal": signal}).to_string().as_bytes()))
        .collect();
    requester.frames.send_bytes(&bytes, &[])?;
    let mut seen = Vec::new();
    for _ in signals {
        seen.push(child.next_signal("each of three signals")?);
    }
    seen.sort_unstable();
    let mut expected = signals.to_vec();
    expected.sort_unstable();
    expect::equal("signals that reached the child", expected, seen)?;
    child.send(&Order::Exit(3))?;
    requester.expect_exit_code(3)?;
    scene.finish()
}

/// One signal frame and the beginning of another in one write, and the rest when the first has had its effect.
fn a_frame_and_a_half(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let request = scene.request(program.text(), &["child"]);
    let mut requester = escalated_up_to_the_descriptors(&mut scene, &request)?;
    send_joined(&mut requester, &[r#"{"fds":[0,1,2],"signals":true}"#])?;
    let mut child = program.accept("the escalated child")?;
    child.must(&Order::Watch(vec![libc::SIGUSR1, libc::SIGUSR2]))?;
    let frames: Vec<u8> = [libc::SIGUSR1, libc::SIGUSR2]
        .iter()
        .flat_map(|signal| frame(json!({"signal": signal}).to_string().as_bytes()))
        .collect();
    let cut = frames.len() / 2 + 6;
    requester.frames.send_bytes(&frames[..cut], &[])?;
    expect::equal("first signal", libc::SIGUSR1, child.next_signal("SIGUSR1")?)?;
    requester.frames.send_bytes(&frames[cut..], &[])?;
    expect::equal("second signal", libc::SIGUSR2, child.next_signal("SIGUSR2")?)?;
    child.send(&Order::Exit(3))?;
    requester.expect_exit_code(3)?;
    scene.finish()
}
