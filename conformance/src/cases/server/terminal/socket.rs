//! The escalation socket of a terminal: its process and what descends from it hold it, and nothing else crosses.

use std::collections::BTreeSet;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::program::{Probe, Program};
use crate::probe::remote::Order;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, fork};
use crate::stage::sockets::{expect_beside_streams, expect_only_holder};
use crate::stage::terminal::{Host, On, on_both, socket_number};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.socket/held-by-the-shell-only", held_by_the_shell_only),
    case("terminal.socket/by-its-descendants-too", by_its_descendants_too),
    case("terminal.socket/nothing-else-inherited", nothing_else_inherited),
    case("terminal.socket/among-others", among_others),
    case("terminal.socket/closed-by-a-failed-opening", closed_by_a_failed_opening),
    case("terminal.socket.no-race/unrelated-spawns", unrelated_spawns).needs("unrelated").within_seconds(90),
    case("terminal.socket.no-race/terminals-of-each-other", terminals_of_each_other).within_seconds(90),
]);

fn socket_inode(probe: &Probe) -> Result<u64, CaseError> {
    let number = socket_number(probe)?;
    let socket = probe.report.descriptor(number).ok_or_else(|| {
        violation(
            format_args!("the shell holds descriptor {number}"),
            format_args!("it holds {:?}", probe.report.descriptor_numbers()),
        )
    })?;
    Ok(socket.identity.1)
}

/// Opens a wrapped terminal whose shell keeps its socket to itself.
fn open(host: &mut Host, on: On) -> Result<Probe, CaseError> {
    let shell = host.shell.text().to_owned();
    let opening = host.wrapped(on, &[&shell, "-c", "script"]);
    host.shim.open_terminal(&opening)?;
    host.shell.accept("the shell of a terminal")
}

/// As soon as the shell runs, the host's copy is closed.
fn held_by_the_shell_only(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let probe = open(&mut host, on)?;
        expect_only_holder(context, socket_inode(&probe)?, probe.report.pid)
    })?;
    host.finish()
}

/// What the shell forks has it, too.
fn by_its_descendants_too(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let mut probe = open(&mut host, on)?;
        let forked = fork(&mut probe, &host.shell, Kin::Child)?;
        expect::equal(
            "inode of the socket",
            socket_inode(&probe)?,
            socket_inode(&forked)?,
        )
    })?;
    host.finish()
}

/// Beside its standard streams a wrapped shell has the socket, once, and a direct process nothing.
fn nothing_else_inherited(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let probe = open(&mut host, on)?;
        expect_beside_streams(&probe.report, &[socket_number(&probe)?])?;
        let (_, probe) = host.open_probe(on)?;
        expect_beside_streams(&probe.report, &[])
    })?;
    host.finish()
}

/// Nothing of other terminals crosses: of one that runs, has a request pending, was closed, or is being read.
fn among_others(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let mut busy = host.open_shell(context, on)?;
        let request = RequestMessage::new("/bin/sh", &["pending"], "/");
        let (_requester, _decision) = busy.ask(&host.shim, &request)?;
        let closed = host.open_shell(context, on)?;
        host.shim.close_terminal(&closed.id)?;
        host.shim.send_read(&busy.id, host.patience, None)?;
        for on in On::BOTH {
            let probe = open(&mut host, on)?;
            expect_beside_streams(&probe.report, &[socket_number(&probe)?])?;
            expect_only_holder(context, socket_inode(&probe)?, probe.report.pid)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// When the program can't be executed, the host keeps no end of the socket.
fn closed_by_a_failed_opening(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (_, ready) = host.open_probe(On::Pipes)?;
    drop(ready);
    let before = crate::stage::holdings::Holdings::at_rest(&host.shim, &[], host.patience);
    on_both(|on| {
        for _ in 0..5 {
            // A launcher that is missing; the words behind it are a call of the shell.
            let shell = host.shell.text().to_owned();
            let opening = host.wrapped(on, &["/nonexistent/launcher", &shell, "-c", "script"]);
            let id = host.shim.send("terminal/open", opening.params())?;
            if let Ok(opened) = host.shim.answer_to(id, "terminal/open")? {
                host.read_to_end(&opened["terminal"])?;
                host.shim.close_terminal(&opened["terminal"])?;
            }
        }
        Ok(())
    })?;
    crate::stage::holdings::Holdings::expect_returned(
        &host.shim,
        &[],
        &before,
        "ten openings that failed",
        host.patience,
    )?;
    host.finish()
}

/// The sockets, pipes and pseudo-terminals in a report, apart from standard streams that were given.
fn objects(report: &Report, from: i32) -> BTreeSet<String> {
    report
        .descriptors
        .iter()
        .filter(|descriptor| descriptor.number >= from)
        .map(|descriptor| String::from_utf8_lossy(&descriptor.target).into_owned())
        .filter(|target| {
            ["socket:", "pipe:", "/dev/pts/", "/dev/ptmx"]
                .iter()
                .any(|kind| target.starts_with(kind))
        })
        .collect()
}

/// Many terminals are opened, in one storm with as many unrelated processes, none of which holds a part of one.
fn unrelated_spawns(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 12;
    const AT_ONCE: usize = 8;
    let mut host = Host::new(context)?;
    let shell = Program::new(context, "storm-shell", [])?;
    let unrelated = Program::new(context, "unrelated", [])?;
    for round in 0..ROUNDS {
        let mut calls = Vec::new();
        for number in 0..AT_ONCE {
            let session = format!("storm {round} {number}");
            let opening =
                crate::peer::harness::Opening::new(&session, &[shell.text(), "-c", "x"], &host.directory);
            let on = On::BOTH[number % 2];
            let opening = on.apply(opening).wrapped_by(shell.text(), "/opt/wrapper");
            calls.push((
                "terminal/open",
                host.shim.send("terminal/open", opening.params())?,
            ));
            let params = json!({"argv": [unrelated.text()], "cwd": host.directory, "env": {}});
            calls.push(("process/spawn", host.shim.send("process/spawn", params)?));
        }
        for (method, id) in calls {
            let answer = host.shim.answer_to(id, method)?;
            let result =
                answer.map_err(|error| violation(format_args!("{method} succeeds"), error.message))?;
            if method == "terminal/open" {
                host.read_to_end(&result["terminal"])?;
                host.shim.close_terminal(&result["terminal"])?;
            } else {
                let ended = host.shim.call("process/wait", json!({"pid": result["pid"]}))?;
                expect::equal(
                    "exit_code of an unrelated process",
                    &json!(0),
                    &ended["exit_code"],
                )?;
            }
        }
    }
    let starts = unrelated.starts()?;
    expect::equal("starts of the unrelated program", ROUNDS * AT_ONCE, starts.len())?;
    let parts: BTreeSet<String> = shell
        .starts()?
        .iter()
        .flat_map(|report| objects(report, 0))
        .collect();
    for report in &starts {
        let held = objects(report, 0);
        let stolen: Vec<&String> = held.intersection(&parts).collect();
        expect::that(
            stolen.is_empty() && !held.contains("/dev/ptmx"),
            format_args!(
                "an unrelated process (process {}) holds no part of a terminal",
                report.pid
            ),
            format_args!("it holds {held:?}"),
        )?;
    }
    host.finish()
}

/// Terminals that are opened at the same time hold nothing of each other.
fn terminals_of_each_other(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 10;
    const AT_ONCE: usize = 8;
    let mut host = Host::new(context)?;
    for _ in 0..ROUNDS {
        let mut calls = Vec::new();
        for number in 0..AT_ONCE {
            let shell = host.shell.text().to_owned();
            let opening = host.wrapped(On::BOTH[number % 2], &[&shell, "-c", "x"]);
            calls.push(host.shim.send("terminal/open", opening.params())?);
        }
        let mut probes = Vec::new();
        for _ in 0..AT_ONCE {
            probes.push(host.shell.accept("the shell of a terminal")?);
        }
        let mut inodes = BTreeSet::new();
        for probe in &mut probes {
            expect_beside_streams(&probe.report, &[socket_number(probe)?])?;
            inodes.insert(socket_inode(probe)?);
            probe.send(&Order::Exit(0))?;
        }
        expect::equal("different sockets", AT_ONCE, inodes.len())?;
        for id in calls {
            let answer = host.shim.answer_to(id, "terminal/open")?;
            let result = answer.map_err(|error| violation("terminal/open succeeds", error.message))?;
            host.shim.close_terminal(&result["terminal"])?;
        }
    }
    host.finish()
}
