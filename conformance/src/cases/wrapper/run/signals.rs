//! wrapper.run.signals: ignored, blocked and pending signals of the command are those of the wrapper.

use proptest::prelude::*;

use crate::case::context::Context;
use crate::case::{Table, case, expect, property};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{run_directly, run_under};
use crate::system::launch::Launch;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.signals/default", signals_default),
    case("wrapper.run.signals/ignored-stay-ignored", signals_ignored),
    case("wrapper.run.signals/blocked-stay-blocked", signals_blocked),
    case("wrapper.run.signals/any-state", any_signal_state).within_seconds(60),
    case("wrapper.run.signals/pending-stay-pending", pending_stay_pending),
]);

/// No disposition and no mask of the wrapper's own: SIGPIPE first of all.
fn signals_default(context: &mut Context) -> Verdict {
    same_signals(context, |launch| launch)
}

/// Ignored signals stay ignored, as under nohup: single ones, all at once, and each half of them.
fn signals_ignored(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGPIPE,
        libc::SIGCHLD,
        libc::SIGTTOU,
        34,
        64,
    ] {
        same_signals(context, |launch| launch.ignoring(signal))?;
    }
    for signals in sets_of_signals() {
        same_signals(context, |launch| {
            signals.iter().copied().fold(launch, Launch::ignoring)
        })?;
    }
    Ok(())
}

/// Blocked signals stay blocked: single ones, all at once, and each half of them.
fn signals_blocked(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGCHLD,
        libc::SIGUSR1,
        libc::SIGWINCH,
        40,
    ] {
        same_signals(context, |launch| launch.blocking(signal))?;
    }
    for signals in sets_of_signals() {
        same_signals(context, |launch| {
            signals.iter().copied().fold(launch, Launch::blocking)
        })?;
    }
    Ok(())
}

/// Demands the signal state of a program that the suite's launcher starts directly.
fn same_signals(context: &Context, change: impl Fn(Launch) -> Launch) -> Verdict {
    let direct = run_directly(context, &change)?;
    let report = run_under(context, &change)?;
    expect::equal("state of signals", signal_state(&direct), signal_state(&report))
}

fn signal_state(report: &Report) -> [(&'static str, String); 3] {
    let shown = |set: u64| format!("{set:016x}");
    [
        ("ignored signals", shown(report.ignored)),
        ("blocked signals", shown(report.blocked)),
        ("pending signals", shown(report.pending)),
    ]
}

/// All signals but SIGKILL and SIGSTOP, the two included that C libraries reserve, and each half of them.
fn sets_of_signals() -> [Vec<i32>; 3] {
    let changeable = || (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal));
    [
        changeable().filter(|signal| signal % 2 == 0).collect(),
        changeable().filter(|signal| signal % 2 == 1).collect(),
        changeable().collect(),
    ]
}

/// Property: any set of ignored and blocked signals.
fn any_signal_state(context: &mut Context) -> Verdict {
    let context = &*context;
    let signal = (1..=64_i32).prop_filter("the C library keeps 32 and 33", |signal| {
        ![9, 19, 32, 33].contains(signal)
    });
    let signals = proptest::collection::vec(signal, 0..6);
    let each: Vec<i32> = (1..=64)
        .filter(|signal| ![9, 19, 32, 33].contains(signal))
        .collect();
    let decisive = [
        (vec![], vec![]),
        (each.clone(), vec![]),
        (vec![], each.clone()),
        (each.clone(), each),
    ];
    property::holds_of_these_and(
        context,
        decisive,
        &(signals.clone(), signals),
        |(ignored, blocked)| {
            same_signals(context, |launch| {
                let launch = ignored
                    .iter()
                    .fold(launch, |launch, signal| launch.ignoring(*signal));
                blocked
                    .iter()
                    .fold(launch, |launch, signal| launch.blocking(*signal))
            })
        },
    )
}

/// A signal that came while it was blocked, during the decision, is still there for the command.
fn pending_stay_pending(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let signals = [libc::SIGUSR1, libc::SIGTERM, libc::SIGCHLD, libc::SIGWINCH];
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call
        .launched(|launch| signals.into_iter().fold(launch, Launch::blocking))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    for signal in signals {
        wrapper.process.signal(signal)?;
    }
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    for signal in signals {
        // SIGCHLD and SIGWINCH, whose default is to be ignored, are kept too while they are blocked.
        let pending = report.pending & (1 << (signal - 1)) != 0;
        expect::that(
            pending,
            format_args!("signal {signal} is pending for the command"),
            format_args!("{:016x}", report.pending),
        )?;
    }
    Ok(())
}
