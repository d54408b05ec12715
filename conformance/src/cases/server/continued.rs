//! server.continued: stops and continuations that cross on their way.

use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::server::{Escalated, Stage};
use crate::stage::signals::{stop, stopped_within};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.continued/counts-continuations", counts_continuations),
    case("server.continued/told-again", told_again),
    case("server.continued/not-told-yet", not_told_yet),
    case("server.continued/after-the-frame-that-stopped", after_the_frame_that_stopped),
]).needs("group");

/// The next message says that the child was stopped by SIGSTOP, and how many frames of SIGCONT have been read.
fn told_of_a_stop(escalated: &mut Escalated, continued: u32) -> Verdict {
    let message = escalated
        .requester
        .frames
        .expect_frame("a stopped message")?
        .json()?;
    expect::equal(
        "the signal that is said",
        &json!(libc::SIGSTOP),
        &message["stopped"],
    )?;
    expect::equal(
        "continued in the stopped message",
        &json!(continued),
        &message["continued"],
    )
}

/// A stopped message says how many frames of SIGCONT have been read, also of those that continued nothing.
fn counts_continuations(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let process = escalated.child.process()?;
    let mut sent = 0;
    let mut told = 0;
    for frames in [0, 1, 2] {
        for _ in 0..frames {
            sent += 1;
            let message = json!({"signal": libc::SIGCONT, "sender": std::process::id(), "stops": told});
            escalated.requester.frames.send_json(&message)?;
        }
        if told > 0 {
            escalated.child.report_again()?;
        }
        // The frames have been read when a later one has reached the child.
        escalated.child.must(&Order::Watch(vec![libc::SIGUSR2]))?;
        escalated.requester.signal(libc::SIGUSR2)?;
        escalated.child.next_signal("SIGUSR2")?;
        stop(&process, context.patience())?;
        told_of_a_stop(&mut escalated, sent)?;
        told += 1;
    }
    escalated
        .requester
        .frames
        .send_json(&json!({"signal": libc::SIGCONT, "stops": told}))?;
    escalated.exit(0)?;
    stage.finish()
}

/// What continued the wrapper before it had read of a stop leaves the child in that stop, and the wrapper is told again.
fn told_again(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let process = escalated.child.process()?;
    for round in 0..3 {
        let continuations = 2 * round;
        stop(&process, context.patience())?;
        told_of_a_stop(&mut escalated, continuations)?;
        let crossing = json!({"signal": libc::SIGCONT, "sender": std::process::id(), "stops": 2 * round});
        escalated.requester.frames.send_json(&crossing)?;
        told_of_a_stop(&mut escalated, continuations + 1)?;
        expect::that(
            stopped_within(process.pid.as_raw(), Duration::ZERO),
            "a SIGCONT that came before the wrapper had read of the stop leaves the child stopped",
            "it has been continued",
        )?;
        let answering =
            json!({"signal": libc::SIGCONT, "sender": std::process::id(), "stops": 2 * round + 2});
        escalated.requester.frames.send_json(&answering)?;
        escalated.child.report_again()?;
    }
    escalated.exit(0)?;
    stage.finish()
}

/// Reads stopped messages up to one that was sent when so many frames of SIGCONT had been read; how many there were.
fn told_after(escalated: &mut Escalated, signal: i32, continued: u32) -> Result<u32, CaseError> {
    for told in 1.. {
        let message = escalated
            .requester
            .frames
            .expect_frame("a stopped message")?
            .json()?;
        expect::equal("the signal that is said", &json!(signal), &message["stopped"])?;
        if message["continued"] == json!(continued) {
            return Ok(told);
        }
    }
    unreachable!("a server tells of fewer stops")
}

/// The frame of a SIGCONT that came before the child stopped may be read before the server hears of the stop.
fn not_told_yet(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let process = escalated.child.process()?;
    let (mut told, mut continuations) = (0, 0);
    for _ in 0..20 {
        process.signal(libc::SIGSTOP)?;
        for answers in [false, true] {
            let message = json!({"signal": libc::SIGCONT, "sender": std::process::id(), "stops": told});
            escalated.requester.frames.send_json(&message)?;
            continuations += 1;
            if answers {
                escalated.child.report_again()?;
            } else {
                told += told_after(&mut escalated, libc::SIGSTOP, continuations)?;
                expect::that(
                    stopped_within(process.pid.as_raw(), Duration::ZERO),
                    "a SIGCONT that came before the stop leaves the child stopped",
                    "it has been continued",
                )?;
            }
        }
    }
    escalated.exit(0)?;
    stage.finish()
}

/// Frames take effect in their order: a SIGCONT ends the stop by a frame before it, whether or not the wrapper had read of it.
fn after_the_frame_that_stopped(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let (mut told, mut continuations) = (0, 0);
    for is_told in [true, false, false, true, false, true, false, true] {
        let send = |escalated: &mut Escalated, signal: i32, told: u32| {
            let message = json!({"signal": signal, "sender": std::process::id(), "stops": told});
            escalated.requester.frames.send_json(&message)
        };
        send(&mut escalated, libc::SIGTSTP, told)?;
        let read_before = told;
        if is_told {
            told += told_after(&mut escalated, libc::SIGTSTP, continuations)?;
        }
        send(&mut escalated, libc::SIGCONT, read_before)?;
        continuations += 1;
        escalated.child.report_again()?;
    }
    escalated.exit(0)?;
    stage.finish()
}
