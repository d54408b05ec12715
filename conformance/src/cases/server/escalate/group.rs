//! server.escalate.group: a child in its wrapper's process group, where both are in one session with the server.
//!
//! The suite is the wrapper: its own group is what a child joins.

use nix::unistd::{getpgrp, getsid};
use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::stage::processes::{Kin, fork};
use crate::stage::server::Stage;
use crate::stage::signals::stop;
use crate::system::launch::Launch;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.group/joins", joins),
    case("server.escalate.group/only-when-announced", only_when_announced),
    case("server.escalate.group/not-from-another-session", not_from_another_session),
    case("server.escalate.group/terminal-s-signals-once", terminal_s_signals_once),
    case("server.escalate.group/other-signals-to-the-child-alone", other_signals_to_the_child_alone),
    case("server.escalate.group/sender-that-is-no-process", sender_that_is_no_process),
    case("server.escalate.group/stops-say-alone", stops_say_alone),
    case("server.escalate.group/continued-once", continued_once),
    case("server.escalate.group/ends-with-its-tree", ends_with_its_tree).at(Level::Hardened),
]).needs("group");

fn own_session(launch: Launch) -> Launch {
    launch.in_new_session()
}

/// A signal that follows others: of those that are pending, the child takes the lowest number first.
const MARK: i32 = libc::SIGPWR;

/// Group and session of the child are the wrapper's.
fn joins(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let escalated = stage.escalate_in_group(&program)?;
    expect::equal(
        "group and session of the child, as its wrapper's",
        (getpgrp().as_raw(), getsid(None)?.as_raw()),
        (escalated.child.report.group, escalated.child.report.session),
    )?;
    escalated.exit(3)?;
    stage.finish()
}

/// A wrapper that announced nothing, or false, may not tell its signals apart.
fn only_when_announced(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let announcements: [&[(&str, Value)]; 2] = [
        &[("signals", json!(true))],
        &[("signals", json!(true)), ("group", json!(false))],
    ];
    for members in announcements {
        let escalated = stage.escalate_with(&program, &[], members)?;
        expect::that(
            escalated.child.report.group != getpgrp().as_raw(),
            format_args!("a group of its own for the child of a wrapper that sent {members:?}"),
            "the wrapper's group",
        )?;
        escalated.exit(0)?;
    }
    stage.finish()
}

/// Where the server is in another session, the child has a group of its own, and gets the terminal's signals by frames.
fn not_from_another_session(context: &mut Context) -> Verdict {
    let mut stage = Stage::on(context, own_session)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    expect::that(
        escalated.child.report.group != getpgrp().as_raw(),
        "a group of its own for the child of a server in another session",
        "the wrapper's group",
    )?;
    escalated.child.must(&Order::Watch(vec![libc::SIGINT]))?;
    escalated
        .requester
        .frames
        .send_json(&json!({"signal": libc::SIGINT, "terminal": true}))?;
    escalated.child.next_signal("SIGINT of a terminal, by a frame")?;
    escalated.exit(0)?;
    stage.finish()
}

/// A frame of the terminal's signal is not delivered: the kernel has done that. The next frame is.
fn terminal_s_signals_once(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    escalated
        .child
        .must(&Order::Watch(vec![libc::SIGINT, libc::SIGWINCH, MARK]))?;
    for signal in [libc::SIGINT, libc::SIGWINCH] {
        escalated
            .requester
            .frames
            .send_json(&json!({"signal": signal, "terminal": true}))?;
        escalated.requester.signal(MARK)?;
        expect::equal(
            &format!("the next signal after a frame with {signal} that says \"terminal\":true"),
            MARK,
            escalated.child.next_signal("the mark")?,
        )?;
        escalated
            .requester
            .frames
            .send_json(&json!({"signal": signal, "terminal": false}))?;
        expect::equal(
            "the signal of a process",
            signal,
            escalated.child.next_signal("the signal of a process")?,
        )?;
    }
    escalated.exit(0)?;
    stage.finish()
}

/// What a process has sent to the wrapper reaches the child, and nothing else of the group: not the suite, nor a grandchild.
fn other_signals_to_the_child_alone(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let mut grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    let watched = vec![libc::SIGUSR1, libc::SIGUSR2];
    escalated.child.must(&Order::Watch(watched.clone()))?;
    grandchild.must(&Order::Watch(watched))?;
    // It would end the suite.
    escalated.requester.signal(libc::SIGUSR1)?;
    escalated.child.next_signal("SIGUSR1")?;
    let pid = grandchild.report.pid;
    escalated.child.must(&Order::Kill(pid, libc::SIGUSR2))?;
    expect::equal(
        "the first signal of the child's child",
        libc::SIGUSR2,
        grandchild.next_signal("SIGUSR2")?,
    )?;
    drop(grandchild);
    escalated.exit(0)?;
    stage.finish()
}

/// A signal whose sender is not the child is delivered, also where no process has that pid.
fn sender_that_is_no_process(context: &mut Context) -> Verdict {
    // More than any system has.
    const ABOVE_ALL: i32 = (1 << 22) + 1;
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    escalated.child.must(&Order::Watch(vec![libc::SIGUSR1, MARK]))?;
    let own_parent = escalated.child.report.parent;
    for sender in [0, -1, 1, ABOVE_ALL, own_parent] {
        escalated
            .requester
            .frames
            .send_json(&json!({"signal": libc::SIGUSR1, "sender": sender}))?;
        escalated.requester.signal(MARK)?;
        for signal in [libc::SIGUSR1, MARK] {
            expect::equal(
                &format!("the next signal after a frame with SIGUSR1 of sender {sender}"),
                signal,
                escalated.child.next_signal("SIGUSR1 and a mark")?,
            )?;
        }
    }
    escalated.exit(0)?;
    stage.finish()
}

/// What stops the child has reached its group, so that the wrapper is to stop alone.
fn stops_say_alone(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let process = escalated.child.process()?;
    for _ in 0..3 {
        stop(&process, context.patience())?;
        let frame = escalated.requester.frames.expect_frame("a stopped message")?;
        let message = frame.json()?;
        expect::equal(
            "the signal that is said",
            &json!(libc::SIGSTOP),
            &message["stopped"],
        )?;
        expect::equal("alone in the stopped message", &json!(true), &message["alone"])?;
        escalated.requester.signal(libc::SIGCONT)?;
        escalated.child.report_again()?;
    }
    escalated.exit(0)?;
    stage.finish()
}

/// A frame of SIGCONT continues a stopped child, and does nothing to one that has been continued since it stopped.
fn continued_once(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let process = escalated.child.process()?;
    escalated.child.must(&Order::Watch(vec![libc::SIGCONT, MARK]))?;
    for continued_before in [true, false, true] {
        stop(&process, context.patience())?;
        escalated.requester.frames.expect_frame("a stopped message")?;
        if continued_before {
            // As a SIGCONT for the whole group does.
            process.signal(libc::SIGCONT)?;
            escalated.child.next_signal("SIGCONT for the group")?;
        }
        escalated.requester.signal(libc::SIGCONT)?;
        if !continued_before {
            escalated.child.next_signal("SIGCONT by a frame")?;
        }
        escalated.requester.signal(MARK)?;
        expect::equal(
            "the next signal of a child that has been continued",
            MARK,
            escalated.child.next_signal("the mark")?,
        )?;
    }
    escalated.exit(0)?;
    stage.finish()
}

/// When the wrapper is gone, the child and its child end, whose group is the suite's; and the suite does not.
fn ends_with_its_tree(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate_in_group(&program)?;
    let child = escalated.child.process()?;
    let grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    let other = grandchild.process()?;
    drop(escalated.requester);
    child.expect_end("the child whose wrapper is gone", context.patience())?;
    other.expect_end("the child's child", context.patience())?;
    stage.sentinel()?;
    stage.finish()
}
