//! The server is killed by SIGKILL: its escalated trees end, and its wrappers see the end of file.

use std::time::{Duration, Instant};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::{Received, read_whole};
use crate::probe::remote::{Answer, Order};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::processes::{Kin, expect_alive, expect_all_end, expect_none_lives, fork};
use crate::stage::server::{Escalated, Stage};
use crate::stage::signals::stop;
use crate::stage::tree::grow;
use crate::system::launch::pipe;
use crate::system::process::{Ended, ProcessHandle};
use crate::verdict::{CaseError, Verdict, violation};

/// How long trees that don't resist may live after the server's death.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.server-killed/fifty-trees", fifty_trees),
    case("teardown.server-killed/everything-that-is-hard-to-end", hard_to_end),
    case("teardown.server-killed/while-spawning", while_spawning),
    case("teardown.server-killed/in-every-phase", in_every_phase),
    case("teardown.server-killed/fleeing", fleeing),
    case("teardown.server-killed/child-has-ended-before", child_has_ended_before),
    case("teardown.server-killed/old-children", old_children),
    case("teardown.server-killed/credentials-change", credentials_change),
    case("teardown.server-killed/with-its-process-group", with_its_process_group),
]);

/// Kills the shim and waits for its end.
fn kill(context: &Context, stage: &mut Stage) -> Result<Instant, CaseError> {
    let at = Instant::now();
    stage.shim.process.signal(libc::SIGKILL)?;
    let ended = stage.shim.process.wait("the killed shim", context.patience())?;
    expect::equal("the shim's end", Ended::Killed(libc::SIGKILL), ended)?;
    Ok(at)
}

fn handles<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Result<Vec<ProcessHandle>, CaseError> {
    probes.into_iter().map(Probe::process).collect()
}

/// Fifty trees of a child and a grandchild with a session of its own: none of them lives after a second.
fn fifty_trees(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let null = null()?;
    let mut trees = Vec::new();
    for _ in 0..50 {
        let mut escalated = stage.escalate(&program, &[(0, &null), (1, &null), (2, &null)])?;
        let grandchild = fork(&mut escalated.child, &program, Kin::OwnSession)?;
        trees.push((escalated, grandchild));
    }
    let handles = handles(
        trees
            .iter()
            .flat_map(|(escalated, grandchild)| [&escalated.child, grandchild]),
    )?;
    for handle in &handles {
        expect_alive(handle, "a process of a tree while the server lives")?;
    }
    let at = kill(context, &mut stage)?;
    expect_all_end(
        &handles,
        "a process of an escalated tree of the killed server",
        AT_ONCE.max(context.scaled(AT_ONCE)),
    )?;
    context.transcript.note(format_args!(
        "{} processes of 50 trees were gone {:?} after the kill",
        handles.len(),
        at.elapsed()
    ));
    for (escalated, _) in &mut trees {
        escalated.requester.frames.expect_end("the server was killed")?;
    }
    Ok(())
}

/// Trees with groups and sessions of their own, daemons, processes that ignore signals, and stopped ones.
fn hard_to_end(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut trees = Vec::new();
    for _ in 0..3 {
        let escalated = stage.escalate(&program, &[])?;
        trees.push(grow(context, escalated, &program)?);
    }
    let mut stopped = stage.escalate(&program, &[])?;
    stopped.child.must(&Order::Ignore(libc::SIGTERM))?;
    let stopped_process = stopped.child.process()?;
    stop(&stopped_process, context.patience())?;
    kill(context, &mut stage)?;
    expect_all_end(
        trees
            .iter()
            .flat_map(|tree| &tree.handles)
            .chain([&stopped_process]),
        "a process of an escalated tree of the killed server",
        context.patience(),
    )?;
    for tree in &mut trees {
        let stream = &mut tree.escalated.requester.frames;
        // The child has been stopped in some trees, and a message about it may have been sent before.
        stream.expect_end("the server was killed")?;
    }
    Ok(())
}

/// The kill comes while fifty descriptor messages are being handled: every child that was started ends.
fn while_spawning(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    // How far the server has come when it dies.
    for handled in [0, 1, 10, 25] {
        let mut stage = Stage::new(context)?;
        let mut requesters = Vec::new();
        for _ in 0..50 {
            requesters.push(stage.granted(&stage.request_for(program.text()))?);
        }
        let mut pipes = Vec::new();
        for requester in &mut requesters {
            let (reader, writer) = pipe()?;
            requester.send_descriptors(&[(1, &writer)])?;
            pipes.push(reader);
        }
        let mut started = Vec::new();
        for _ in 0..handled {
            started.push(program.accept("an escalated child")?);
        }
        kill(context, &mut stage)?;
        for requester in &mut requesters {
            requester.frames.expect_end("the server was killed")?;
        }
        // Whatever was started or is half started holds its pipe as long as it lives.
        for reader in pipes {
            let what = format!(
                "every child that the killed server had started or was starting ends ({handled} of 50 had reported), \
                 and with it its pipe"
            );
            read_whole(reader, what, context.patience())?;
        }
        expect_none_lives(&program, "a child of the killed server")?;
        drop(started);
    }
    Ok(())
}

/// Wrappers in every phase see the end of file: idle, half a request, pending, before the descriptors, running.
fn in_every_phase(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let idle = stage.session.socket.open()?;
    let mut half = stage.session.socket.open()?;
    half.frames.send_bytes(&[100, 0, 0, 0, b'{', b'"'], &[])?;
    half.frames.drained()?;
    let escalated = stage.granted(&stage.request_for(program.text()))?;
    let running = stage.escalate(&program, &[])?;
    stage.shim.decide_by_hand();
    let mut pending = stage.session.socket.open()?;
    pending.request(&stage.request_for(program.text()))?;
    let _decision = stage.shim.next_decision()?;
    let child = running.child.process()?;
    kill(context, &mut stage)?;
    for (what, mut requester) in [
        ("an idle stream", idle),
        ("half a request", half),
        ("a pending decision", pending),
        ("between Escalate and descriptors", escalated),
        ("a running child", running.requester),
    ] {
        // Bytes that the server had not read turn the end of file into a reset, which is an end as well.
        match requester.frames.receive()? {
            Received::End { bytes: 0 } => {}
            other => {
                return Err(violation(
                    format_args!("the end of file, in the phase: {what}"),
                    shown(&other),
                ));
            }
        }
    }
    child.expect_end("the running child", context.patience())
}

/// Processes that follow each other while the server dies.
fn fleeing(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    for new_session in [false, true] {
        let mut stage = Stage::new(context)?;
        let (reader, writer) = pipe()?;
        let mut escalated = stage.escalate(&program, &[(1, &writer)])?;
        drop(writer);
        let mut daemon = fork(&mut escalated.child, &program, Kin::Daemon)?;
        daemon.must(&Order::Flee {
            generations: 3_000,
            new_session,
        })?;
        kill(context, &mut stage)?;
        let what = "every process of the tree ends, so that the pipe that all of them hold is closed";
        read_whole(reader, what, context.patience())?;
    }
    Ok(())
}

/// What a child left running when it ended by itself doesn't outlive the server either.
fn child_has_ended_before(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let left = [
        fork(&mut escalated.child, &program, Kin::Child)?,
        fork(&mut escalated.child, &program, Kin::Daemon)?,
    ];
    let handles = handles(&left)?;
    escalated.exit(0)?;
    stage.sentinel()?;
    kill(context, &mut stage)?;
    expect_all_end(
        &handles,
        "what an escalated child of the killed server left running",
        context.patience(),
    )
}

/// Children that have lived through two hundred other requests live as long as the server, and no longer.
///
/// The parent-death signal is bound to the thread that forked, and threads of a pool come and go.
fn old_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut children = Vec::new();
    for _ in 0..8 {
        children.push(stage.escalate(&program, &[])?);
    }
    for _ in 0..200 {
        stage.sentinel()?;
    }
    let handles = handles(children.iter().map(|escalated| &escalated.child))?;
    for handle in &handles {
        expect_alive(handle, "a child while the server lives")?;
    }
    kill(context, &mut stage)?;
    expect_all_end(&handles, "a child of the killed server", context.patience())
}

/// A child that has changed its credentials, which clears a parent-death signal. Needs the privilege for that.
fn credentials_change(context: &mut Context) -> Verdict {
    const NOBODY: u32 = 65_534;
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated: Escalated = stage.escalate(&program, &[])?;
    if let Answer::Failed(errno) = escalated.child.order(&Order::ChangeUser(NOBODY))? {
        escalated.exit(0)?;
        stage.finish()?;
        return Err(CaseError::NotApplicable(format!(
            "without privilege a child cannot change its credentials: {}",
            nix::errno::Errno::from_raw(errno).desc()
        )));
    }
    let handle = escalated.child.process()?;
    stage.sentinel()?;
    expect_alive(&handle, "the child that changed its credentials")?;
    kill(context, &mut stage)?;
    handle.expect_end("the child that changed its credentials", context.patience())
}

/// The kill reaches the server's whole process group, as that of a terminal or a supervisor does.
fn with_its_process_group(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let daemon = fork(&mut escalated.child, &program, Kin::Daemon)?;
    let handles = handles([&escalated.child, &daemon])?;
    let pid = stage.shim.process.pid;
    // A shim that has moved to another group leads none that could be killed.
    if stage.shim.process.state().map(|state| state.group) == Some(pid.as_raw()) {
        nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL)?;
    } else {
        stage.shim.process.signal(libc::SIGKILL)?;
    }
    stage.shim.process.wait("the killed shim", context.patience())?;
    expect_all_end(&handles, "a process of the escalated tree", context.patience())
}
