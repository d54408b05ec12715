//! e2e.tty.teardown: closing a terminal session ends everything that was started in it.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Answer, Decision};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::terminal::{PROMPT, Terminal};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::e2e::commands;
use crate::stage::e2e::terminal::{NAMES, TerminalShell};
use crate::stage::holdings::Holdings;
use crate::stage::one_shot::ignoring_signals;
use crate::stage::processes::{Kin, fork};
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.tty.teardown/terminal-closed", |context| ends(context, Way::TerminalClosed, stubborn)),
    case("e2e.tty.teardown/session-closed", |context| ends(context, Way::SessionClosed, stubborn)),
    case("e2e.tty.teardown/session-cancelled", |context| ends(context, Way::SessionCancelled, stubborn)).needs("cancel"),
    case("e2e.tty.teardown/server-killed", server_killed),
    case("e2e.tty.teardown/terminal-closed-with-a-decision-pending", |context| ends(context, Way::TerminalClosed, decision_pending)),
    case("e2e.tty.teardown/session-closed-with-a-decision-pending", |context| ends(context, Way::SessionClosed, decision_pending)),
    case("e2e.tty.teardown/session-cancelled-with-a-decision-pending", |context| ends(context, Way::SessionCancelled, decision_pending)).needs("cancel"),
    case("e2e.tty.teardown/server-killed-with-a-decision-pending", |context| ends(context, Way::ServerKilled, decision_pending)),
    case("e2e.tty.teardown/terminal-closed-with-full-output", |context| ends(context, Way::TerminalClosed, full_output)),
    case("e2e.tty.teardown/session-closed-with-full-output", |context| ends(context, Way::SessionClosed, full_output)),
    case("e2e.tty.teardown/session-cancelled-with-full-output", |context| ends(context, Way::SessionCancelled, full_output)).needs("cancel"),
    case("e2e.tty.teardown/server-killed-with-full-output", |context| ends(context, Way::ServerKilled, full_output)),
    case("e2e.tty.teardown/terminal-closed-while-a-tree-flees", |context| ends(context, Way::TerminalClosed, fleeing)),
    case("e2e.tty.teardown/session-closed-while-a-tree-flees", |context| ends(context, Way::SessionClosed, fleeing)),
    case("e2e.tty.teardown/session-cancelled-while-a-tree-flees", |context| ends(context, Way::SessionCancelled, fleeing)).needs("cancel"),
    case("e2e.tty.teardown/server-killed-while-a-tree-flees", |context| ends(context, Way::ServerKilled, fleeing)),
]);

/// How a terminal session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The terminal goes away, and the caller closes the session.
    TerminalClosed,
    /// The session is closed under an interactive shell.
    SessionClosed,
    /// The session's parent token is cancelled.
    SessionCancelled,
    /// The server is killed by SIGKILL.
    ServerKilled,
}

/// A command in the foreground of a terminal session.
struct Scene {
    /// The escalated command, and what it has started.
    programs: Vec<Probe>,
    wrapper: ProcessHandle,
    /// A question about a program that must not start.
    pending: Option<(ConnectedProgram, Decision)>,
}

impl Scene {
    fn new(shell: &TerminalShell<'_>, programs: Vec<Probe>) -> Result<Scene, CaseError> {
        let group = shell.terminal.foreground_group()?;
        // The wrapper is in the foreground alone, so the group bears its number.
        let wrapper = ProcessHandle::open(nix::unistd::Pid::from_raw(group))?
            .ok_or_else(|| violation("the wrapper waits in the foreground", "its process is gone"))?;
        Ok(Scene {
            programs,
            wrapper,
            pending: None,
        })
    }

    fn expect_trees_end(&mut self) -> Verdict {
        let mut programs = self.programs.iter_mut();
        programs.try_for_each(|program| {
            program.expect_gone("a process of an escalated tree whose session is over")
        })
    }

    /// Demands that the wrapper ends; from now on the terminal is read, in case that what the wrapper has to say doesn't fit in.
    fn expect_wrapper_ends(&self, terminal: Option<&mut Terminal>, context: &Context) -> Verdict {
        if let Some(terminal) = terminal {
            terminal.read_until_end_of(&self.wrapper)?;
        }
        self.wrapper.expect_end("the wrapper", context.patience())
    }
}

type Preparation = fn(&Context, &mut TerminalShell<'_>) -> Result<Scene, CaseError>;

/// Ends a session that way, and demands that the escalated tree and the wrapper end, and that a server that lives on holds no more
/// than before the command.
fn ends(context: &mut Context, way: Way, prepare: Preparation) -> Verdict {
    let (mut shell, before) = start(context)?;
    let mut scene = prepare(context, &mut shell)?;
    let others = [shell.pid()];
    let TerminalShell {
        mut all,
        terminal,
        session,
        ..
    } = shell;
    let mut terminal = Some(terminal);
    match way {
        Way::TerminalClosed => {
            terminal = None;
            all.shim.close_session(&session)?;
        }
        Way::SessionClosed => all.shim.close_session(&session)?,
        Way::SessionCancelled => all.shim.cancel_session(&session)?,
        Way::ServerKilled => all.shim.process.signal(libc::SIGKILL)?,
    }
    scene.expect_trees_end()?;
    scene.expect_wrapper_ends(terminal.as_mut(), context)?;
    let (late, decision) = scene.pending.unzip();
    if way != Way::ServerKilled {
        decision.map_or(Ok(()), |decision| decision.answer(&Answer::Escalate))?;
        let patience = context.patience();
        Holdings::expect_returned(&all.shim, &others, &before, "a session", patience)?;
        // Whether closing a session ends the shell too is left open; where it doesn't, it ends with its terminal.
        drop(terminal);
        all.shutdown()?;
    }
    // The server is gone, so nothing can start any more.
    late.map_or(Ok(()), |program| program.expect_no_start())
}

/// A terminal session, and what the server holds in it after a first escalated command.
fn start(context: &Context) -> Result<(TerminalShell<'_>, Holdings), CaseError> {
    commands(context, NAMES)?;
    let mut shell = TerminalShell::start(context)?;
    shell.terminal.command("escalate-it out:first")?;
    let before = Holdings::at_rest(&shell.all.shim, &[shell.pid()], context.patience());
    Ok((shell, before))
}

/// Types the name of a program that is escalated.
fn escalate(
    shell: &mut TerminalShell<'_>,
    program: &ConnectedProgram,
    name: &str,
) -> Result<Probe, CaseError> {
    shell.all.decide(name, Answer::Escalate);
    shell.terminal.type_text(&format!("{name}\n"))?;
    let mut child = program.accept("the escalated command")?;
    ignoring_signals(&mut child)?;
    Ok(child)
}

/// An escalated child that ignores SIGHUP, SIGTERM and SIGINT, and its own child in a session of its own.
fn stubborn(context: &Context, shell: &mut TerminalShell<'_>) -> Result<Scene, CaseError> {
    let program = ConnectedProgram::new(context, "stubborn")?;
    let mut child = escalate(shell, &program, "stubborn")?;
    let grandchild = fork(&mut child, &program, Kin::OwnSession)?;
    Scene::new(shell, vec![child, grandchild])
}

/// A wrapper that ignores SIGHUP, about whose command the policy has been asked and hasn't answered.
fn decision_pending(context: &Context, shell: &mut TerminalShell<'_>) -> Result<Scene, CaseError> {
    let program = ConnectedProgram::new(context, "late")?;
    shell.terminal.command("trap '' HUP")?;
    shell.all.decide("late", Answer::Later);
    shell.terminal.type_text("late\n")?;
    let decision = shell.all.shim.next_decision()?;
    let mut scene = Scene::new(shell, Vec::new())?;
    scene.pending = Some((program, decision));
    Ok(scene)
}

/// An escalated child that writes more to the terminal than that holds, which isn't read.
fn full_output(context: &Context, shell: &mut TerminalShell<'_>) -> Result<Scene, CaseError> {
    let program = ConnectedProgram::new(context, "talker")?;
    let mut child = escalate(shell, &program, "talker")?;
    child.send(&Order::Fill(1, 1 << 20))?;
    shell.terminal.wait_for("..........")?;
    Scene::new(shell, vec![child])
}

/// A daemon of an escalated child that forks again and again, each process in a session of its own, while its parent exits.
fn fleeing(context: &Context, shell: &mut TerminalShell<'_>) -> Result<Scene, CaseError> {
    let program = ConnectedProgram::new(context, "restless")?;
    let mut child = escalate(shell, &program, "restless")?;
    let mut daemon = fork(&mut child, &program, Kin::Daemon)?;
    daemon.must(&Order::Flee {
        generations: 3_000,
        new_session: true,
    })?;
    Scene::new(shell, vec![child, daemon])
}

/// The server is killed: the trees end, the wrapper fails closed, and the shell prompts again with 126.
fn server_killed(context: &mut Context) -> Verdict {
    let (mut shell, _) = start(context)?;
    let mut scene = stubborn(context, &mut shell)?;
    shell.all.shim.process.signal(libc::SIGKILL)?;
    scene.expect_trees_end()?;
    scene.expect_wrapper_ends(None, context)?;
    let terminal = &mut shell.terminal;
    terminal.wait_for(PROMPT)?;
    let seen = terminal.command("echo $?")?;
    expect::contains("`$?` of the command whose server was killed", &seen, "\n126\r\n")?;
    let seen = terminal.command("run-it out:never; echo $?")?;
    expect::that(
        seen.contains("\n126\r\n") && !seen.contains("\nnever\r\n"),
        "without a server a command fails closed with 126",
        format_args!("the terminal shows {seen:?}"),
    )?;
    terminal.type_text("exit 0\n")?;
    terminal.expect_end()
}
