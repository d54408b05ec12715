//! Signal frames: delivered to the escalated child's process group, and to no other process.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{Received, frame};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, fork};
use crate::stage::server::{Escalated, Stage};
use crate::stage::signals::{OF_THE_LIBRARY, expect_killed, is_deadly, stop, stopped_within};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.signal-frame/to-the-group", to_the_group).needs("signals"),
    case("server.signal-frame/to-its-own-child-only", to_its_own_child_only).needs("signals"),
    case("server.signal-frame/in-order-each", in_order_each).needs("signals"),
    case("server.signal-frame/every-number", every_number).needs("signals").within_seconds(60),
    case("server.signal-frame/many", many).needs("signals"),
    case("server.signal-frame/joined-in-one-write", joined_in_one_write).needs("signals"),
    case("server.signal-frame/in-pieces", in_pieces).needs("signals"),
    case("server.signal-frame/right-after-the-descriptors", right_after_the_descriptors).needs("signals"),
    case("server.signal-frame/to-a-stopped-child", to_a_stopped_child).needs("signals"),
    case("server.signal-frame/impossible-numbers", impossible_numbers).needs("signals"),
    case("server.signal-frame/after-the-end", after_the_end).needs("signals"),
    case("server.signal-frame/without-the-extension", without_the_extension),
]);

/// Escalates a child for a wrapper that announces the extension.
fn escalate(stage: &mut Stage, program: &ConnectedProgram) -> Result<Escalated, CaseError> {
    stage.escalate_with(program, &[], &[("signals", Value::Bool(true))])
}

/// A child and its grandchild in the same group both get the signal.
fn to_the_group(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    let mut grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    escalated.child.must(&Order::Watch(vec![libc::SIGUSR1]))?;
    grandchild.must(&Order::Watch(vec![libc::SIGUSR1]))?;
    escalated.requester.signal(libc::SIGUSR1)?;
    let of_child = escalated.child.next_signal("SIGUSR1 to the child")?;
    expect::equal("the child's signal", libc::SIGUSR1, of_child)?;
    let of_grandchild = grandchild.next_signal("SIGUSR1 to the rest of its group")?;
    expect::equal("the grandchild's signal", libc::SIGUSR1, of_grandchild)?;
    drop(grandchild);
    escalated.exit(0)?;
    stage.finish()
}

/// The children of other requests, of the same session and of another, get nothing.
fn to_its_own_child_only(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut first = escalate(&mut stage, &program)?;
    let mut second = escalate(&mut stage, &program)?;
    let main = std::mem::replace(&mut stage.session, stage.shim.probe_session(context, "another")?);
    let mut third = escalate(&mut stage, &program)?;
    for child in [&mut first, &mut second, &mut third] {
        child
            .child
            .must(&Order::Watch(vec![libc::SIGUSR1, libc::SIGUSR2]))?;
    }
    first.requester.signal(libc::SIGUSR1)?;
    first.child.next_signal("SIGUSR1")?;
    for other in [&mut second, &mut third] {
        other.requester.signal(libc::SIGUSR2)?;
        expect::equal(
            "the first signal of a child of another request",
            libc::SIGUSR2,
            other.child.next_signal("SIGUSR2")?,
        )?;
    }
    for child in [first, second, third] {
        child.exit(0)?;
    }
    drop(main);
    stage.finish()
}

/// The signals that a wrapper forwards, one after the other.
fn in_order_each(context: &mut Context) -> Verdict {
    let signals = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        libc::SIGTSTP,
        libc::SIGCONT,
    ];
    expect_each(context, &signals, 1)
}

/// Each signal that a process can watch, real-time ones included.
fn expect_each(context: &Context, signals: &[i32], rounds: usize) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    escalated.child.must(&Order::Watch(signals.to_vec()))?;
    for _ in 0..rounds {
        for signal in signals {
            escalated.requester.signal(*signal)?;
            let seen = escalated.child.next_signal(&format!("signal {signal}"))?;
            expect::equal("the child's next signal", *signal, seen)?;
        }
    }
    escalated.exit(0)?;
    stage.finish()
}

/// Each number from 1 to 64, but for the C library's own, has the effect of that signal on a plain child.
fn every_number(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for signal in (1..=64).filter(|signal| !OF_THE_LIBRARY.contains(signal)) {
        let mut escalated = escalate(&mut stage, &program)?;
        if is_deadly(signal) {
            escalated.requester.signal(signal)?;
            expect_killed(&escalated.requester.result()?, signal)?;
            continue;
        }
        if signal == libc::SIGSTOP {
            escalated.requester.signal(signal)?;
            expect::that(
                stopped_within(escalated.child.report.pid, context.patience()),
                "a frame with SIGSTOP stops the child",
                "it is not stopped",
            )?;
            escalated.requester.signal(libc::SIGKILL)?;
            expect_last_message_is_killed(&mut escalated)?;
            continue;
        }
        // Signals that do nothing to a plain child or, in a group without a shell, may do nothing.
        escalated.child.must(&Order::Watch(vec![signal]))?;
        escalated.requester.signal(signal)?;
        let seen = escalated.child.next_signal(&format!("signal {signal}"))?;
        expect::equal("the child's signal", signal, seen)?;
        escalated.exit(0)?;
    }
    stage.finish()
}

/// The result of a child killed by SIGKILL, after any number of stopped messages.
fn expect_last_message_is_killed(escalated: &mut Escalated) -> Verdict {
    loop {
        let message = escalated
            .requester
            .frames
            .expect_frame("stopped messages and the result")?
            .json()?;
        if message.get("stopped").is_none() {
            return expect_killed(&message, libc::SIGKILL);
        }
    }
}

/// Two hundred frames for one child, each of which arrives.
fn many(context: &mut Context) -> Verdict {
    expect_each(context, &[libc::SIGUSR1, libc::SIGUSR2, 34, 64], 50)
}

/// A hundred frames in one write: real-time signals are queued, so each of them arrives.
fn joined_in_one_write(context: &mut Context) -> Verdict {
    const FRAMES: usize = 100;
    const REAL_TIME: i32 = 40;
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    escalated.child.must(&Order::Watch(vec![REAL_TIME]))?;
    let one = frame(json!({"signal": REAL_TIME}).to_string().as_bytes());
    escalated.requester.frames.send_bytes(&one.repeat(FRAMES), &[])?;
    for number in 1..=FRAMES {
        let seen = escalated
            .child
            .next_signal(&format!("frame {number} of {FRAMES} in one write"))?;
        expect::equal("the child's signal", REAL_TIME, seen)?;
    }
    escalated.exit(0)?;
    stage.finish()
}

/// A frame that arrives byte by byte.
fn in_pieces(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    escalated.child.must(&Order::Watch(vec![libc::SIGUSR1]))?;
    let bytes = frame(b"{\"signal\":10}");
    let cuts: Vec<usize> = (1..bytes.len()).collect();
    escalated.requester.frames.send_pieces(&bytes, &cuts, &[])?;
    escalated.child.next_signal("a frame in pieces")?;
    escalated.exit(0)?;
    stage.finish()
}

/// A frame in the same write as the descriptor message isn't lost, however early it comes. Thirty times.
fn right_after_the_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for _ in 0..30 {
        let mut requester = stage.granted(&stage.request_for(program.text()))?;
        let mut bytes = frame(b"{\"fds\":[],\"signals\":true}");
        bytes.extend(frame(b"{\"signal\":15}"));
        requester.frames.send_bytes(&bytes, &[])?;
        expect_killed(&requester.result()?, libc::SIGTERM)?;
    }
    stage.finish()
}

/// SIGTERM and SIGCONT to a stopped child end it.
fn to_a_stopped_child(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    // The wrapper announced `signals`, so stopped messages may come here.
    let mut escalated = escalate(&mut stage, &program)?;
    stop(&escalated.child.process()?, context.patience())?;
    escalated.requester.signal(libc::SIGTERM)?;
    escalated.requester.signal(libc::SIGCONT)?;
    loop {
        let message = escalated
            .requester
            .frames
            .expect_frame("stopped messages and the result")?
            .json()?;
        if message.get("stopped").is_none() {
            expect_killed(&message, libc::SIGTERM)?;
            break;
        }
    }
    stage.finish()
}

/// A number that isn't a signal has no effect on any process: the child, another child, the server.
fn impossible_numbers(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let all: Vec<i32> = (1..=64)
        .filter(|signal| !OF_THE_LIBRARY.contains(signal))
        .filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
        .collect();
    let mut bystander = escalate(&mut stage, &program)?;
    bystander.child.must(&Order::Watch(all.clone()))?;
    let texts = [
        "0",
        "-1",
        "65",
        "127",
        "128",
        "1000",
        "-15",
        "-9",
        "2147483647",
        "2147483648",
        "4294967311",
        "-4294967281",
        "18446744073709551631",
        "1000000000000000000000000000015",
    ];
    for text in texts {
        let mut escalated = escalate(&mut stage, &program)?;
        let child = escalated.child.process()?;
        escalated.child.must(&Order::Watch(all.clone()))?;
        escalated
            .requester
            .frames
            .send(format!("{{\"signal\":{text}}}").as_bytes(), &[])?;
        // Either the frame is ignored, and the next one arrives; or it is malformed, and the stream is closed.
        let next = frame(b"{\"signal\":10}");
        let sent = escalated.requester.frames.try_send_bytes(&next, &[]);
        if sent.is_ok()
            && let Ok(signal) = escalated.child.next_signal("the next frame")
        {
            expect::equal(
                &format!("the signal after a frame with {text}"),
                libc::SIGUSR1,
                signal,
            )?;
            escalated.exit(0)?;
        } else {
            escalated.requester.frames.expect_end(&format!(
                "a frame with {text} was malformed, as no signal arrived"
            ))?;
            child.expect_end("the child of a closed stream", context.patience())?;
        }
        stage.sentinel()?;
    }
    bystander.requester.signal(libc::SIGUSR2)?;
    expect::equal(
        "the first signal of another request's child",
        libc::SIGUSR2,
        bystander.child.next_signal("SIGUSR2")?,
    )?;
    bystander.exit(0)?;
    stage.finish()
}

/// A frame that comes when the child has ended harms no other process, and the result comes. Thirty times.
fn after_the_end(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for status in 0..30 {
        let mut escalated = escalate(&mut stage, &program)?;
        let process = escalated.child.process()?;
        escalated.child.send(&Order::Exit(status))?;
        process.expect_end("the child", context.patience())?;
        // The server may have closed its end by now.
        let _ = escalated
            .requester
            .frames
            .try_send_bytes(&frame(b"{\"signal\":15}"), &[]);
        escalated.requester.expect_exit_code(status.into())?;
    }
    stage.sentinel()?;
    stage.finish()
}

/// A server without the extension ignores the announcement and what arrives afterwards.
fn without_the_extension(context: &mut Context) -> Verdict {
    if context.has_capability("signals") {
        return Err(CaseError::NotApplicable(
            "the shim names the capability 'signals'".to_owned(),
        ));
    }
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    escalated.requester.signal(libc::SIGTERM)?;
    stage.sentinel()?;
    escalated.child.report_again()?;
    escalated.child.send(&Order::Exit(6))?;
    match escalated.requester.frames.receive()? {
        Received::Frame(frame) => {
            expect::equal("the result", Some(6), frame.json()?["exit_code"].as_i64())?;
        }
        other => return Err(violation("the result", shown(&other))),
    }
    // A frame that arrives early has no effect on a plain child either.
    let plain = Program::new(context, "plain", [Act::Exit(8)])?;
    let mut requester = stage.granted(&stage.request_for(plain.text()))?;
    let mut bytes = frame(b"{\"fds\":[],\"signals\":true}");
    bytes.extend(frame(b"{\"signal\":9}"));
    requester.frames.send_bytes(&bytes, &[])?;
    requester.expect_exit_code(8)?;
    stage.finish()
}
