//! The result of an escalated child that was killed by a signal.

use serde_json::Value;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Program};
use crate::probe::plan::Act;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::processes::{Kin, fork};
use crate::stage::server::Stage;
use crate::stage::signals::{LAST, expect_killed, is_deadly};
use crate::system::launch::hard_limit;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.killed/each-signal", each_signal).within_seconds(60),
    case("server.escalate.killed/announced", announced),
    case("server.escalate.killed/an-exit-is-no-signal", an_exit_is_no_signal),
    case("server.escalate.killed/by-another-process", by_another_process),
    case("server.escalate.killed/with-core-dump", with_core_dump),
    case("server.escalate.killed/grandchild-lives-on", grandchild_lives_on),
]);

/// Demands a result without a signal.
fn expect_exited(result: &Value, status: i32) -> Verdict {
    expect::equal("exit_code", Some(i64::from(status)), result["exit_code"].as_i64())?;
    expect::that(
        result.get("signal").is_none(),
        format_args!("the result of a child that exited with {status} has no signal"),
        result,
    )
}

/// Children that die by each signal that can kill.
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

/// A child that another process kills.
fn by_another_process(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        let mut escalated = stage.escalate(&program, &[])?;
        escalated.child.process()?.signal(signal)?;
        expect_killed(&escalated.requester.result()?, signal)?;
    }
    stage.finish()
}

/// A child that dumps core where the system lets it: the core flag of the wait status is not part of the number.
fn with_core_dump(context: &mut Context) -> Verdict {
    let limit = hard_limit(libc::RLIMIT_CORE)?;
    let mut stage = Stage::on(context, |launch| launch.limit(libc::RLIMIT_CORE, limit))?;
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
    // The specification leaves open whether it lives on. Without its connection it exits by itself.
    drop(grandchild);
    stage.finish()
}
