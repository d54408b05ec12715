//! Signals of an escalated child: what it starts with, and how its death is reported.

use serde_json::Value;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Program};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::processes::{Kin, expect_alive, fork};
use crate::stage::server::Stage;
use crate::stage::signals::{LAST, OF_THE_LIBRARY, expect_killed, is_deadly};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.signals/default-and-empty", default_and_empty),
    case("server.escalate.signals/every-one-ignored", every_one_ignored),
    case("server.escalate.signals/every-one-blocked", every_one_blocked),
    case("server.escalate.signals/group", group),
    case("server.escalate.signals/two-children", two_children),
    case("server.escalate.killed/each-signal", each_signal).within_seconds(60),
    case("server.escalate.killed/announced", announced),
    case("server.escalate.killed/an-exit-is-no-signal", an_exit_is_no_signal),
    case("server.escalate.killed/by-somebody-else", by_somebody_else),
    case("server.escalate.killed/with-core-dump", with_core_dump),
    case("server.escalate.killed/grandchild-lives-on", grandchild_lives_on),
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

/// A `kill 0` of one child doesn't reach another.
fn two_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut first = stage.escalate(&program, &[])?;
    let mut second = stage.escalate(&program, &[])?;
    let bystander = second.child.process()?;
    if joined_the_wrapper(first.child.report.group) {
        // Both have the group of their wrapper, the suite.
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

/// Demands a result without a signal.
fn expect_exited(result: &Value, status: i32) -> Verdict {
    expect::equal("exit_code", Some(i64::from(status)), result["exit_code"].as_i64())?;
    expect::that(
        result.get("signal").is_none(),
        format_args!("the result of a child that exited with {status} has no signal"),
        result,
    )
}

/// A child that dies by any signal that can kill.
fn each_signal(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for signal in (1..=LAST).filter(|signal| is_deadly(*signal)) {
        let program = Program::new(context, &format!("program-{signal}"), [Act::Signal(signal)])?;
        let request = stage.request_for(program.text());
        let result = stage.result_of(&request, &[])?;
        program.only_start()?;
        expect_killed(&result, signal)?;
    }
    stage.finish()
}

/// The same for a wrapper that announced the extension.
fn announced(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [Act::Signal(libc::SIGTERM)])?;
    let mut requester = stage.granted(&stage.request_for(program.text()))?;
    requester.send_descriptors_with(&[], &[("signals", Value::Bool(true))])?;
    expect_killed(&requester.result()?, libc::SIGTERM)?;
    stage.finish()
}

/// Exit codes that look like signals are exit codes.
fn an_exit_is_no_signal(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for status in [0, 1, 15, 126, 127, 128, 129, 130, 137, 143, 192, 255] {
        let program = Program::new(context, &format!("program-{status}"), [Act::Exit(status)])?;
        let request = stage.request_for(program.text());
        expect_exited(&stage.result_of(&request, &[])?, status)?;
    }
    stage.finish()
}

/// A child that somebody else kills.
fn by_somebody_else(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        let mut escalated = stage.escalate(&program, &[])?;
        escalated.child.process()?.signal(signal)?;
        expect_killed(&escalated.requester.result()?, signal)?;
    }
    stage.finish()
}

/// A child that dumps core where the system lets it: the flag in the wait status is no part of the number.
fn with_core_dump(context: &mut Context) -> Verdict {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes to `limit`.
    nix::errno::Errno::result(unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) })?;
    let mut stage = Stage::on(context, |launch| launch.limit(libc::RLIMIT_CORE, limit.rlim_max))?;
    let program = ConnectedProgram::new(context, "program")?;
    for signal in [libc::SIGQUIT, libc::SIGABRT] {
        let mut escalated = stage.escalate(&program, &[])?;
        escalated.child.process()?.signal(signal)?;
        expect_killed(&escalated.requester.result()?, signal)?;
    }
    stage.finish()
}

/// The result comes with the death of the child itself, though a grandchild lives and holds its descriptors.
fn grandchild_lives_on(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let null = null()?;
    let mut escalated = stage.escalate(&program, &[(1, &null)])?;
    let grandchild = fork(&mut escalated.child, &program, Kin::Child)?;
    escalated.child.process()?.signal(libc::SIGKILL)?;
    expect_killed(&escalated.requester.result()?, libc::SIGKILL)?;
    // Whether it lives on after that is left open. Without its connection it ends by itself.
    drop(grandchild);
    stage.finish()
}
