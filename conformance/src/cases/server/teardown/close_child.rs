//! Closing a session kills its escalated children and reaps them.

use std::io::Read;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::read_to_end;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::ending::{SessionEnd, child_ends, expect_ended_child_stream, expect_reaped};
use crate::stage::server::{Escalated, Stage};
use crate::stage::signals::stop;
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.close.child/killed-and-reaped", killed_and_reaped),
    case("teardown.close.child/ignores-signals", ignores_signals),
    case("teardown.close.child/handles-term", handles_term),
    case("teardown.close.child/stopped", stopped),
    case("teardown.close.child/many", many),
    case("teardown.close.child/reads-its-input", reads_its_input),
    case("teardown.close.child/of-this-session-only", of_this_session_only),
]);

/// An escalated child is killed and reaped, and its stream ends; that the child was killed may be told before.
fn killed_and_reaped(context: &mut Context) -> Verdict {
    child_ends(context, SessionEnd::Close, |_| Ok(()), expect_ended_child_stream)
}

/// A child that ignores SIGTERM, SIGHUP and SIGINT is killed.
fn ignores_signals(context: &mut Context) -> Verdict {
    let prepare = |child: &mut Probe| {
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            child.must(&Order::Ignore(signal))?;
        }
        Ok(())
    };
    child_ends(context, SessionEnd::Close, prepare, expect_ended_child_stream)
}

/// A child that handles SIGTERM and keeps running is killed.
fn handles_term(context: &mut Context) -> Verdict {
    let prepare =
        |child: &mut Probe| child.must(&Order::Watch(vec![libc::SIGTERM, libc::SIGHUP, libc::SIGINT]));
    child_ends(context, SessionEnd::Close, prepare, expect_ended_child_stream)
}

/// A stopped child is killed.
fn stopped(context: &mut Context) -> Verdict {
    let patience = context.patience();
    let prepare = |child: &mut Probe| stop(&child.process()?, patience);
    child_ends(context, SessionEnd::Close, prepare, expect_ended_child_stream)
}

/// Each of 32 children is killed.
fn many(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let mut children = Vec::new();
    for _ in 0..32 {
        let Escalated { requester, child } = stage.start(&program)?;
        children.push((requester, child.process()?, child));
    }
    stage.close_session()?;
    for (requester, handle, child) in &mut children {
        handle.expect_end("each of 32 escalated children", stage.patience())?;
        expect_reaped(child.report.pid, stage.patience())?;
        expect_ended_child_stream(requester)?;
    }
    stage.finish()
}

/// A child that waits for input, or writes to a full pipe, is killed too.
fn reads_its_input(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let (reader, input_writer) = pipe()?;
    let (output_reader, writer) = pipe()?;
    let mut children = Vec::new();
    let scripts = [
        "echo started >&2; cat",
        "echo started >&2; while :; do echo more; done",
    ];
    for script in scripts {
        let request = stage
            .request("/bin/sh", &["sh", "-c", script])
            .variable("PATH", "/usr/bin:/bin");
        let (error, error_writer) = pipe()?;
        let placements = [(0, &reader as _), (1, &writer as _), (2, &error_writer as _)];
        let requester = stage.escalate_request(&request, &placements)?;
        drop(error_writer);
        children.push((requester, error));
    }
    drop((reader, writer));
    for (_, error) in &mut children {
        let mut line = [0; 8];
        error.read_exact(&mut line)?;
    }
    stage.close_session()?;
    for (requester, error) in &mut children {
        expect_ended_child_stream(requester)?;
        // A surviving process of the tree would still hold it.
        let rest = read_to_end(&*error, Moment::now() + stage.patience())?;
        expect::that(
            rest.is_some(),
            "no process of the tree holds its standard error",
            "at least one does",
        )?;
    }
    drop((input_writer, output_reader));
    stage.finish()
}

/// Children of other sessions live on.
fn of_this_session_only(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "child")?;
    let mut stage = Stage::new(context)?.decide_by_hand();
    let other = stage.shim.probe_session(context, "other")?;
    let main = std::mem::replace(&mut stage.session, other);
    let Escalated {
        mut requester,
        mut child,
    } = stage.start(&program)?;
    stage.shim.close_session(&main.name)?;
    stage.sentinel()?;
    expect::equal(
        "the other child's pid",
        child.report.pid,
        child.report_again()?.pid,
    )?;
    child.send(&Order::Exit(6))?;
    requester.expect_exit_code(6)?;
    stage.finish()
}
