//! e2e.tty.teardown: closing a terminal session ends everything that was started in it.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::terminal::PROMPT;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::e2e::commands;
use crate::stage::e2e::terminal::{NAMES, TerminalShell};
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.tty.teardown/terminal-closed", terminal_closed),
    case("e2e.tty.teardown/session-closed", session_closed),
    case("e2e.tty.teardown/server-killed", server_killed),
]);

/// A terminal session with an escalated child in the foreground that ignores SIGHUP and SIGTERM, and its own
/// child in a session of its own.
struct Scene<'a> {
    shell: TerminalShell<'a>,
    child: Probe,
    grandchild: Probe,
    wrapper: ProcessHandle,
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context) -> Result<Scene<'a>, CaseError> {
        commands(context, NAMES)?;
        let program = ConnectedProgram::new(context, "stubborn")?;
        let mut shell = TerminalShell::start(context)?;
        shell.all.decide("stubborn", Answer::Escalate);
        shell.terminal.type_text("stubborn\n")?;
        let mut child = program.accept("the escalated command")?;
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT] {
            child.must(&Order::Ignore(signal))?;
        }
        child.must(&Order::Fork {
            new_session: true,
            new_group: false,
            orphan: false,
        })?;
        let grandchild = program.accept("the escalated command's child")?;
        let group = shell.terminal.foreground_group()?;
        // The wrapper is in the foreground alone, so the group bears its number.
        let wrapper = ProcessHandle::open(nix::unistd::Pid::from_raw(group))?
            .ok_or_else(|| violation("the wrapper waits in the foreground", "its process is gone"))?;
        Ok(Scene {
            shell,
            child,
            grandchild,
            wrapper,
        })
    }
}

/// The terminal goes away and the caller closes the session: what ignores SIGHUP ends too.
fn terminal_closed(context: &mut Context) -> Verdict {
    let scene = Scene::new(context)?;
    let Scene {
        shell,
        mut child,
        mut grandchild,
        wrapper,
    } = scene;
    let TerminalShell {
        mut all,
        terminal,
        session,
        ..
    } = shell;
    drop(terminal);
    all.shim.close_session(&session)?;
    child.expect_gone("the escalated child, which ignores SIGHUP,")?;
    grandchild.expect_gone("its child in a session of its own")?;
    wrapper.expect_end("the wrapper", context.patience())?;
    all.shutdown()
}

/// The session is closed under an interactive shell: the trees end, the wrapper fails, the shell prompts.
fn session_closed(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    let session = scene.shell.session.clone();
    scene.shell.all.shim.close_session(&session)?;
    scene
        .child
        .expect_gone("the escalated child, which ignores SIGHUP and SIGTERM,")?;
    scene
        .grandchild
        .expect_gone("its child in a session of its own")?;
    scene.wrapper.expect_end("the wrapper", context.patience())?;
    // Whether closing a session ends the shell too is left open; where it doesn't, the shell is usable.
    drop(scene.shell.terminal);
    scene.shell.all.shutdown()
}

/// The server is killed: the trees end, the wrapper fails closed, and the shell prompts again with 126.
fn server_killed(context: &mut Context) -> Verdict {
    let mut scene = Scene::new(context)?;
    scene.shell.all.shim.process.signal(libc::SIGKILL)?;
    scene.child.expect_gone("the escalated child")?;
    scene
        .grandchild
        .expect_gone("its child in a session of its own")?;
    scene.wrapper.expect_end("the wrapper", context.patience())?;
    let terminal = &mut scene.shell.terminal;
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
