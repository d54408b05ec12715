//! A server in a pid namespace of its own that sees the /proc of another one.

use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::Received;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, fork};
use crate::stage::server::Stage;
use crate::system::clock::Moment;
use crate::system::launch::Launch;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.tree/foreign-proc", foreign_proc),
]);

/// The numbers in /proc are those of other processes: the server escalates nothing, or ends the whole tree all the same.
fn foreign_proc(context: &mut Context) -> Verdict {
    // What the shim starts is there, too; the numbers that it reports mean other processes here.
    let mut stage = Stage::on(context, Launch::in_pid_namespace)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut requester = stage.session.socket.open()?;
    requester.request(&stage.request_for(program.text()))?;
    let Some(mut child) = started_or_refused(&mut requester, &program, context.patience())? else {
        return stage.shim.shutdown();
    };
    let mut daemon = fork(&mut child, &program, Kin::Daemon)?;
    stage.close_session()?;
    child.expect_gone("the escalated child")?;
    daemon.expect_gone("a daemon of the escalated tree")?;
    stage.shim.shutdown()
}

/// The escalated child, or none where the server denies the request, closes its stream, or says that it came to nothing.
fn started_or_refused(
    requester: &mut Requester,
    program: &ConnectedProgram,
    patience: Duration,
) -> Result<Option<Probe>, CaseError> {
    const LOOK: Duration = Duration::from_millis(20);
    match requester.frames.receive()? {
        Received::Frame(decision) if decision.json()?["action"] == json!("Escalate") => {}
        Received::Frame(_) | Received::End { .. } => return Ok(None),
        Received::Silence { .. } => {
            return Err(violation("a decision, or the end of the stream", "neither"));
        }
    }
    requester.send_descriptors(&[])?;
    let deadline = Moment::now() + patience;
    while !deadline.is_over() {
        if let Some(child) = program.accept_within(LOOK)? {
            return Ok(Some(child));
        }
        if readable_until(requester.frames.socket(), Moment::now())? {
            // It may have started, and ended at once, which nothing has told it to.
            program.expect_no_start()?;
            return Ok(None);
        }
    }
    Err(violation(
        "the escalated child starts, or is refused",
        format_args!("neither within {patience:?}"),
    ))
}
