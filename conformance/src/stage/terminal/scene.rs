//! Terminals that are hard to end.

use serde_json::Value;

use super::{Host, MORE_THAN_IS_KEPT, On, ProbeTerminal, Way, numbered};
use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::Decision;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::stage::descriptors::null;
use crate::stage::holdings::Holdings;
use crate::stage::one_shot::ignoring_signals;
use crate::stage::processes::{Kin, expect_all_end, expect_none_lives, fork};
use crate::stage::signals::stop;
use crate::stage::tree::grow;
use crate::system::launch::pipe;
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict};

/// A terminal, and what must end with it.
pub struct Scene {
    on: On,
    /// Id and session of the terminal.
    terminal: (Value, String),
    /// Processes.
    handles: Vec<ProcessHandle>,
    /// Programs that may have become other processes since.
    programs: Vec<Probe>,
    /// Those that flee from the end, and how.
    fleeing: Vec<(Probe, Order)>,
    /// Calls that wait for the terminal.
    calls: Vec<(u64, &'static str)>,
    /// What would end by itself if it were let go of, or let others end.
    _kept: Kept,
}

#[derive(Default)]
struct Kept {
    _requesters: Vec<Requester>,
    _decisions: Vec<Decision>,
    _probes: Vec<Probe>,
    _ends: Vec<std::fs::File>,
}

/// Prepares a terminal; the program is what is escalated.
pub type Preparation = fn(&Context, &mut Host, &ConnectedProgram, On) -> Result<Scene, CaseError>;

/// Lets terminals of each kind that were prepared so go that way, and demands that everything that was started in them ends, and
/// that a host that lives on holds what it held before.
pub fn expect_end_of(context: &Context, way: Way, preparations: &[Preparation]) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    let before = way
        .host_lives()
        .then(|| held_without_terminals(context, &mut host, &program, way))
        .transpose()?;
    let mut scenes = Vec::new();
    for prepare in preparations {
        for on in On::BOTH {
            scenes.push(prepare(context, &mut host, &program, on)?);
        }
    }
    let begun = way.begin(&mut host.shim, scenes.len())?;
    for (program, order) in scenes.iter_mut().flat_map(|scene| &mut scene.fleeing) {
        program.must(order)?;
    }
    let terminals: Vec<_> = scenes.iter().map(|scene| scene.terminal.clone()).collect();
    begun.take(&mut host.shim, &terminals)?;
    for scene in &mut scenes {
        expect::with_input(scene.on, scene.expect_end(&host))?;
    }
    let Some(before) = before else { return Ok(()) };
    for (call, method) in scenes.iter().flat_map(|scene| &scene.calls) {
        // With a result or an error: what has been written or read was, or it wasn't.
        let _ = host.shim.answer_to(*call, method)?;
    }
    way.let_go(&mut host.shim, &terminals)?;
    drop(scenes);
    Holdings::expect_returned(&host.shim, &[], &before, "the terminals", host.patience)?;
    expect_none_lives(&host.shell, "a process of a terminal that is gone")?;
    expect_none_lives(
        &program,
        "a process of an escalated tree of a terminal that is gone",
    )?;
    host.finish()
}

/// What the host holds after first terminals that went the same way: what it sets up once for all of them is there by then.
fn held_without_terminals(
    context: &Context,
    host: &mut Host,
    program: &ConnectedProgram,
    way: Way,
) -> Result<Holdings, CaseError> {
    let mut first = Vec::new();
    for on in On::BOTH {
        let mut terminal = host.open_shell(context, on)?;
        terminal.escalate(&host.shim, program)?.exit(0)?;
        first.push(terminal);
    }
    let terminals: Vec<_> = first.iter().map(ProbeTerminal::names).collect();
    way.take(&mut host.shim, &terminals)?;
    for terminal in &mut first {
        let probe = &mut terminal.probe;
        probe.expect_gone("the process of a terminal that is gone")?;
    }
    way.let_go(&mut host.shim, &terminals)?;
    drop(first);
    Ok(Holdings::at_rest(&host.shim, &[], host.patience))
}

impl Scene {
    fn of(terminal: &ProbeTerminal, on: On) -> Result<Scene, CaseError> {
        Ok(Scene {
            on,
            terminal: terminal.names(),
            handles: vec![terminal.probe.process()?],
            programs: Vec::new(),
            fleeing: Vec::new(),
            calls: Vec::new(),
            _kept: Kept::default(),
        })
    }

    fn expect_end(&mut self, host: &Host) -> Verdict {
        const WHAT: &str = "a process of a terminal that is gone";
        expect_all_end(&self.handles, WHAT, host.patience)?;
        let fleeing = self.fleeing.iter_mut().map(|(program, _)| program);
        let mut programs = self.programs.iter_mut().chain(fleeing);
        programs.try_for_each(|program| program.expect_gone(WHAT))
    }
}

/// A request that waits for its decision beside trees in which some processes are daemons, some stopped, and some deaf: the
/// terminal's own one, and an escalated one.
pub fn with_a_decision_pending(
    context: &Context,
    host: &mut Host,
    program: &ConnectedProgram,
    on: On,
) -> Result<Scene, CaseError> {
    let mut terminal = host.open_shell(context, on)?;
    let mut scene = Scene::of(&terminal, on)?;
    ignoring_signals(&mut terminal.probe)?;
    let mut own = Vec::new();
    for kin in Kin::ALL {
        let mut first = fork(&mut terminal.probe, &host.shell, kin)?;
        let second = fork(&mut first, &host.shell, Kin::Daemon)?;
        own.extend([first, second]);
    }
    let stopped = fork(&mut terminal.probe, &host.shell, Kin::OwnSession)?;
    stop(&stopped.process()?, host.patience)?;
    own.push(stopped);
    for probe in &own {
        scene.handles.push(probe.process()?);
    }
    let escalated = terminal.escalate(&host.shim, program)?;
    let mut tree = grow(context, escalated, program)?;
    scene.handles.append(&mut tree.handles);
    let request = RequestMessage::new("/bin/sh", &["pending"], "/");
    let (requester, decision) = terminal.ask(&host.shim, &request)?;
    scene.programs.push(terminal.probe);
    scene.programs.extend(own);
    scene.programs.extend(tree.descendants);
    scene.programs.push(tree.escalated.child);
    scene
        ._kept
        ._requesters
        .extend([requester, tree.escalated.requester]);
    scene._kept._decisions.push(decision);
    Ok(scene)
}

/// Processes that follow each other so fast that a list of them is outdated when it is read, deaf to polite signals: in the
/// terminal's own tree, and in an escalated one.
pub fn fleeing(
    context: &Context,
    host: &mut Host,
    program: &ConnectedProgram,
    on: On,
) -> Result<Scene, CaseError> {
    flee(context, host, program, on, false)
}

/// The same, each of them in a session of its own.
pub fn fleeing_in_new_sessions(
    context: &Context,
    host: &mut Host,
    program: &ConnectedProgram,
    on: On,
) -> Result<Scene, CaseError> {
    flee(context, host, program, on, true)
}

fn flee(
    context: &Context,
    host: &mut Host,
    program: &ConnectedProgram,
    on: On,
    new_session: bool,
) -> Result<Scene, CaseError> {
    const GENERATIONS: u32 = 3_000;
    let mut terminal = host.open_shell(context, on)?;
    let mut scene = Scene::of(&terminal, on)?;
    let mut escalated = terminal.escalate(&host.shim, program)?;
    scene.handles.push(escalated.child.process()?);
    let own = fork(&mut terminal.probe, &host.shell, Kin::Daemon)?;
    let outside = fork(&mut escalated.child, program, Kin::Daemon)?;
    for mut daemon in [own, outside] {
        ignoring_signals(&mut daemon)?;
        let order = Order::Flee {
            generations: GENERATIONS,
            new_session,
        };
        scene.fleeing.push((daemon, order));
    }
    scene.programs = vec![terminal.probe, escalated.child];
    scene._kept._requesters.push(escalated.requester);
    Ok(scene)
}

/// An output of which more has come than is kept, and which isn't read; an input that isn't either; an escalated child whose pipe
/// is full, and a process of the terminal's own that never stops writing.
pub fn full_output_and_input(
    context: &Context,
    host: &mut Host,
    program: &ConnectedProgram,
    on: On,
) -> Result<Scene, CaseError> {
    /// So much any pipe holds (pipe(7)).
    const PAGE: usize = 1 << 12;
    let mut terminal = host.open_shell(context, on)?;
    let mut scene = Scene::of(&terminal, on)?;
    let write = host.shim.send_write(&terminal.id, &numbered(300 << 10))?;
    scene.calls.push((write, "terminal/write"));
    let (reader, writer) = pipe()?;
    let null = null()?;
    let placements = [(0, &null as _), (1, &writer as _), (2, &null as _)];
    let mut escalated = terminal.escalate_with(&host.shim, program, &placements)?;
    escalated.child.must(&Order::Fill(1, PAGE))?;
    escalated.child.send(&Order::Fill(1, MORE_THAN_IS_KEPT))?;
    let mut babbler = fork(&mut terminal.probe, &host.shell, Kin::OwnSession)?;
    scene
        .handles
        .extend([escalated.child.process()?, babbler.process()?]);
    babbler.send(&Order::Execute {
        file: "/bin/sh".to_owned(),
        arguments: ["sh", "-c", "while :; do echo babble babble babble; done"]
            .map(str::to_owned)
            .to_vec(),
    })?;
    terminal.probe.must(&Order::Fill(1, MORE_THAN_IS_KEPT))?;
    terminal.probe.send(&Order::Fill(1, MORE_THAN_IS_KEPT))?;
    scene.programs = vec![terminal.probe, escalated.child];
    scene._kept._requesters.push(escalated.requester);
    scene._kept._probes.push(babbler);
    scene._kept._ends.push(reader);
    Ok(scene)
}
