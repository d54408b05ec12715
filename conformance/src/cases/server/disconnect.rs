//! The end of the wrapper: the escalated tree ends with it, and nothing is started after it.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{Received, frame, read_whole};
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::null;
use crate::stage::holdings::Holdings;
use crate::stage::processes::{Kin, expect_alive, expect_all_end, expect_none_lives, fork};
use crate::stage::server::Stage;
use crate::stage::signals::stop;
use crate::system::clock::Moment;
use crate::system::launch::{Launch, duplicate, pipe};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.disconnect/while-running", while_running),
    case("server.disconnect/while-pending", while_pending),
    case("server.disconnect/many-while-pending", many_while_pending),
    case("server.disconnect/decision-not-read", decision_not_read),
    case("server.disconnect/between-escalate-and-descriptors", between_escalate_and_descriptors),
    case("server.disconnect/in-the-descriptor-message", in_the_descriptor_message),
    case("server.disconnect/right-after-the-descriptors", right_after_the_descriptors),
    case("server.disconnect/ignores-term", ignores_term),
    case("server.disconnect/stopped", stopped),
    case("server.disconnect/in-a-signal-frame", in_a_signal_frame),
    case("server.disconnect/wrapper-is-killed", wrapper_is_killed),
    case("server.disconnect/others-live", others_live),
    case("server.disconnect/descriptors-are-closed", descriptors_are_closed),
    case("server.disconnect/half-closed", half_closed).at(Level::Hardened),
]);

/// A child and a grandchild of its group end when the stream closes, and are reaped.
fn while_running(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    let handles = [escalated.child.process()?, grandchild.process()?];
    drop(escalated.requester);
    expect_all_end(
        &handles,
        "the escalated tree of a closed stream",
        context.patience(),
    )?;
    stage.expect_no_zombies()?;
    stage.sentinel()?;
    stage.finish()
}

/// A decision that comes after the wrapper has gone starts nothing, whatever it is.
fn while_pending(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let shell = [stage.session.probe.report.pid];
    // A server may keep what it has made for the first commands.
    let mut before = None;
    for _ in 0..2 {
        for answer in [Answer::Escalate, Answer::Run, Answer::Deny(None), Answer::Fail] {
            stage.shim.decide_by_hand();
            let mut requester = stage.session.socket.open()?;
            requester.request(&stage.request_for(program.text()))?;
            let decision = stage.shim.next_decision()?;
            drop(requester);
            stage.shim.decide_by(|_| Answer::Escalate);
            // The server serves another request before the late answer comes.
            stage.sentinel()?;
            decision.answer(&answer)?;
            stage.sentinel()?;
            program.expect_not_started()?;
        }
        let patience = context.patience();
        match &before {
            None => before = Some(Holdings::at_rest(&stage.shim, &shell, patience)),
            Some(before) => {
                let what = "four decisions that came too late";
                Holdings::expect_returned(&stage.shim, &shell, before, what, patience)?;
            }
        }
    }
    stage.expect_no_zombies()?;
    stage.finish()
}

/// Forty wrappers that go while the policy thinks, answered afterwards all at once.
fn many_while_pending(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    stage.shim.decide_by_hand();
    let mut pending = Vec::new();
    for _ in 0..40 {
        let mut requester = stage.session.socket.open()?;
        requester.request(&stage.request_for(program.text()))?;
        let decision = stage.shim.next_decision()?;
        pending.push((requester, decision));
    }
    let (requesters, decisions): (Vec<_>, Vec<_>) = pending.into_iter().unzip();
    drop(requesters);
    stage.shim.decide_by(|_| Answer::Escalate);
    stage.sentinel()?;
    for decision in decisions {
        decision.answer(&Answer::Escalate)?;
    }
    stage.sentinel()?;
    program.expect_not_started()?;
    stage.finish()
}

/// A wrapper that goes without having read the decision: the server sees a reset, not an end of file.
fn decision_not_read(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    for _ in 0..10 {
        let mut requester = stage.session.socket.open()?;
        requester.request(&stage.request_for(program.text()))?;
        crate::system::poll::readable_until(requester.frames.socket(), Moment::now() + context.patience())?;
        drop(requester);
        stage.sentinel()?;
    }
    program.expect_not_started()?;
    stage.finish()
}

/// A wrapper that goes after Escalate, before it has said which descriptors, has no child.
fn between_escalate_and_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    for _ in 0..10 {
        drop(stage.granted(&stage.request_for(program.text()))?);
        stage.sentinel()?;
    }
    program.expect_not_started()?;
    stage.finish()
}

/// A wrapper that goes with half of its descriptor message sent has no child, and its descriptors are closed.
fn in_the_descriptor_message(context: &mut Context) -> Verdict {
    use std::os::fd::AsRawFd;
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let bytes = frame(b"{\"fds\":[0,1]}");
    for length in [1, 4, 5, bytes.len() - 1] {
        let (mut reader, writer) = pipe()?;
        let null = null()?;
        let mut requester = stage.granted(&stage.request_for(program.text()))?;
        requester
            .frames
            .send_bytes(&bytes[..length], &[null.as_raw_fd(), writer.as_raw_fd()])?;
        requester.frames.drained()?;
        drop((requester, writer));
        expect_end_of_pipe(context, &mut reader, "half a descriptor message")?;
        stage.sentinel()?;
    }
    program.expect_not_started()?;
    stage.finish()
}

fn expect_end_of_pipe(context: &Context, reader: &mut std::fs::File, what: &str) -> Verdict {
    let what = format!("the descriptors of {what} are closed");
    read_whole(reader, what, context.patience()).map(drop)
}

/// A wrapper that goes right after its descriptor message: any child that was started ends. Fifty times.
fn right_after_the_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let null = null()?;
    let mut pipes = Vec::new();
    for _ in 0..50 {
        let (reader, writer) = pipe()?;
        let mut requester = stage.granted(&stage.request_for(program.text()))?;
        requester.send_descriptors(&[(0, &null), (1, &writer)])?;
        pipes.push(reader);
    }
    // A child, if there is one, holds the pipe as long as it lives.
    for mut reader in pipes {
        expect_end_of_pipe(context, &mut reader, "a request whose wrapper has gone")?;
    }
    expect_none_lives(&program, "the child of a wrapper that has gone")?;
    stage.expect_no_zombies()?;
    stage.sentinel()?;
    stage.finish()
}

/// A child that ignores every signal that can be ignored ends.
fn ignores_term(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    for signal in [
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGPIPE,
    ] {
        escalated.child.must(&Order::Ignore(signal))?;
    }
    let handle = escalated.child.process()?;
    drop(escalated.requester);
    handle.expect_end("the child that ignores signals", context.patience())?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// A stopped child ends, with and without stopped messages.
fn stopped(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for announced in [false, true] {
        let mut escalated = stage.escalate_with(&program, &[], &[("signals", json!(announced))])?;
        escalated.child.must(&Order::Ignore(libc::SIGTERM))?;
        let handle = escalated.child.process()?;
        stop(&handle, context.patience())?;
        stage.sentinel()?;
        drop(escalated.requester);
        handle.expect_end("the stopped child", context.patience())?;
    }
    stage.expect_no_zombies()?;
    stage.finish()
}

/// A wrapper that goes after half a signal frame is gone all the same.
fn in_a_signal_frame(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let bytes = frame(b"{\"signal\":10}");
    for length in [1, 4, 7, bytes.len() - 1] {
        let mut escalated = stage.escalate_with(&program, &[], &[("signals", json!(true))])?;
        escalated.requester.frames.send_bytes(&bytes[..length], &[])?;
        let handle = escalated.child.process()?;
        drop(escalated.requester);
        handle.expect_end("the child of a closed stream", context.patience())?;
    }
    stage.expect_no_zombies()?;
    stage.finish()
}

/// A wrapper, a process of its own, that is killed by SIGKILL while its child runs.
fn wrapper_is_killed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let player = ConnectedProgram::new(context, "wrapper")?;
    let requester = stage.granted(&stage.request_for(program.text()))?;
    let mut process = Launch::new(player.text(), context.work_directory())
        .descriptor(50, duplicate(requester.frames.socket())?)
        .start()?;
    let mut wrapper = player.accept("the process that plays the wrapper")?;
    drop(requester);
    wrapper.must(&Order::Write(50, frame(b"{\"fds\":[]}")))?;
    let child = program.accept("the escalated child")?;
    let handle = child.process()?;
    stage.sentinel()?;
    expect_alive(&handle, "the child while its wrapper lives")?;
    process.signal(libc::SIGKILL)?;
    process.wait("the killed wrapper", context.patience())?;
    handle.expect_end("the child of a killed wrapper", context.patience())?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// The children of other requests of the session live, and reach their results.
fn others_live(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(stage.escalate(&program, &[])?);
    }
    let mut living = Vec::new();
    for (index, escalated) in children.into_iter().enumerate() {
        let handle = escalated.child.process()?;
        if index % 2 == 0 {
            drop(escalated.requester);
            handle.expect_end("the child of a closed stream", context.patience())?;
        } else {
            living.push((escalated, handle));
        }
    }
    stage.sentinel()?;
    for (mut escalated, handle) in living {
        expect_alive(&handle, "the child of another request")?;
        escalated.child.report_again()?;
        escalated.exit(11)?;
    }
    stage.finish()
}

/// The descriptors of an ended tree are closed: its pipes come to their end of file.
fn descriptors_are_closed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let (mut reader, writer) = pipe()?;
    let mut escalated = stage.escalate(&program, &[(1, &writer), (30, &writer)])?;
    drop(writer);
    let grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    drop(escalated.requester);
    expect_end_of_pipe(context, &mut reader, "an ended tree")?;
    drop(grandchild);
    stage.finish()
}

/// A stream of which only the writing half is closed: the tree ends, or the result arrives. Nothing hangs.
fn half_closed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let handle = escalated.child.process()?;
    escalated.requester.frames.shutdown_write()?;
    stage.sentinel()?;
    // If the server took it for the end, the child is gone or about to go, and the order may not reach it.
    let ordered = escalated.child.send(&Order::Exit(3));
    handle.expect_end("the child", context.patience())?;
    match escalated.requester.frames.receive()? {
        Received::End { bytes: 0 } => {}
        Received::Frame(frame) => {
            let result = frame.json()?;
            let code = result["exit_code"].as_i64();
            expect::that(
                ordered.is_ok() && code == Some(3) || code == Some(i64::from(128 + libc::SIGKILL)),
                "the result of the child, or the end of the stream",
                &result,
            )?;
        }
        other => {
            return Err(violation(
                "the result of the child, or the end of the stream",
                shown(&other),
            ));
        }
    }
    stage.sentinel()?;
    stage.finish()
}
