//! The signal state with which an escalated child starts, and its process group.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Program};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::processes::expect_alive;
use crate::stage::server::Stage;
use crate::stage::signals::{LAST, OF_THE_LIBRARY, expect_killed};
use crate::system::launch::Launch;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.signals/default-and-empty", default_and_empty),
    case("server.escalate.signals/every-one-ignored", every_one_ignored),
    case("server.escalate.signals/every-one-blocked", every_one_blocked),
    case("server.escalate.signals/group", group),
    case("server.escalate.signals/two-children", two_children),
    case("server.escalate.signals/wrapper-in-the-server-s-group", wrapper_in_the_servers_group).needs("group"),
]);

/// Signals that cannot be ignored or blocked, and SIGCHLD, without which a server cannot wait for children.
const LEFT_ALONE: [i32; 3] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD];

/// Demands that a child of this stage starts with no signal ignored and none blocked.
fn expect_fresh(context: &Context, mut stage: Stage) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let null = null()?;
    let request = stage.request_for(program.text());
    let result = stage.result_of(&request, &[(0, &null), (1, &null), (2, &null)])?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    let report = program.only_start()?;
    expect::equal(
        "ignored signals of the child",
        Vec::<i32>::new(),
        numbers(report.ignored),
    )?;
    expect::equal(
        "blocked signals of the child",
        Vec::<i32>::new(),
        numbers(report.blocked),
    )?;
    stage.finish()
}

/// The signals of a set, without the library's own.
fn numbers(set: u64) -> Vec<i32> {
    (1..=LAST)
        .filter(|signal| !OF_THE_LIBRARY.contains(signal))
        .filter(|signal| set & (1 << (signal - 1)) != 0)
        .collect()
}

/// Whatever the server itself ignores or blocks, its children start with default dispositions and no mask.
fn default_and_empty(context: &mut Context) -> Verdict {
    let stage = Stage::on(context, |launch| {
        launch
            .ignoring(libc::SIGINT)
            .ignoring(libc::SIGPIPE)
            .ignoring(libc::SIGUSR2)
            .ignoring(34)
            .blocking(libc::SIGTERM)
            .blocking(libc::SIGUSR1)
            .blocking(LAST)
    })?;
    expect_fresh(context, stage)
}

/// The same with every signal ignored.
fn every_one_ignored(context: &mut Context) -> Verdict {
    let stage = Stage::on(context, |launch| {
        (1..=LAST)
            .filter(|signal| !LEFT_ALONE.contains(signal))
            .fold(launch, |launch, signal| launch.ignoring(signal))
    })?;
    expect_fresh(context, stage)
}

/// The same with every signal blocked.
fn every_one_blocked(context: &mut Context) -> Verdict {
    let stage = Stage::on(context, |launch| {
        (1..=LAST)
            .filter(|signal| !LEFT_ALONE.contains(signal))
            .fold(launch, |launch, signal| launch.blocking(signal))
    })?;
    expect_fresh(context, stage)
}

/// Whether a child has joined the process group of its wrapper, which here is the suite itself: then a `kill 0`
/// of the child would reach the suite, rightly.
fn joined_the_wrapper(group: i32) -> bool {
    group == nix::unistd::getpgrp().as_raw()
}

/// The child's group isn't the server's, and a `kill 0` in the child ends the child, not the server.
fn group(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut escalated = stage.escalate(&program, &[])?;
    let servers = stage.shim.process.state().map(|state| state.group);
    let group = escalated.child.report.group;
    expect::that(
        servers.is_some() && servers != Some(group),
        "the child is in a process group that isn't the server's",
        format_args!("child's group {group}, server's {servers:?}"),
    )?;
    if joined_the_wrapper(group) {
        return escalated.exit(0).and_then(|()| stage.finish());
    }
    escalated.child.send(&Order::Kill(0, libc::SIGTERM))?;
    expect_killed(&escalated.requester.result()?, libc::SIGTERM)?;
    stage.sentinel()?;
    stage.finish()
}

/// The child doesn't join its wrapper where that is in the server's own process group.
fn wrapper_in_the_servers_group(context: &mut Context) -> Verdict {
    let mut stage = Stage::on(context, Launch::in_own_group_of_the_case)?;
    let program = ConnectedProgram::new(context, "program")?;
    let members = [("signals", json!(true)), ("group", json!(true))];
    let escalated = stage.escalate_with(&program, &[], &members)?;
    expect::that(
        !joined_the_wrapper(escalated.child.report.group),
        "the child is in a process group that isn't the server's, although its wrapper is in that one",
        "the child is in the server's group",
    )?;
    escalated.exit(0)?;
    stage.finish()
}

/// A `kill 0` of one child doesn't reach another.
fn two_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut first = stage.escalate(&program, &[])?;
    let mut second = stage.escalate(&program, &[])?;
    let bystander = second.child.process()?;
    if joined_the_wrapper(first.child.report.group) {
        // Both have joined the group of their wrapper, which is the suite.
        first.exit(0)?;
        second.exit(0)?;
        return stage.finish();
    }
    first.child.send(&Order::Kill(0, libc::SIGTERM))?;
    expect_killed(&first.requester.result()?, libc::SIGTERM)?;
    stage.sentinel()?;
    expect_alive(&bystander, "the child of another request")?;
    second.child.report_again()?;
    second.exit(4)?;
    stage.finish()
}
