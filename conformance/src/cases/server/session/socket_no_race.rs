//! A session's escalation socket is inherited by its shell, and by no process that is spawned at the same time.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Shim;
use crate::peer::program::{ConnectedProgram, Program};
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::processes::{Kin, fork};
use crate::stage::server::Stage;
use crate::system::process;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("session.socket.no-race/before-the-spawn", before_the_spawn).needs("unrelated"),
    case("session.socket.no-race/unrelated-spawns", unrelated_spawns).needs("unrelated").within_seconds(90),
    case("session.socket.no-race/after-the-spawn", after_the_spawn).needs("unrelated"),
    case("session.socket.no-race/escalated-children-meanwhile", escalated_children_meanwhile).within_seconds(60),
    case("session.socket.no-race/shells-of-each-other", shells_of_each_other).within_seconds(60),
]);

/// The sockets in a report, by inode.
fn sockets(report: &Report) -> BTreeSet<u64> {
    report
        .descriptors
        .iter()
        .filter_map(|descriptor| socket_inode(&String::from_utf8_lossy(&descriptor.target)))
        .collect()
}

fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The inodes of all AF_UNIX datagram sockets of the machine, from /proc/net/unix.
fn datagram_sockets() -> Result<BTreeSet<u64>, CaseError> {
    const DATAGRAM: &str = "0002";
    let table = std::fs::read_to_string("/proc/net/unix")?;
    Ok(table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(4) == Some(&DATAGRAM)).then(|| fields.get(6)?.parse().ok())?
        })
        .collect())
}

/// The AF_UNIX datagram sockets that the shim itself holds now: ends of sessions' escalation sockets, and what
/// the implementation may have of its own.
fn held_by(shim: &Shim) -> Result<BTreeSet<u64>, CaseError> {
    let datagram = datagram_sockets()?;
    Ok(process::descriptors(shim.process.pid.as_raw())
        .into_iter()
        .filter_map(|(_, target)| socket_inode(&target.to_string_lossy()))
        .filter(|inode| datagram.contains(inode))
        .collect())
}

/// Demands that a process holds none of these escalation sockets.
fn expect_none_of(ends: &BTreeSet<u64>, report: &Report, who: &str) -> Verdict {
    let held: Vec<u64> = sockets(report).intersection(ends).copied().collect();
    expect::that(
        held.is_empty(),
        format_args!(
            "{who} (process {}) holds no end of an escalation socket",
            report.pid
        ),
        format_args!(
            "it holds the sockets {held:?}; its descriptors: {}",
            report
                .descriptors
                .iter()
                .map(|descriptor| format!(
                    "{} → {}",
                    descriptor.number,
                    String::from_utf8_lossy(&descriptor.target)
                ))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    )
}

fn spawn_unrelated(stage: &mut Stage, program: &str) -> Result<u64, CaseError> {
    let params = json!({"argv": [program], "cwd": stage.directory, "env": {}});
    stage.shim.send("process/spawn", params)
}

/// Waits for the end of an unrelated process whose spawn was asked for before.
fn finish_unrelated(stage: &mut Stage, id: u64) -> Verdict {
    let spawned = stage
        .shim
        .answer_to(id, "process/spawn")?
        .map_err(|error| violation("process/spawn succeeds", error.message))?;
    let ended: Value = stage.shim.call("process/wait", json!({"pid": spawned["pid"]}))?;
    expect::equal(
        "exit_code of an unrelated process",
        &json!(0),
        &ended["exit_code"],
    )
}

/// The shells of the sessions of a case: programs that report their descriptors and end.
fn start_session(stage: &mut Stage, name: &str, shell: &Program) -> Verdict {
    stage
        .shim
        .start_session(name, shell.text(), "/nonexistent/wrapper")
        .map(drop)
}

fn spawn_shell(stage: &mut Stage, name: &str, shell: &Program) -> Result<u64, CaseError> {
    let params = json!({
        "session": name, "argv": [shell.text()], "cwd": stage.directory, "env": {},
    });
    stage.shim.send("session/spawn", params)
}

fn finish_shell(stage: &mut Stage, name: &str, id: u64) -> Verdict {
    let spawned = stage
        .shim
        .answer_to(id, "session/spawn")?
        .map_err(|error| violation("session/spawn succeeds", error.message))?;
    let params = json!({"session": name, "pid": spawned["pid"]});
    let ended = stage.shim.call("session/wait", params)?;
    expect::equal("exit_code of the shell", &json!(0), &ended["exit_code"])?;
    stage.shim.close_session(name)
}

/// Every end of an escalation socket that a shell of these reports held: exactly one socket each.
fn client_ends(reports: &[Report]) -> Result<BTreeSet<u64>, CaseError> {
    let mut ends = BTreeSet::new();
    for report in reports {
        let sockets = sockets(report);
        expect::equal(
            &format!("sockets of the shell, process {}", report.pid),
            1,
            sockets.len(),
        )?;
        ends.extend(sockets);
    }
    expect::equal("escalation sockets of the shells", reports.len(), ends.len())?;
    Ok(ends)
}

/// What is spawned between the start of a session and the spawn of its shell.
fn before_the_spawn(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let shell = Program::new(context, "shell", [])?;
    let unrelated = Program::new(context, "unrelated", [])?;
    let mut ends = held_by(&stage.shim)?;
    for round in 0..10 {
        let name = format!("session-{round}");
        start_session(&mut stage, &name, &shell)?;
        ends.extend(held_by(&stage.shim)?);
        let id = spawn_unrelated(&mut stage, unrelated.text())?;
        finish_unrelated(&mut stage, id)?;
        let id = spawn_shell(&mut stage, &name, &shell)?;
        finish_shell(&mut stage, &name, id)?;
    }
    ends.extend(client_ends(&shell.starts()?)?);
    let starts = unrelated.starts()?;
    expect::equal("starts of the unrelated program", 10, starts.len())?;
    for report in &starts {
        expect_none_of(&ends, report, "a process spawned before the session's shell")?;
    }
    stage.finish()
}

/// What is spawned while a session lives, after the spawn of its shell.
fn after_the_spawn(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let ends: BTreeSet<u64> = held_by(&stage.shim)?
        .union(&sockets(&stage.session.probe.report))
        .copied()
        .collect();
    let unrelated = Program::new(context, "unrelated", [])?;
    for _ in 0..10 {
        let id = spawn_unrelated(&mut stage, unrelated.text())?;
        finish_unrelated(&mut stage, id)?;
    }
    for report in &unrelated.starts()? {
        expect_none_of(&ends, report, "a process spawned beside a session")?;
    }
    stage.finish()
}

/// Two hundred sessions are started and their shells spawned, in one storm with as many unrelated processes.
fn unrelated_spawns(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 25;
    const AT_ONCE: usize = 8;
    let mut stage = Stage::new(context)?;
    let shell = Program::new(context, "shell", [])?;
    let unrelated = Program::new(context, "unrelated", [])?;
    let mut ends = held_by(&stage.shim)?;
    for round in 0..ROUNDS {
        // Requests are handled concurrently, so the order in which they are sent does not order the events.
        let mut starts = Vec::new();
        let mut spawns = Vec::new();
        for index in 0..AT_ONCE {
            let name = format!("session-{round}-{index}");
            let params = json!({"session": name, "shell": shell.text(), "wrapper": "/nonexistent/wrapper"});
            starts.push((name, stage.shim.send("session/start", params)?));
            spawns.push(spawn_unrelated(&mut stage, unrelated.text())?);
        }
        for (_, id) in &starts {
            stage
                .shim
                .answer_to(*id, "session/start")?
                .map_err(|error| violation("session/start succeeds", error.message))?;
        }
        ends.extend(held_by(&stage.shim)?);
        let mut shells = Vec::new();
        for (name, _) in starts {
            spawns.push(spawn_unrelated(&mut stage, unrelated.text())?);
            let id = spawn_shell(&mut stage, &name, &shell)?;
            shells.push((name, id));
        }
        for (name, id) in shells {
            finish_shell(&mut stage, &name, id)?;
        }
        for id in spawns {
            finish_unrelated(&mut stage, id)?;
        }
    }
    let shells = shell.starts()?;
    expect::equal("starts of shells", ROUNDS * AT_ONCE, shells.len())?;
    ends.extend(client_ends(&shells)?);
    let starts = unrelated.starts()?;
    expect::equal(
        "starts of the unrelated program",
        ROUNDS * AT_ONCE * 2,
        starts.len(),
    )?;
    for report in &starts {
        expect_none_of(&ends, report, "a process spawned meanwhile")?;
    }
    stage.finish()
}

/// In one session children are escalated while other sessions are started and their shells spawned.
fn escalated_children_meanwhile(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 100;
    let mut stage = Stage::new(context)?;
    let shell = Program::new(context, "shell", [])?;
    let child = Program::new(context, "child", [])?;
    let null = null()?;
    let mut ends = held_by(&stage.shim)?;
    ends.extend(sockets(&stage.session.probe.report));
    for round in 0..ROUNDS {
        let name = format!("session-{round}");
        let mut first = stage.granted(&stage.request_for(child.text()))?;
        let mut second = stage.granted(&stage.request_for(child.text()))?;
        let params = json!({"session": name, "shell": shell.text(), "wrapper": "/nonexistent/wrapper"});
        let started = stage.shim.send("session/start", params)?;
        first.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        stage
            .shim
            .answer_to(started, "session/start")?
            .map_err(|error| violation("session/start succeeds", error.message))?;
        ends.extend(held_by(&stage.shim)?);
        let spawned = spawn_shell(&mut stage, &name, &shell)?;
        second.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        first.expect_exit_code(0)?;
        second.expect_exit_code(0)?;
        finish_shell(&mut stage, &name, spawned)?;
    }
    ends.extend(client_ends(&shell.starts()?)?);
    let starts = child.starts()?;
    expect::equal("starts of escalated children", 2 * ROUNDS, starts.len())?;
    for report in &starts {
        expect_none_of(&ends, report, "an escalated child")?;
    }
    stage.finish()
}

/// Shells that are spawned at the same time hold one socket each, of their own session; and the server's end of
/// no session is held by any process but the server, seen in /proc while all of them live.
fn shells_of_each_other(context: &mut Context) -> Verdict {
    const AT_ONCE: usize = 12;
    let mut stage = Stage::new(context)?;
    let shell = ConnectedProgram::new(context, "shell")?;
    for round in 0..5 {
        let mut spawns = Vec::new();
        let mut names = Vec::new();
        for index in 0..AT_ONCE {
            let name = format!("session-{round}-{index}");
            stage
                .shim
                .start_session(&name, shell.text(), "/nonexistent/wrapper")?;
            names.push(name);
        }
        for name in &names {
            let params = json!({
                "session": name, "argv": [shell.text()], "cwd": stage.directory, "env": {},
            });
            spawns.push(stage.shim.send("session/spawn", params)?);
        }
        let mut probes = Vec::new();
        for id in spawns {
            stage
                .shim
                .answer_to(id, "session/spawn")?
                .map_err(|error| violation("session/spawn succeeds", error.message))?;
            probes.push(shell.accept("a session's shell")?);
        }
        let reports: Vec<Report> = probes.iter().map(|probe| probe.report.clone()).collect();
        let clients = client_ends(&reports)?;
        let pid = stage.shim.process.pid.as_raw();
        // Each client's end is held by its own shell, and after the spawn by no other process.
        let mut others = Vec::new();
        let alone = process::eventually(context.patience(), || {
            others = clients
                .iter()
                .flat_map(|inode| process::holders_of_socket(*inode))
                .filter(|(holder, _)| !reports.iter().any(|report| report.pid == *holder))
                .collect();
            others.is_empty()
        });
        expect::that(
            alone,
            "only the shells hold the clients' ends of their escalation sockets",
            format_args!("(process, descriptor): {others:?}; the server is process {pid}"),
        )?;
        // And a process that a shell starts holds what its shell holds.
        let grandchild = match probes.first_mut() {
            Some(first) => fork(first, &shell, Kin::Child)?,
            None => return Err(crate::verdict::harness("no shell")),
        };
        expect::that(
            sockets(&grandchild.report).intersection(&clients).count() == 1,
            "a descendant of a shell inherits the escalation socket of its session alone",
            format_args!("{:?}", sockets(&grandchild.report)),
        )?;
        for name in &names {
            stage.shim.close_session(name)?;
        }
    }
    stage.finish()
}
