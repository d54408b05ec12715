//! server.escalate.inherited: limits, niceness and ignored signals of an escalated child.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::limits::{NAMES, below};
use crate::peer::program::Program;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::server::Stage;
use crate::stage::signals::OF_THE_LIBRARY;
use crate::system::launch::{Launch, needs_niceness_below_0};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.inherited/limits", limits),
    case("server.escalate.inherited/limits-never-above-the-server-s", never_above),
    case("server.escalate.inherited/each-limit", each_limit),
    case("server.escalate.inherited/niceness", niceness),
    case("server.escalate.inherited/niceness-below-0", niceness_below_0),
    case("server.escalate.inherited/ignored-signals", ignored_signals),
    case("server.escalate.inherited/without-the-members", without_the_members),
]).needs("inherited");

/// Soft and hard limit of open files that the shims of this file are started with.
const SERVERS: (u64, u64) = (500, 1000);

/// A stage whose server has these limits, a niceness of 3, and SIGUSR1 ignored.
fn stage(context: &Context) -> Result<Stage, CaseError> {
    Stage::on(context, |launch: Launch| {
        launch
            .limits(libc::RLIMIT_NOFILE, SERVERS.0, SERVERS.1)
            .limits(libc::RLIMIT_MSGQUEUE, 0, 4096)
            .nice(3)
            .ignoring(libc::SIGUSR1)
    })
}

/// What a child was started with whose descriptor message has these members.
fn child(context: &Context, stage: &mut Stage, members: &[(&str, Value)]) -> Result<Report, CaseError> {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut requester = stage.granted(&stage.request_for(program.text()))?;
    requester.send_descriptors_with(&[], members)?;
    requester.expect_exit_code(0)?;
    program.only_start()
}

/// Demands a child's limits of open files and message queues, and that no other differs from the server's.
fn expect_limits(report: &Report, plain: &Report, files: (u64, u64), queues: (u64, u64)) -> Verdict {
    for (resource, name) in NAMES.iter().enumerate() {
        let wanted = match *name {
            "nofile" => files,
            "msgqueue" => queues,
            _ => plain.limits[resource],
        };
        expect::equal(
            &format!("the child's limits of {name}"),
            wanted,
            report.limits[resource],
        )?;
    }
    Ok(())
}

/// Limits below the server's are the child's, whatever names the server doesn't know are before and behind them; the others stay as they are, and so do those of the next child.
fn limits(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let plain = child(context, &mut stage, &[])?;
    let limits =
        json!({"a_newer_one": [1, 1], "nofile": [100, 200], "msgqueue": [1024, 2048], "unknown": [1, 1]});
    let report = child(context, &mut stage, &[("limits", limits)])?;
    expect_limits(&report, &plain, (100, 200), (1024, 2048))?;
    let next = child(context, &mut stage, &[])?;
    expect_limits(&next, &plain, plain.limits[7], plain.limits[12])?;
    stage.finish()
}

/// A hard limit above the server's, or none, becomes the server's, and the soft one is never above it.
fn never_above(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let plain = child(context, &mut stage, &[])?;
    let hard = plain.limits[7].1;
    for (asked, given) in [
        (json!([null, null]), (hard, hard)),
        (json!([hard + 1, hard + 1]), (hard, hard)),
        (json!([300, null]), (300, hard)),
        (json!([400, 300]), (300, 300)),
    ] {
        let limits = json!({"nofile": asked, "msgqueue": [null, null]});
        let report = child(context, &mut stage, &[("limits", limits)])?;
        expect_limits(&report, &plain, given, (4096, 4096))?;
    }
    stage.finish()
}

/// Each of the limits by its name: soft and hard ones below the server's, and none, which is the server's hard one.
fn each_limit(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let plain = child(context, &mut stage, &[])?.limits;
    let lower: Vec<_> = plain
        .iter()
        .enumerate()
        .map(|(at, limits)| below(at, *limits))
        .collect();
    let hardest: Vec<_> = plain.iter().map(|(_, hard)| (*hard, *hard)).collect();
    let unlimited = [(libc::RLIM_INFINITY, libc::RLIM_INFINITY); NAMES.len()];
    for (asked, given) in [(&lower[..], &lower), (&unlimited, &hardest)] {
        let limit = |limit: u64| (limit != libc::RLIM_INFINITY).then_some(limit);
        let limits: serde_json::Map<_, _> = NAMES
            .iter()
            .zip(asked)
            .map(|(name, (soft, hard))| ((*name).to_owned(), json!([limit(*soft), limit(*hard)])))
            .collect();
        let report = child(context, &mut stage, &[("limits", limits.into())])?;
        for (resource, name) in NAMES.iter().enumerate() {
            expect::equal(
                &format!("the child's limits of {name}"),
                given[resource],
                report.limits[resource],
            )?;
        }
    }
    stage.finish()
}

/// A server with a niceness below 0 has children with one, as far as it isn't lower than its own.
fn niceness_below_0(context: &mut Context) -> Verdict {
    needs_niceness_below_0()?;
    let mut stage = Stage::on(context, |launch| launch.nice(-5))?;
    for (asked, given) in [(-3, -3), (-1, -1), (-5, -5), (-10, -5), (0, 0)] {
        let report = child(context, &mut stage, &[("nice", json!(asked))])?;
        expect::equal(&format!("the child's niceness for {asked}"), given, report.nice)?;
    }
    stage.finish()
}

/// A higher niceness is the child's; a lower one is not.
fn niceness(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    for (asked, given) in [(9, 9), (19, 19), (3, 3), (0, 3), (-20, 3)] {
        let report = child(context, &mut stage, &[("nice", json!(asked))])?;
        expect::equal(&format!("the child's niceness for {asked}"), given, report.nice)?;
    }
    stage.finish()
}

fn numbers(set: u64) -> Vec<i32> {
    (1..=64)
        .filter(|signal| !OF_THE_LIBRARY.contains(signal) && set & (1 << (signal - 1)) != 0)
        .collect()
}

/// Just these signals are ignored; the two that can't be have no effect.
fn ignored_signals(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    for (asked, given) in [
        (vec![1, 13, 40, 64], vec![1, 13, 40, 64]),
        (vec![17], vec![17]),
        (vec![2, 9, 19], vec![2]),
        (vec![], vec![]),
    ] {
        let report = child(context, &mut stage, &[("ignored", json!(asked))])?;
        expect::equal(
            &format!("the ignored signals for {asked:?}"),
            given,
            numbers(report.ignored),
        )?;
    }
    stage.finish()
}

/// The child then has the server's limits and niceness, and ignores nothing.
fn without_the_members(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    child(
        context,
        &mut stage,
        &[
            ("nice", json!(15)),
            ("ignored", json!([1])),
            ("limits", json!({"msgqueue": [0, 0]})),
        ],
    )?;
    let report = child(context, &mut stage, &[])?;
    expect::equal("the child's niceness", 3, report.nice)?;
    expect::equal("the ignored signals", Vec::<i32>::new(), numbers(report.ignored))?;
    expect::equal("the child's limits of msgqueue", (0, 4096), report.limits[12])?;
    stage.finish()
}
