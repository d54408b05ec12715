//! e2e.terminal.teardown: however a terminal goes, what was started by the patched shell in it ends, inside and outside.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Answer, Decision};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::e2e::EndToEnd;
use crate::stage::e2e::typed::Typed;
use crate::stage::holdings::Holdings;
use crate::stage::one_shot::ignoring_signals;
use crate::stage::processes::{Kin, expect_all_end, fork};
use crate::stage::terminal::{MORE_THAN_IS_KEPT, On, Way};
use crate::system::process::{self, ProcessHandle};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.terminal.teardown/closed", |context| ends(context, Way::Closed, &[jobs])),
    case("e2e.terminal.teardown/cancelled", |context| ends(context, Way::Cancelled, &[jobs])).needs("cancel"),
    case("e2e.terminal.teardown/host-ends", |context| ends(context, Way::HostShutDown, &[jobs])),
    case("e2e.terminal.teardown/host-killed", |context| ends(context, Way::HostKilled, &[jobs])),
    case("e2e.terminal.teardown/closed-with-decisions-pending", |context| ends(context, Way::Closed, &[decisions_pending])),
    case("e2e.terminal.teardown/cancelled-with-decisions-pending", |context| ends(context, Way::Cancelled, &[decisions_pending])).needs("cancel"),
    case("e2e.terminal.teardown/host-ends-with-decisions-pending", |context| ends(context, Way::HostShutDown, &[decisions_pending])),
    case("e2e.terminal.teardown/host-killed-with-decisions-pending", |context| ends(context, Way::HostKilled, &[decisions_pending])),
    case("e2e.terminal.teardown/closed-with-full-output", |context| ends(context, Way::Closed, &[full_output])),
    case("e2e.terminal.teardown/cancelled-with-full-output", |context| ends(context, Way::Cancelled, &[full_output])).needs("cancel"),
    case("e2e.terminal.teardown/host-ends-with-full-output", |context| ends(context, Way::HostShutDown, &[full_output])),
    case("e2e.terminal.teardown/host-killed-with-full-output", |context| ends(context, Way::HostKilled, &[full_output])),
    case("e2e.terminal.teardown/closed-while-trees-flee", |context| flee(context, Way::Closed)),
    case("e2e.terminal.teardown/cancelled-while-trees-flee", |context| flee(context, Way::Cancelled)).needs("cancel"),
    case("e2e.terminal.teardown/host-ends-while-trees-flee", |context| flee(context, Way::HostShutDown)),
    case("e2e.terminal.teardown/host-killed-while-trees-flee", |context| flee(context, Way::HostKilled)),
]);

/// A terminal, and what must end with it.
struct Scene {
    on: On,
    typed: Typed,
    handles: Vec<ProcessHandle>,
    /// Programs that may have become other processes since.
    programs: Vec<Probe>,
    /// Those that flee from the end, and how.
    fleeing: Vec<(Probe, Order)>,
    /// Questions that haven't been answered.
    pending: Vec<Decision>,
}

/// What commands are, by their names.
struct Programs {
    stubborn: ConnectedProgram,
    late: ConnectedProgram,
    talker: ConnectedProgram,
    listener: ConnectedProgram,
}

type Preparation = fn(&mut EndToEnd<'_>, &Programs, &mut Scene) -> Verdict;

/// Lets terminals of each kind go that way, and demands that their shells, the wrappers, and all that was started end, and that a
/// host that lives on holds what it held before.
fn ends(context: &mut Context, way: Way, preparations: &[Preparation]) -> Verdict {
    let mut all = EndToEnd::new(context)?;
    let program = |name| ConnectedProgram::new(context, name);
    let programs = Programs {
        stubborn: program("stubborn")?,
        late: program("late")?,
        talker: program("talker")?,
        listener: program("listener")?,
    };
    let before = way
        .host_lives()
        .then(|| held_without_terminals(context, &mut all, &programs, way))
        .transpose()?;
    let mut scenes = Vec::new();
    for prepare in preparations {
        for on in On::BOTH {
            let mut scene = Scene::open(&mut all, context, on)?;
            prepare(&mut all, &programs, &mut scene)?;
            scene.handles.extend(shell_and_descendants(&scene.typed)?);
            scenes.push(scene);
        }
    }
    for (program, order) in scenes.iter_mut().flat_map(|scene| &mut scene.fleeing) {
        program.must(order)?;
    }
    go(way, &mut all, &mut scenes, context.patience())?;
    let decisions = scenes.into_iter().flat_map(|scene| scene.pending);
    if let Some(before) = before {
        for decision in decisions {
            decision.answer(&Answer::Escalate)?;
        }
        Holdings::expect_returned(&all.shim, &[], &before, "the terminals", context.patience())?;
        all.shutdown()?;
    }
    // The server is gone, so nothing can start any more.
    programs.late.expect_no_start()
}

/// What the server holds after first terminals with escalated commands, which went the same way.
fn held_without_terminals(
    context: &Context,
    all: &mut EndToEnd<'_>,
    programs: &Programs,
    way: Way,
) -> Result<Holdings, CaseError> {
    let mut scenes = Vec::new();
    for on in On::BOTH {
        let mut scene = Scene::open(all, context, on)?;
        jobs(all, programs, &mut scene)?;
        scenes.push(scene);
    }
    go(way, all, &mut scenes, context.patience())?;
    Ok(Holdings::at_rest(&all.shim, &[], context.patience()))
}

/// Lets the terminals go that way, and demands that all processes end.
fn go(way: Way, all: &mut EndToEnd<'_>, scenes: &mut [Scene], patience: Duration) -> Verdict {
    let terminals: Vec<_> = scenes.iter().map(|scene| scene.typed.names()).collect();
    way.take(&mut all.shim, &terminals)?;
    for scene in scenes {
        expect::with_input(scene.on, scene.expect_end(patience))?;
    }
    if way.host_lives() {
        way.let_go(&mut all.shim, &terminals)?;
    }
    Ok(())
}

impl Scene {
    fn open(all: &mut EndToEnd<'_>, context: &Context, on: On) -> Result<Scene, CaseError> {
        Ok(Scene {
            on,
            typed: Typed::open(all, context, on)?,
            handles: Vec::new(),
            programs: Vec::new(),
            fleeing: Vec::new(),
            pending: Vec::new(),
        })
    }

    fn expect_end(&mut self, patience: Duration) -> Verdict {
        const WHAT: &str = "a process of a terminal that is gone";
        expect_all_end(&self.handles, WHAT, patience)?;
        let fleeing = self.fleeing.iter_mut().map(|(program, _)| program);
        let mut programs = self.programs.iter_mut().chain(fleeing);
        programs.try_for_each(|program| program.expect_gone(WHAT))
    }
}

/// The shell, its wrappers, and its other commands inside.
fn shell_and_descendants(typed: &Typed) -> Result<Vec<ProcessHandle>, CaseError> {
    let descendants = process::descendants(typed.shell);
    let pids = descendants.iter().map(|descendant| descendant.pid);
    let mut handles = Vec::new();
    for pid in pids.chain([typed.shell]) {
        handles.extend(ProcessHandle::open(nix::unistd::Pid::from_raw(pid))?);
    }
    Ok(handles)
}

/// A job inside and an escalated one, each deaf to polite signals and with a child in a session of its own, in the background of
/// a shell that reads on.
fn jobs(all: &mut EndToEnd<'_>, programs: &Programs, scene: &mut Scene) -> Verdict {
    for mut job in inside_and_outside(all, programs, scene)? {
        let child = fork(&mut job, &programs.stubborn, Kin::OwnSession)?;
        scene.handles.extend([job.process()?, child.process()?]);
        scene.programs.extend([job, child]);
    }
    Ok(())
}

/// A job in the background under Run, and one under Escalate, both deaf to polite signals.
fn inside_and_outside(
    all: &mut EndToEnd<'_>,
    programs: &Programs,
    scene: &Scene,
) -> Result<Vec<Probe>, CaseError> {
    let mut jobs = Vec::new();
    for decided in [Answer::Run, Answer::Escalate] {
        all.decide("stubborn", decided);
        let mut job = scene.typed.start(all, &programs.stubborn, "stubborn &")?;
        ignoring_signals(&mut job)?;
        jobs.push(job);
    }
    Ok(jobs)
}

/// Beside such jobs, the policy has been asked about one more in the background and about the command in the foreground, and
/// hasn't answered.
fn decisions_pending(all: &mut EndToEnd<'_>, programs: &Programs, scene: &mut Scene) -> Verdict {
    jobs(all, programs, scene)?;
    let before = process::descendants(scene.typed.shell).len();
    all.decide("late", Answer::Later);
    for line in ["late &", "late"] {
        scene.typed.type_line(all, line)?;
        scene.pending.push(all.shim.next_decision()?);
    }
    expect::equal(
        "wrappers below the shell that wait for a decision",
        scene.pending.len(),
        process::descendants(scene.typed.shell)
            .len()
            .saturating_sub(before),
    )
}

/// An escalated command in the foreground has written more than a host keeps, which isn't read, and writes on; another one in the
/// background writes into a pipe that is full, and whose reader doesn't read.
fn full_output(all: &mut EndToEnd<'_>, programs: &Programs, scene: &mut Scene) -> Verdict {
    /// So much any pipe holds (pipe(7)).
    const PAGE: usize = 1 << 12;
    all.decide("talker", Answer::Escalate);
    let mut unheard = scene.typed.start(all, &programs.talker, "talker | listener &")?;
    let listener = programs.listener.accept("the reader of the pipe")?;
    unheard.must(&Order::Fill(1, PAGE))?;
    unheard.send(&Order::Fill(1, MORE_THAN_IS_KEPT))?;
    let mut unread = scene.typed.start(all, &programs.talker, "talker")?;
    unread.must(&Order::Fill(1, MORE_THAN_IS_KEPT))?;
    unread.send(&Order::Fill(1, MORE_THAN_IS_KEPT))?;
    for probe in [unheard, listener, unread] {
        scene.handles.push(probe.process()?);
        scene.programs.push(probe);
    }
    Ok(())
}

fn flee(context: &mut Context, way: Way) -> Verdict {
    ends(context, way, &[fleeing, fleeing_in_new_sessions])
}

/// Daemons of a command inside and of an escalated one, which fork again and again while their parents exit.
fn fleeing(all: &mut EndToEnd<'_>, programs: &Programs, scene: &mut Scene) -> Verdict {
    daemons_on_the_run(all, programs, scene, false)
}

/// The same, each process in a session of its own.
fn fleeing_in_new_sessions(all: &mut EndToEnd<'_>, programs: &Programs, scene: &mut Scene) -> Verdict {
    daemons_on_the_run(all, programs, scene, true)
}

fn daemons_on_the_run(
    all: &mut EndToEnd<'_>,
    programs: &Programs,
    scene: &mut Scene,
    new_session: bool,
) -> Verdict {
    const GENERATIONS: u32 = 3_000;
    for mut job in inside_and_outside(all, programs, scene)? {
        let daemon = fork(&mut job, &programs.stubborn, Kin::Daemon)?;
        let order = Order::Flee {
            generations: GENERATIONS,
            new_session,
        };
        scene.fleeing.push((daemon, order));
        scene.handles.push(job.process()?);
        scene.programs.push(job);
    }
    Ok(())
}
