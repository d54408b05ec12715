//! teardown.shutdown: a server that is told to end takes its escalated trees along.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::ending::expect_ended_child_stream;
use crate::stage::processes::{Kin, fork};
use crate::stage::server::Stage;
use crate::stage::traced::{HELD_UP, Traced};
use crate::stage::tree::{Tree, grow};
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.shutdown/open-session", open_session),
    case("teardown.shutdown/end-of-input", end_of_input),
    case("teardown.shutdown/closed-just-before", closed_just_before),
    case("teardown.shutdown/cancelled-just-before", cancelled_just_before).needs("cancel"),
    case("teardown.shutdown/traced", traced),
]);

/// A session with an escalated tree is open when the server is shut down.
fn open_session(context: &mut Context) -> Verdict {
    ends_with_the_server(context, |stage| stage.shim.send("shutdown", json!({})).map(drop))
}

/// The server's caller is gone: the end of its standard input is an order to end as well.
fn end_of_input(context: &mut Context) -> Verdict {
    ends_with_the_server(context, |stage| {
        stage.shim.close_input();
        Ok(())
    })
}

/// The session is closed and the server is shut down at once, without waiting for the teardown or the answer.
fn closed_just_before(context: &mut Context) -> Verdict {
    ends_with_the_server(context, |stage| just_before_shutdown(stage, "session/close"))
}

/// The same after the parent token was cancelled.
fn cancelled_just_before(context: &mut Context) -> Verdict {
    ends_with_the_server(context, |stage| just_before_shutdown(stage, "session/cancel"))
}

fn just_before_shutdown(stage: &mut Stage, method: &str) -> Verdict {
    let session = stage.session.name.clone();
    stage.shim.send(method, json!({"session": session}))?;
    stage.shim.send("shutdown", json!({})).map(drop)
}

/// A process that cannot be reaped, since another process traces it, holds up a shutdown for ten seconds at most.
fn traced(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let daemon = fork(&mut escalated.child, &program, Kin::Daemon)?;
    let traced = Traced::new(&daemon)?;
    stage.shim.send("shutdown", json!({}))?;
    let ended = stage
        .shim
        .process
        .wait("the shim", HELD_UP + context.patience())?;
    expect::all([
        expect::equal("the shim's end", Ended::Exited(0), ended),
        traced.expect_end(context.patience()),
        expect_ended_child_stream(&mut escalated.requester),
    ])
}

/// Grows a tree, and demands that it ends when the server ends by `end`, with status 0.
fn ends_with_the_server(context: &Context, end: impl FnOnce(&mut Stage) -> Verdict) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut tree = tree(context, &mut stage)?;
    tree.expect_alive()?;
    end(&mut stage)?;
    let ended = stage.shim.process.wait("the shim", context.patience())?;
    expect::all([
        tree.expect_end(context.patience()),
        expect_ended_child_stream(&mut tree.escalated.requester),
        expect::equal("the shim's end", Ended::Exited(0), ended),
    ])
}

fn tree(context: &Context, stage: &mut Stage) -> Result<Tree, CaseError> {
    let program = ConnectedProgram::new(context, "program")?;
    let null = null()?;
    let escalated = stage.escalate(&program, &[(0, &null), (1, &null), (2, &null)])?;
    grow(context, escalated, &program)
}
