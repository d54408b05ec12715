//! Ending an escalated child ends its whole tree, wherever its processes have moved to, and no other process.

use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Shim;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::read_whole;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::ending::expect_ended_child_stream;
use crate::stage::one_shot::{Begun, OneShots};
use crate::stage::processes::{Kin, expect_all_end, expect_no_zombies, fork};
use crate::stage::server::{Escalated, Stage};
use crate::stage::traced::{HELD_UP, Traced};
use crate::stage::tree::{Tree, grow};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.tree/on-close", on_close),
    case("teardown.tree/on-disconnect", on_disconnect),
    case("teardown.tree/on-cancel", on_cancel).needs("cancel"),
    case("teardown.tree/on-timeout", on_timeout).by_the_clock().needs("exec"),
    case("teardown.tree/on-the-end-of-a-one-shot", on_the_end_of_a_one_shot).needs("exec"),
    case("teardown.tree/traced", traced).by_the_clock().needs("exec"),
    case("teardown.tree/traced-on-close", traced_on_close),
    case("teardown.tree/traced-on-cancel", traced_on_cancel).needs("cancel"),
    case("teardown.tree/deep", deep),
    case("teardown.tree/child-has-ended-before", child_has_ended_before),
    case("teardown.tree/fleeing", fleeing),
    case("teardown.tree/breeding", breeding),
    case("teardown.tree/other-processes-unharmed", other_processes_unharmed),
    case("teardown.tree/other-requests-of-the-session", other_requests_of_the_session),
    case("teardown.tree/many-at-once", many_at_once),
]);

fn tree_on(context: &Context, stage: &mut Stage, program: &ConnectedProgram) -> Result<Tree, CaseError> {
    let null = null()?;
    let escalated = stage.escalate(program, &[(0, &null), (1, &null), (2, &null)])?;
    let tree = grow(context, escalated, program)?;
    stage.sentinel()?;
    tree.expect_alive()?;
    Ok(tree)
}

/// Closing the session ends the tree.
fn on_close(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut tree = tree_on(context, &mut stage, &program)?;
    stage.close_session()?;
    tree.expect_end(context.patience())?;
    expect_ended_child_stream(&mut tree.escalated.requester)?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// The end of the wrapper ends the tree.
fn on_disconnect(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let tree = tree_on(context, &mut stage, &program)?;
    drop(tree.escalated.requester);
    expect_all_end(
        &tree.handles,
        "a process of the escalated tree",
        context.patience(),
    )?;
    stage.expect_no_zombies()?;
    stage.sentinel()?;
    stage.finish()
}

/// Cancelling the parent token ends the tree.
fn on_cancel(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let tree = tree_on(context, &mut stage, &program)?;
    stage.shim.cancel_session(&stage.session.name)?;
    tree.expect_end(context.patience())?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// An escalated tree of a one-shot.
fn tree_of(context: &Context, begun: &mut Begun, shim: &Shim) -> Result<Tree, CaseError> {
    let program = ConnectedProgram::new(context, "program")?;
    let escalated = begun.escalate_with(shim, &program, &[])?;
    let tree = grow(context, escalated, &program)?;
    tree.expect_alive()?;
    Ok(tree)
}

/// The timeout of a one-shot ends the tree.
fn on_timeout(context: &mut Context) -> Verdict {
    // Long enough for the tree to grow on a busy machine, whatever the scale of timeouts.
    const LEAST_MS: u64 = 3_000;
    let mut one_shots = OneShots::new(context)?;
    one_shots.short_timeout_ms = one_shots.short_timeout_ms.max(LEAST_MS);
    let mut begun = one_shots.begin(context, Some(one_shots.short_timeout_ms))?;
    let tree = tree_of(context, &mut begun, &one_shots.shim)?;
    let shell = begun.shell.process()?;
    one_shots.timed_out(begun.id)?;
    tree.expect_end(context.patience())?;
    shell.expect_end("the shell of a one-shot that timed out", context.patience())?;
    expect_no_zombies(one_shots.shim.process.pid.as_raw(), context.patience())?;
    one_shots.shim.shutdown()
}

/// The end of a one-shot's shell ends the tree that it left.
fn on_the_end_of_a_one_shot(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, None)?;
    let tree = tree_of(context, &mut begun, &one_shots.shim)?;
    begun.shell.send(&Order::Exit(5))?;
    let answer = one_shots.result(begun.id)?;
    expect::equal("exit_code of the one-shot", &json!(5), &answer["exit_code"])?;
    tree.expect_end(context.patience())?;
    expect_no_zombies(one_shots.shim.process.pid.as_raw(), context.patience())?;
    one_shots.shim.shutdown()
}

/// A process that cannot be reaped, since another process traces it, holds up a timeout for ten seconds at most.
fn traced(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, Some(one_shots.short_timeout_ms))?;
    let daemon = fork(&mut begun.shell, &begun.program, Kin::Daemon)?;
    let traced = Traced::new(&daemon)?;
    let timeout = Duration::from_millis(one_shots.short_timeout_ms);
    let result = one_shots.result_within(begun.id, timeout + HELD_UP + context.patience())?;
    expect::equal("timed_out", &json!(true), &result["timed_out"])?;
    // From now on it can be reaped.
    traced.expect_end(context.patience())?;
    expect_no_zombies(one_shots.shim.process.pid.as_raw(), context.patience())?;
    one_shots.shim.shutdown()
}

/// The same for closing a session.
fn traced_on_close(context: &mut Context) -> Verdict {
    traced_and(context, "session/close")
}

/// The same for cancelling its parent token.
fn traced_on_cancel(context: &mut Context) -> Verdict {
    traced_and(context, "session/cancel")
}

/// Ends a session with a traced process by a method: that is answered, the wrapper of the escalated child hears of it, and others
/// are served.
fn traced_and(context: &Context, method: &str) -> Verdict {
    let mut stage = Stage::new(context)?;
    let others = stage.shim.probe_session(context, "others")?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let daemon = fork(&mut escalated.child, &program, Kin::Daemon)?;
    let child = escalated.child.process()?;
    let traced = Traced::new(&daemon)?;
    let bound = HELD_UP + context.patience();
    let params = json!({"session": stage.session.name});
    stage.shim.call_within(method, params, bound)?;
    // Its end, or a last result; which of them is looked at below.
    readable_until(escalated.requester.frames.socket(), Moment::now() + bound)?;
    expect_ended_child_stream(&mut escalated.requester)?;
    child.expect_end("the escalated child", context.patience())?;
    stage.session = others;
    stage.sentinel()?;
    traced.expect_end(context.patience())?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// Twenty generations, each with a session of its own.
fn deep(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let mut generations = vec![fork(&mut escalated.child, &program, Kin::OwnSession)?];
    for _ in 1..20 {
        let Some(last) = generations.last_mut() else { break };
        let next = fork(last, &program, Kin::OwnSession)?;
        generations.push(next);
    }
    let handles = generations
        .iter()
        .map(Probe::process)
        .collect::<Result<Vec<_>, _>>()?;
    drop(escalated.requester);
    expect_all_end(&handles, "a generation of the escalated tree", context.patience())?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// What a child left behind when it ended by itself may live on, but not longer than its session.
fn child_has_ended_before(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let escalated = stage.escalate(&program, &[])?;
    let tree = grow(context, escalated, &program)?;
    tree.escalated.exit(3)?;
    stage.sentinel()?;
    stage.close_session()?;
    expect_all_end(
        &tree.handles,
        "what an escalated child left running, after its session has been closed,",
        context.patience(),
    )?;
    stage.expect_no_zombies()?;
    stage.finish()
}

/// Processes that follow each other so fast that a list of them is outdated when it is read: with the process
/// group of the child, and with a session of its own for each.
fn fleeing(context: &mut Context) -> Verdict {
    const GENERATIONS: u32 = 3_000;
    moving(context, |new_session| Order::Flee {
        generations: GENERATIONS,
        new_session,
    })
}

/// A process that keeps forking while its tree is being ended.
fn breeding(context: &mut Context) -> Verdict {
    const CHILDREN: u32 = 400;
    moving(context, |new_session| Order::Breed {
        children: CHILDREN,
        new_session,
    })
}

/// Ends a tree in which a daemon carries out `order`, by closing its stream and by closing its session. Twelve
/// times.
fn moving(context: &Context, order: impl Fn(bool) -> Order) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for round in 0..12 {
        let (new_session, by_closing) = (round % 2 == 1, round % 4 >= 2);
        let name = format!("round-{round}");
        stage.session = stage.shim.probe_session(context, &name)?;
        let (reader, writer) = pipe()?;
        let mut escalated = stage.escalate(&program, &[(1, &writer)])?;
        drop(writer);
        let mut daemon = fork(&mut escalated.child, &program, Kin::Daemon)?;
        // The daemon goes on carrying out the order while the tree is ended.
        daemon.must(&order(new_session))?;
        let Escalated { requester, child } = escalated;
        let _still_open = if by_closing {
            stage.close_session()?;
            Some(requester)
        } else {
            drop(requester);
            None
        };
        let what = "every process of the tree ends, so that the pipe that all of them hold is closed";
        read_whole(reader, what, context.patience())?;
        daemon.expect_gone("what the daemon became")?;
        drop(child);
        stage.expect_no_zombies()?;
    }
    stage.finish()
}

/// Ending one tree signals no other process: no other tree, no shell, no unrelated process, and not the server.
fn other_processes_unharmed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut others = Vec::new();
    let another = stage.shim.probe_session(context, "another")?;
    let main = std::mem::replace(&mut stage.session, another);
    let escalated = stage.escalate(&program, &[])?;
    let beside = grow_plainly(escalated, &program)?;
    others.extend(beside.1);
    let mut first = beside.0;
    stage.session = main;
    let watched = vec![
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGUSR1,
        libc::SIGCONT,
    ];
    if context.has_capability("unrelated") {
        let unrelated = ConnectedProgram::new(context, "unrelated")?;
        let params = json!({"argv": [unrelated.text()], "cwd": stage.directory, "env": {}});
        stage.shim.call("process/spawn", params)?;
        let mut probe = unrelated.accept("the unrelated process")?;
        let daemon = fork(&mut probe, &unrelated, Kin::Daemon)?;
        others.extend([probe, daemon]);
    }
    for probe in others.iter_mut().chain([&mut first.child]) {
        probe.must(&Order::Watch(watched.clone()))?;
    }
    let tree = tree_on(context, &mut stage, &program)?;
    drop(tree.escalated.requester);
    expect_all_end(
        &tree.handles,
        "a process of the escalated tree",
        context.patience(),
    )?;
    stage.sentinel()?;
    for probe in others.iter_mut().chain([&mut first.child]) {
        expect_unharmed(probe)?;
    }
    // The session whose tree was ended lives, and so does its shell.
    stage.session.probe.report_again()?;
    stage.close_session()?;
    stage.session = stage.shim.probe_session(context, "third")?;
    stage.sentinel()?;
    for probe in others.iter_mut().chain([&mut first.child]) {
        expect_unharmed(probe)?;
    }
    first.exit(0)?;
    drop(others);
    stage.finish()
}

/// A child with a daemon and a process of its own group.
fn grow_plainly(
    mut escalated: Escalated,
    program: &ConnectedProgram,
) -> Result<(Escalated, Vec<Probe>), CaseError> {
    let group = fork(&mut escalated.child, program, Kin::OwnGroup)?;
    let daemon = fork(&mut escalated.child, program, Kin::Daemon)?;
    Ok((escalated, vec![group, daemon]))
}

/// Demands that a process lives, answers, and got none of the signals that it watches.
fn expect_unharmed(probe: &mut Probe) -> Verdict {
    probe.report_again()?;
    // A signal that a process sends to itself arrives after all earlier ones.
    let pid = probe.report.pid;
    probe.must(&Order::Kill(pid, libc::SIGUSR1))?;
    expect::equal(
        &format!("the first signal of process {pid}, which does not belong to the ended tree"),
        libc::SIGUSR1,
        probe.next_signal("its own SIGUSR1")?,
    )
}

/// Two trees in one session: when one wrapper goes, the other tree stays whole.
fn other_requests_of_the_session(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for round in 0..5 {
        let escalated = stage.escalate(&program, &[])?;
        let (mut first, first_descendants) = grow_plainly(escalated, &program)?;
        let escalated = stage.escalate(&program, &[])?;
        let (second, second_descendants) = grow_plainly(escalated, &program)?;
        let (ended, ended_descendants, mut living, mut living_descendants) = if round % 2 == 0 {
            (second, second_descendants, first, first_descendants)
        } else {
            first.child.report_again()?;
            (first, first_descendants, second, second_descendants)
        };
        let handles = ended_descendants
            .iter()
            .chain([&ended.child])
            .map(Probe::process)
            .collect::<Result<Vec<_>, _>>()?;
        drop(ended.requester);
        expect_all_end(&handles, "a process of the ended tree", context.patience())?;
        stage.sentinel()?;
        for probe in living_descendants.iter_mut().chain([&mut living.child]) {
            probe.report_again()?;
        }
        living.exit(4)?;
    }
    stage.finish()
}

/// Twenty trees with processes that are hard to find, ended at once by closing their session.
fn many_at_once(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut handles = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..20 {
        let escalated = stage.escalate(&program, &[])?;
        let (escalated, descendants) = grow_plainly(escalated, &program)?;
        for probe in descendants.iter().chain([&escalated.child]) {
            handles.push(probe.process()?);
        }
        kept.push((escalated, descendants));
    }
    stage.close_session()?;
    expect_all_end(&handles, "a process of the escalated trees", context.patience())?;
    for (escalated, _) in &mut kept {
        expect_ended_child_stream(&mut escalated.requester)?;
    }
    stage.expect_no_zombies()?;
    stage.finish()
}
