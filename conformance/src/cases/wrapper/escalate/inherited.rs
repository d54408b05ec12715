//! wrapper.escalate.inherited: limits, niceness and ignored signals travel with the descriptors.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::limits::{NAMES, below};
use crate::spec::requirements::Role;
use crate::stage::signals::OF_THE_LIBRARY;
use crate::stage::wrapper::{any_call, escalated};
use crate::system::launch::{Launch, hard_limit, needs_niceness_below_0, own_limits};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.inherited/limits", limits),
    case("wrapper.escalate.inherited/each-limit", each_limit),
    case("wrapper.escalate.inherited/niceness", niceness),
    case("wrapper.escalate.inherited/niceness-below-0", niceness_below_0),
    case("wrapper.escalate.inherited/ignored-signals", ignored_signals),
]);

/// The descriptor message of a wrapper that is launched so.
fn message(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Value, CaseError> {
    let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?.launched(change))?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)?;
    Ok(escalation.message)
}

/// Soft and hard limits differ, and a limit that isn't there is null. All names are there.
fn limits(context: &mut Context) -> Verdict {
    // More than 31, 32 and 53 bits hold.
    const LARGE: u64 = (5 << 30) + 1;
    const HUGE: u64 = (1 << 60) + 1;
    let locks = hard_limit(libc::RLIMIT_LOCKS)?;
    let sizes = HUGE.min(hard_limit(libc::RLIMIT_FSIZE)?);
    let size = LARGE.min(sizes);
    let message = message(context, |launch| {
        launch
            .limits(libc::RLIMIT_NOFILE, 40, 50)
            .limits(libc::RLIMIT_MSGQUEUE, 0, 4096)
            .limits(libc::RLIMIT_LOCKS, 1000, locks)
            .limits(libc::RLIMIT_FSIZE, size, sizes)
    })?;
    let limits = &message["limits"];
    for (name, value) in [
        ("nofile", json!([40, 50])),
        ("msgqueue", json!([0, 4096])),
        ("fsize", json!([size, sizes])),
        (
            "locks",
            json!([1000, (locks != libc::RLIM_INFINITY).then_some(locks)]),
        ),
    ] {
        expect::equal(&format!("{name} of limits"), &value, &limits[name])?;
    }
    for name in NAMES {
        expect::that(
            limits[name].as_array().is_some_and(|pair| pair.len() == 2),
            format_args!("limits has {name}, an array of two"),
            limits,
        )?;
    }
    Ok(())
}

/// Each of the limits by its name: as they are here, which is unlimited for most; with soft ones below hard ones that are unlimited;
/// and with both limited.
fn each_limit(context: &mut Context) -> Verdict {
    let own = |(resource, _): (u32, &&str)| own_limits(resource);
    let unchanged = (0..).zip(&NAMES).map(own).collect::<Result<Vec<_>, _>>()?;
    let below = || {
        unchanged
            .iter()
            .enumerate()
            .map(|(at, limits)| below(at, *limits))
    };
    let soft_only = below()
        .zip(&unchanged)
        .map(|((soft, _), (_, hard))| (soft, *hard));
    for limits in [unchanged.clone(), soft_only.collect(), below().collect()] {
        let message = message(context, |launch| {
            (0..)
                .zip(&limits)
                .fold(launch, |launch, (resource, (soft, hard))| {
                    launch.limits(resource, *soft, *hard)
                })
        })?;
        for (name, (soft, hard)) in NAMES.iter().zip(&limits) {
            let told = |limit: u64| (limit != libc::RLIM_INFINITY).then_some(limit);
            expect::equal(
                &format!("{name} of limits"),
                &json!([told(*soft), told(*hard)]),
                &message["limits"][name],
            )?;
        }
    }
    Ok(())
}

/// `nice` is the wrapper's niceness.
fn niceness(context: &mut Context) -> Verdict {
    each_niceness(context, [0, 7])
}

/// Also below 0, where -1 is the niceness, and getpriority(2) has not failed.
fn niceness_below_0(context: &mut Context) -> Verdict {
    needs_niceness_below_0()?;
    each_niceness(context, [-1, -20])
}

fn each_niceness<const N: usize>(context: &Context, values: [i32; N]) -> Verdict {
    for nice in values {
        let message = message(context, |launch| launch.nice(nice))?;
        expect::equal("nice", Some(i64::from(nice)), message["nice"].as_i64())?;
    }
    Ok(())
}

/// `ignored` has just the signals that were ignored at the start.
fn ignored_signals(context: &mut Context) -> Verdict {
    let all = [libc::SIGHUP, libc::SIGPIPE, libc::SIGCHLD, 40, 64];
    for ignored in [&all[..], &all[..1], &[]] {
        let message = message(context, |launch| {
            ignored
                .iter()
                .fold(launch, |launch, signal| launch.ignoring(*signal))
        })?;
        let mut told: Vec<i64> = message["ignored"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(Value::as_i64)
            .filter(|signal| !OF_THE_LIBRARY.iter().any(|known| i64::from(*known) == *signal))
            .collect();
        told.sort_unstable();
        let wanted: Vec<i64> = ignored.iter().copied().map(i64::from).collect();
        expect::equal("ignored", wanted, told)?;
    }
    Ok(())
}
