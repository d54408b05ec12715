//! The escalation socket at the spawn of a shell: the shell holds it, nothing beside it, and no other process does.

use std::collections::BTreeSet;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::EscalationSocket;
use crate::peer::harness::{Answer, Overlay, Shim};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::probe::report::Report;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::server::{Escalated, Stage};
use crate::stage::sockets::{expect_beside_streams, expect_only_holder};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("session.socket.inherited/number-is-the-socket", number_is_the_socket),
    case("session.socket.inherited/a-handshake-is-served", a_handshake_is_served),
    case("session.socket.inherited/for-grandchildren", for_grandchildren),
    case("session.socket.inherited/overlay-over-base", overlay_over_base),
    case("session.socket.client-only/descriptor-list", descriptor_list),
    case("session.socket.client-only/two-sessions", two_sessions),
    case("session.socket.client-only/second-session-while-first-lives", second_session_while_first_lives),
    case("session.socket.client-only/with-open-requests", with_open_requests),
    case("session.socket.closed/shell-only", shell_only),
    case("session.socket.closed/among-many-sessions", among_many_sessions),
    case("session.socket.closed/one-shot", one_shot).needs("exec"),
    case("session.socket.closed/escalated-child-has-none", escalated_child_has_none),
    case("session.socket.closed/later-shell-has-none", later_shell_has_none),
]);

/// A session whose shell is a probe that has not handed over its socket.
struct Shell {
    overlay: Overlay,
    probe: Probe,
    program: ConnectedProgram,
}

fn spawn_shell(context: &Context, shim: &mut Shim, session: &str) -> Result<Shell, CaseError> {
    let program = ConnectedProgram::new(context, &format!("shell-{session}"))?;
    let overlay = shim.start_session(session, program.text(), "/opt/wrapper")?;
    let directory = context.work_directory().to_string_lossy().into_owned();
    shim.spawn(session, &[program.text()], &directory)?;
    let probe = program.accept("the spawned shell")?;
    Ok(Shell {
        overlay,
        probe,
        program,
    })
}

/// The inode of the socket at the overlay's number.
fn socket_inode(overlay: &Overlay, report: &Report) -> Result<u64, CaseError> {
    let number = overlay.socket_number()?;
    let socket = report.descriptor(number).ok_or_else(|| {
        violation(
            format_args!("the shell holds descriptor {number}"),
            format_args!("it holds {:?}", report.descriptor_numbers()),
        )
    })?;
    Ok(socket.identity.1)
}

/// At its first instruction the shell has, under the overlay's number, an AF_UNIX datagram socket.
fn number_is_the_socket(context: &mut Context) -> Verdict {
    use nix::sys::socket::{SockType, getsockopt, sockopt};
    let mut shim = Shim::start(context)?;
    let mut shell = spawn_shell(context, &mut shim, "main")?;
    let number = shell.overlay.socket_number()?;
    socket_inode(&shell.overlay, &shell.probe.report)?;
    let socket = shell.probe.take_descriptor(number)?;
    expect::equal(
        "type of the escalation socket",
        Some(SockType::Datagram),
        getsockopt(&socket, sockopt::SockType).ok(),
    )?;
    let address =
        nix::sys::socket::getsockname::<nix::sys::socket::UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&socket));
    expect::that(
        address.is_ok(),
        "the escalation socket is an AF_UNIX socket",
        format_args!("{address:?}"),
    )?;
    shim.shutdown()
}

/// A handshake on it is served.
fn a_handshake_is_served(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    stage.sentinel()?;
    stage.finish()
}

/// What the shell executes has it too, and is served.
fn for_grandchildren(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let mut shell = spawn_shell(context, &mut shim, "main")?;
    let number = shell.overlay.socket_number()?;
    let inode = socket_inode(&shell.overlay, &shell.probe.report)?;
    let command = ConnectedProgram::new(context, "command")?;
    shell.probe.must(&Order::Fork {
        new_session: false,
        new_group: false,
        orphan: false,
    })?;
    let mut forked = shell.program.accept("the process that the shell forked")?;
    forked.send(&Order::Execute {
        file: command.text().to_owned(),
        arguments: vec!["command".to_owned()],
    })?;
    let mut command = command.accept("the command that the shell executes")?;
    expect::equal(
        "inode of the command's escalation socket",
        inode,
        socket_inode(&shell.overlay, &command.report)?,
    )?;
    let socket = command.take_descriptor(number)?;
    let mut socket = EscalationSocket::new(socket, context.transcript.clone(), context.patience())
        .with(shim.counterpart());
    let mut requester = socket.open()?;
    let request = crate::peer::fake_wrapper::RequestMessage::new("/bin/sh", &["x"], "/");
    requester.request(&request)?;
    shim.next_decision()?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    shim.shutdown()
}

/// If the base environment has the names already, the shell sees the values of the overlay, once each.
fn overlay_over_base(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let program = ConnectedProgram::new(context, "shell")?;
    let overlay = shim.start_session("main", program.text(), "/opt/wrapper")?;
    let base = json!({"EXEC_WRAPPER": "/of/the/base", "CODEX_ESCALATE_SOCKET": "99", "KEPT": "1"});
    shim.call(
        "session/spawn",
        json!({"session": "main", "argv": [program.text()], "cwd": context.work_directory(), "env": base}),
    )?;
    let probe = program.accept("the spawned shell")?;
    for name in ["EXEC_WRAPPER", "CODEX_ESCALATE_SOCKET"] {
        let prefix = format!("{name}=");
        let entries: Vec<String> = probe
            .report
            .environment
            .iter()
            .map(|entry| String::from_utf8_lossy(entry).into_owned())
            .filter(|entry| entry.starts_with(&prefix))
            .collect();
        let expected = vec![format!("{name}={}", overlay.get(name).unwrap_or_default())];
        expect::equal("entries of the shell's environment", expected, entries)?;
    }
    socket_inode(&overlay, &probe.report)?;
    expect::equal(
        "KEPT of the base environment",
        Some(b"1".to_vec()),
        probe.report.variable("KEPT"),
    )?;
    shim.shutdown()
}

/// Beside its standard streams a shell holds the client's end, once, and nothing else.
fn descriptor_list(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let shell = spawn_shell(context, &mut shim, "main")?;
    let number = shell.overlay.socket_number()?;
    expect_beside_streams(&shell.probe.report, &[number])?;
    shim.shutdown()
}

/// Two sessions that were both started before either was spawned: each shell has its own socket only.
fn two_sessions(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let mut sessions = Vec::new();
    for name in ["one", "two"] {
        let program = ConnectedProgram::new(context, &format!("shell-{name}"))?;
        let overlay = shim.start_session(name, program.text(), "/opt/wrapper")?;
        sessions.push((name, program, overlay));
    }
    let directory = context.work_directory().to_string_lossy().into_owned();
    let mut inodes = BTreeSet::new();
    let mut probes = Vec::new();
    for (name, program, overlay) in &sessions {
        shim.spawn(name, &[program.text()], &directory)?;
        let probe = program.accept("the spawned shell")?;
        expect_beside_streams(&probe.report, &[overlay.socket_number()?])?;
        inodes.insert(socket_inode(overlay, &probe.report)?);
        probes.push(probe);
    }
    expect::equal("different sockets of two sessions", 2, inodes.len())?;
    shim.shutdown()
}

/// A session that is started and spawned while another one's shell lives.
fn second_session_while_first_lives(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let first = shim.probe_session(context, "first")?;
    let second = spawn_shell(context, &mut shim, "second")?;
    expect_beside_streams(&second.probe.report, &[second.overlay.socket_number()?])?;
    let inode = socket_inode(&second.overlay, &second.probe.report)?;
    expect::that(
        socket_inode(&first.overlay, &first.probe.report)? != inode,
        "two sessions have two sockets",
        "they share one",
    )?;
    shim.shutdown()
}

/// Request streams and escalated children's lines don't cross the spawn of another session's shell either.
fn with_open_requests(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let child = ConnectedProgram::new(context, "child")?;
    let Escalated {
        requester: _requester,
        child: _probe,
    } = stage.start(&child)?;
    let request = stage.request("/bin/sh", &["pending"]);
    let (_pending, _decision) = stage.ask(&request)?;
    let second = spawn_shell(context, &mut stage.shim, "second")?;
    expect_beside_streams(&second.probe.report, &[second.overlay.socket_number()?])?;
    stage.finish()
}

/// After the spawn no process but the shell holds the client's end.
fn shell_only(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let shell = spawn_shell(context, &mut shim, "main")?;
    let inode = socket_inode(&shell.overlay, &shell.probe.report)?;
    expect_only_holder(context, inode, shell.probe.report.pid)?;
    shim.shutdown()
}

/// The same for each of many sessions that live at once.
fn among_many_sessions(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let shells = (0..6)
        .map(|index| spawn_shell(context, &mut shim, &format!("session-{index}")))
        .collect::<Result<Vec<_>, _>>()?;
    for shell in &shells {
        let inode = socket_inode(&shell.overlay, &shell.probe.report)?;
        expect_only_holder(context, inode, shell.probe.report.pid)?;
    }
    shim.shutdown()
}

/// The same while the shell of a one-shot runs.
fn one_shot(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let program = ConnectedProgram::new(context, "shell")?;
    let id = shim.send(
        "exec",
        json!({
            "session": "one-shot", "shell": program.text(), "wrapper": "/opt/wrapper", "command": "x",
            "workdir": context.work_directory(), "env": {},
        }),
    )?;
    let mut probe = program.accept("the shell of the one-shot")?;
    let sockets: Vec<_> = probe
        .report
        .descriptors
        .iter()
        .filter(|descriptor| descriptor.number > 2)
        .collect();
    let number = probe
        .report
        .variable("CODEX_ESCALATE_SOCKET")
        .and_then(|value| String::from_utf8(value).ok()?.parse::<i32>().ok());
    let [socket] = sockets[..] else {
        return Err(violation(
            "beside its standard streams the shell holds the escalation socket",
            format_args!("{sockets:?}"),
        ));
    };
    expect::equal(
        "number of the one socket, as in CODEX_ESCALATE_SOCKET",
        number,
        Some(socket.number),
    )?;
    expect_only_holder(context, socket.identity.1, probe.report.pid)?;
    probe.send(&Order::Exit(0))?;
    shim.answer_to(id, "exec")?
        .map_err(|error| violation("exec succeeds", shown(&error)))?;
    shim.shutdown()
}

/// An escalated child is not a descendant of the shell: it has no escalation socket.
fn escalated_child_has_none(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let inode = socket_inode(&stage.session.overlay, &stage.session.probe.report)?;
    let child = ConnectedProgram::new(context, "child")?;
    let Escalated {
        requester: _requester,
        child: probe,
    } = stage.start(&child)?;
    let held: Vec<i32> = probe
        .report
        .descriptors
        .iter()
        .filter(|descriptor| descriptor.target == format!("socket:[{inode}]").as_bytes())
        .map(|descriptor| descriptor.number)
        .collect();
    expect::that(
        held.is_empty(),
        "an escalated child doesn't hold the escalation socket",
        format_args!("it holds it as {held:?}"),
    )?;
    stage.finish()
}

/// A shell that is spawned later, in another session, doesn't hold the first session's socket.
fn later_shell_has_none(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let first = spawn_shell(context, &mut shim, "first")?;
    let inode = socket_inode(&first.overlay, &first.probe.report)?;
    let _second = spawn_shell(context, &mut shim, "second")?;
    expect_only_holder(context, inode, first.probe.report.pid)?;
    shim.shutdown()
}
