//! A tree that turns on the process that supervises it ends all the same.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, expect_all_end, fork};
use crate::stage::server::{Escalated, Stage};
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.supervisor/stopped", stopped),
    case("teardown.supervisor/killed", killed),
]);

/// A tree that stops its supervisor ends with its wrapper, and with its session.
fn stopped(context: &mut Context) -> Verdict {
    turn_on_supervisor(context, libc::SIGSTOP)
}

/// A tree that kills its supervisor does, too.
fn killed(context: &mut Context) -> Verdict {
    turn_on_supervisor(context, libc::SIGKILL)
}

/// A tree whose processes have moved away from each other.
struct Tree {
    escalated: Escalated,
    /// They end when these are dropped.
    descendants: Vec<Probe>,
    handles: Vec<ProcessHandle>,
}

/// Lets trees send `signal` to their supervisor, and ends them. Another session's tree must be left alone.
fn turn_on_supervisor(context: &Context, signal: i32) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut other = stage.escalate(&program, &[])?;
    for round in 0..6 {
        let name = format!("round-{round}");
        let session = stage.shim.probe_session(context, &name)?;
        let session_of_other = std::mem::replace(&mut stage.session, session);
        let mut tree = grow(&mut stage, &program)?;
        let supervisor = tree.escalated.child.report.parent;
        if supervisor == stage.shim.process.pid.as_raw() {
            return Err(CaseError::NotApplicable(
                "the parent of an escalated child is the server itself".to_owned(),
            ));
        }
        let daemon = fork(&mut tree.escalated.child, &program, Kin::Daemon)?;
        tree.handles.push(daemon.process()?);
        tree.descendants.push(daemon);
        if let Some(daemon) = tree.descendants.last_mut() {
            match daemon.order(&Order::Kill(supervisor, signal)) {
                // It may be dead before it can answer.
                Ok(_) | Err(CaseError::Violation { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let Escalated { requester, child } = tree.escalated;
        let _still_open = if round % 2 == 0 {
            drop(requester);
            None
        } else {
            stage.close_session()?;
            Some(requester)
        };
        let what = format!("a process of a tree that has sent signal {signal} to its supervisor");
        expect_all_end(&tree.handles, &what, context.patience())?;
        drop((child, tree.descendants));
        other.child.report_again()?;
        stage.session = session_of_other;
    }
    stage.sentinel()?;
    other.exit(0)?;
    stage.expect_no_zombies()?;
    stage.finish()
}

fn grow(stage: &mut Stage, program: &ConnectedProgram) -> Result<Tree, CaseError> {
    let mut escalated = stage.escalate(program, &[])?;
    let mut descendants = Vec::new();
    for kin in Kin::ALL {
        let mut first = fork(&mut escalated.child, program, kin)?;
        descendants.push(fork(&mut first, program, Kin::Daemon)?);
        descendants.push(first);
    }
    let processes = descendants.iter().chain([&escalated.child]);
    let handles = processes.map(Probe::process).collect::<Result<_, _>>()?;
    Ok(Tree {
        escalated,
        descendants,
        handles,
    })
}
