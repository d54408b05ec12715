//! Stopped messages: to a wrapper that announced `signals`, each time that its child stops, and to no other.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, fork};
use crate::stage::server::{Escalated, Stage};
use crate::stage::signals::{expect_killed, stop};
use crate::system::clock::Moment;
use crate::system::poll::any_readable_until;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.stopped/by-itself", by_itself),
    case("server.stopped/by-another-process", by_another_process),
    case("server.stopped/each-signal", each_signal),
    case("server.stopped/each-time", each_time),
    case("server.stopped/not-unasked", not_unasked),
    case("server.stopped/stopped-and-killed", stopped_and_killed),
    case("server.stopped/others-are-served", others_are_served),
    case("server.stopped/not-for-a-grandchild", not_for_a_grandchild),
]).needs("stopped");

fn escalate(stage: &mut Stage, program: &ConnectedProgram) -> Result<Escalated, CaseError> {
    stage.escalate_with(program, &[], &[("signals", Value::Bool(true))])
}

/// Demands `{"stopped":signal}` as the next message.
fn expect_stopped(escalated: &mut Escalated, signal: i32) -> Verdict {
    let message = escalated
        .requester
        .frames
        .expect_frame("a stopped message")?
        .json()?;
    expect::that(
        message["stopped"].as_i64() == Some(signal.into()),
        format_args!("{{\"stopped\":{signal}}}"),
        &message,
    )
}

/// Lets the child go on by a signal frame, and demands that it does.
fn go_on(escalated: &mut Escalated) -> Verdict {
    escalated.requester.signal(libc::SIGCONT)?;
    escalated.child.report_again().map(drop)
}

/// A child that stops itself by SIGSTOP is reported; once continued, it runs to its result.
fn by_itself(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    let pid = escalated.child.report.pid;
    escalated.child.send(&Order::Kill(pid, libc::SIGSTOP))?;
    expect_stopped(&mut escalated, libc::SIGSTOP)?;
    escalated.requester.signal(libc::SIGCONT)?;
    // The answer to the order that stopped it, which it could not give before.
    escalated.child.answer_to_earlier_order()?;
    escalated.exit(5)?;
    stage.finish()
}

/// A child that another process stops is reported as well.
fn by_another_process(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    stop(&escalated.child.process()?, context.patience())?;
    expect_stopped(&mut escalated, libc::SIGSTOP)?;
    go_on(&mut escalated)?;
    escalated.exit(5)?;
    stage.finish()
}

/// The message has the number of the signal that stopped the child: SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP.
///
/// The kernel discards the first three in a process group that is orphaned, as it is where a server gives its
/// children sessions of their own. Then the child doesn't stop, and there is nothing to report.
fn each_signal(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGSTOP] {
        let pid = escalated.child.report.pid;
        escalated.child.send(&Order::Kill(pid, signal))?;
        let deadline = Moment::now() + context.patience();
        let sources = [
            std::os::fd::AsFd::as_fd(escalated.requester.frames.socket()),
            std::os::fd::AsFd::as_fd(escalated.child.connection()),
        ];
        if !any_readable_until(&sources, deadline)? {
            return Err(violation(
                format_args!("{{\"stopped\":{signal}}}, or a child that runs on"),
                crate::system::process::describe(nix::unistd::Pid::from_raw(pid)),
            ));
        }
        if signal != libc::SIGSTOP
            && any_readable_until(&[sources[1]], Moment::now())?
            && !any_readable_until(&[sources[0]], Moment::now())?
        {
            context
                .transcript
                .note(format_args!("signal {signal} does not stop the child"));
            escalated.child.answer_to_earlier_order()?;
            continue;
        }
        expect_stopped(&mut escalated, signal)?;
        escalated.requester.signal(libc::SIGCONT)?;
        escalated.child.answer_to_earlier_order()?;
    }
    escalated.exit(0)?;
    stage.finish()
}

/// Ten stops are ten messages, and the result still comes.
fn each_time(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    let process = escalated.child.process()?;
    for round in 0..10 {
        stop(&process, context.patience())?;
        expect_stopped(&mut escalated, libc::SIGSTOP)?;
        if round % 2 == 0 {
            go_on(&mut escalated)?;
        } else {
            // Continued by another process than the server.
            process.signal(libc::SIGCONT)?;
            escalated.child.report_again()?;
        }
    }
    escalated.exit(7)?;
    stage.finish()
}

/// A wrapper that announced nothing, or false, gets only the result.
fn not_unasked(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let announcements: [&[(&str, Value)]; 2] = [&[], &[("signals", json!(false))]];
    for members in announcements {
        let mut escalated = stage.escalate_with(&program, &[], members)?;
        let process = escalated.child.process()?;
        for _ in 0..3 {
            stop(&process, context.patience())?;
            stage.sentinel()?;
            process.signal(libc::SIGCONT)?;
            escalated.child.report_again()?;
        }
        escalated.child.send(&Order::Exit(2))?;
        let message = escalated
            .requester
            .frames
            .expect_frame("the result, and no other message")?
            .json()?;
        expect::that(
            message["exit_code"].as_i64() == Some(2) && message.get("stopped").is_none(),
            "the result with exit_code 2 as the first message to a wrapper that did not announce signals",
            &message,
        )?;
    }
    stage.finish()
}

/// A stopped child that is killed has both: the message and the result.
fn stopped_and_killed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    let process = escalated.child.process()?;
    stop(&process, context.patience())?;
    expect_stopped(&mut escalated, libc::SIGSTOP)?;
    process.signal(libc::SIGKILL)?;
    expect_killed(&escalated.requester.result()?, libc::SIGKILL)?;
    stage.finish()
}

/// While a child is stopped, other requests are served, and other wrappers get no message about it.
fn others_are_served(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut stopped = escalate(&mut stage, &program)?;
    let other = escalate(&mut stage, &program)?;
    let process = stopped.child.process()?;
    stop(&process, context.patience())?;
    expect_stopped(&mut stopped, libc::SIGSTOP)?;
    for _ in 0..5 {
        stage.sentinel()?;
    }
    other.exit(3)?;
    go_on(&mut stopped)?;
    stopped.exit(4)?;
    stage.finish()
}

/// What only a grandchild does isn't a stop of the child.
fn not_for_a_grandchild(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = escalate(&mut stage, &program)?;
    let grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    let process = grandchild.process()?;
    stop(&process, context.patience())?;
    stage.sentinel()?;
    escalated.child.report_again()?;
    process.signal(libc::SIGCONT)?;
    drop(grandchild);
    process.expect_end("the grandchild", context.patience())?;
    escalated.exit(0)?;
    stage.finish()
}
