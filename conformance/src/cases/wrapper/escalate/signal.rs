//! wrapper.escalate.signal: signals to the wrapper reach the child, none lost and none twice.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::RequestStream;
use crate::peer::signals::forwarded as all_forwarded;
use crate::peer::wire::{Received, frame};
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{
    any_call, escalated, escalating, expect_state, fill_with_signals, forwarded, stopped_by,
};
use crate::system::clock::Moment;
use crate::system::launch::Launch;
use crate::system::poll::readable_until;
use crate::system::process::Ended;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.signal/many-in-a-row", many_in_a_row),
    case("wrapper.escalate.signal/stops-only-when-told", stops_only_when_told),
    case("wrapper.escalate.signal/between-escalate-and-descriptors", between_escalate_and_descriptors),
    case("wrapper.escalate.signal/while-half-a-result-is-there", while_half_a_result_is_there).at(Level::Hardened),
    case("wrapper.escalate.signal/behind-the-result", behind_the_result),
    case("wrapper.escalate.signal/while-nobody-reads", while_nobody_reads).at(Level::Hardened),
    case("wrapper.escalate.signal/each-is-forwarded", each_is_forwarded),
    case("wrapper.escalate.signal/sigurg", sigurg),
    case("wrapper.escalate.signal/sigprof", sigprof),
    case("wrapper.escalate.signal/wrapper-stays", wrapper_stays),
    case("wrapper.escalate.signal/before-the-child-started", early_signal),
    case("wrapper.escalate.signal/ignored-at-the-start", ignored_at_the_start),
    case("wrapper.escalate.signal/blocked-at-the-start", blocked_at_the_start),
    case("wrapper.escalate.signal/real-time-signals-in-a-queue", real_time_signals_in_a_queue),
]);

/// 200 signals, each sent once the previous one has arrived: exactly 200 frames.
fn many_in_a_row(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for round in 0..200 {
        let signal = if round % 2 == 0 {
            libc::SIGUSR1
        } else {
            libc::SIGTERM
        };
        wrapper.process.signal(signal)?;
        let seen = forwarded(&mut stream, "a forwarded signal")?;
        expect::equal(&format!("forwarded signal {round}"), i64::from(signal), seen)?;
    }
    let more = readable_until(stream.frames.socket(), Moment::now())?;
    expect::that(!more, "one frame per signal", "more frames on the stream")?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// SIGTSTP is forwarded and the wrapper keeps running; only `stopped` stops it.
fn stops_only_when_told(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    wrapper.process.signal(libc::SIGTSTP)?;
    let seen = forwarded(&mut stream, "SIGTSTP")?;
    expect::equal("the forwarded signal", i64::from(libc::SIGTSTP), seen)?;
    // The wrapper forwards this one as well, so it is running.
    wrapper.process.signal(libc::SIGUSR1)?;
    let seen = forwarded(&mut stream, "SIGUSR1 after SIGTSTP, without a continuation")?;
    expect::equal("the forwarded signal", i64::from(libc::SIGUSR1), seen)?;
    stream.frames.send_json(&json!({"stopped": libc::SIGTSTP}))?;
    stopped_by(&wrapper, context)?;
    wrapper.process.signal(libc::SIGCONT)?;
    let seen = forwarded(&mut stream, "SIGCONT")?;
    expect::equal("the forwarded signal", i64::from(libc::SIGCONT), seen)?;
    stream.result(2)?;
    wrapper.finish()?.expect_status(2)
}

/// SIGTERM arrives after Escalate was sent and before the wrapper has read it: the signal kills the wrapper or
/// reaches the child.
fn between_escalate_and_descriptors(context: &mut Context) -> Verdict {
    for _ in 0..10 {
        let mut wrapper = any_call(context)?.start()?;
        let (mut stream, _) = wrapper.request()?;
        wrapper.process.signal(libc::SIGSTOP)?;
        expect_state(context, &wrapper, "T")?;
        stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
        wrapper.process.signal(libc::SIGTERM)?;
        wrapper.process.signal(libc::SIGCONT)?;
        if matches!(stream.frames.receive()?, Received::Frame(_)) {
            expect_among_frames(&mut stream, libc::SIGTERM)?;
            stream.result(1)?;
            wrapper.finish()?.expect_status(1)?;
        } else {
            let ended = wrapper.process.wait("the wrapper", context.patience())?;
            expect::equal("the wrapper's end", Ended::Killed(libc::SIGTERM), ended)?;
        }
    }
    Ok(())
}

/// Demands a frame of `signal`, before or after which SIGCONT may come.
fn expect_among_frames(stream: &mut RequestStream, signal: i32) -> Verdict {
    loop {
        match forwarded(stream, "the signal that came before the descriptors")? {
            seen if seen == i64::from(signal) => return Ok(()),
            seen if seen == i64::from(libc::SIGCONT) => {}
            seen => {
                return Err(violation(
                    format_args!("signal {signal} is forwarded"),
                    format_args!("signal {seen}"),
                ));
            }
        }
    }
}

/// A signal is forwarded even after half of a result has arrived, and the result is still understood.
fn while_half_a_result_is_there(context: &mut Context) -> Verdict {
    let result = frame(br#"{"exit_code":23}"#);
    for cut in [1, 4, 9] {
        let (mut wrapper, mut stream) = escalating(context)?;
        stream.frames.send_pieces(&result[..cut], &[], &[])?;
        stream.frames.drained()?;
        wrapper.process.signal(libc::SIGUSR2)?;
        let seen = forwarded(&mut stream, "a signal between two pieces of the result")?;
        expect::equal("the forwarded signal", i64::from(libc::SIGUSR2), seen)?;
        stream.frames.send_bytes(&result[cut..], &[])?;
        wrapper.finish()?.expect_status(23)?;
    }
    Ok(())
}

/// A server without the extension need not read signal frames: even when no more of them fit, the result ends the
/// wrapper.
fn while_nobody_reads(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    fill_with_signals(context, &wrapper, &stream)?;
    stream.result(21)?;
    wrapper.finish()?.expect_status(21)
}

/// The server has sent its result and has closed when a signal comes: the frame can't be sent any more, and the result counts.
fn behind_the_result(context: &mut Context) -> Verdict {
    for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGINT] {
        let (mut wrapper, mut stream) = escalating(context)?;
        // Both are there when it looks next.
        wrapper.process.signal(libc::SIGSTOP)?;
        expect_state(context, &wrapper, "T")?;
        stream.result(29)?;
        drop(stream);
        wrapper.process.signal(signal)?;
        wrapper.process.signal(libc::SIGCONT)?;
        let verdict = wrapper.finish()?.expect_status(29);
        expect::with_input(format_args!("signal {signal}"), verdict)?;
    }
    Ok(())
}

/// Each signal sent to the wrapper arrives as a frame with its number.
fn each_is_forwarded(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for signal in all_forwarded().filter(|signal| ![libc::SIGURG, libc::SIGPROF].contains(signal)) {
        wrapper.process.signal(signal)?;
        let seen = forwarded(&mut stream, "a forwarded signal")?;
        expect::equal("the forwarded signal", i64::from(signal), seen)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// SIGURG, which the runtimes of some languages send to themselves.
fn sigurg(context: &mut Context) -> Verdict {
    one(context, libc::SIGURG, "SIGURG")
}

/// SIGPROF, which the runtimes of some languages keep for their profilers.
fn sigprof(context: &mut Context) -> Verdict {
    one(context, libc::SIGPROF, "SIGPROF")
}

fn one(context: &mut Context, signal: i32, name: &str) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    wrapper.process.signal(signal)?;
    let seen = forwarded(&mut stream, name)?;
    expect::equal("the forwarded signal", i64::from(signal), seen)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// What the wrapper was started with ignored, as a background command of a script is, the program may handle.
fn ignored_at_the_start(context: &mut Context) -> Verdict {
    let ignored = [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGTSTP,
    ];
    forwarded_although(context, "ignored", &ignored, Launch::ignoring)
}

/// What the wrapper was started with blocked: the escalated child is started with an empty mask. Each comes alone, so that no
/// other one draws the wrapper's attention to it.
fn blocked_at_the_start(context: &mut Context) -> Verdict {
    let blocked = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGUSR2,
        libc::SIGCHLD,
        libc::SIGTSTP,
        40,
    ];
    forwarded_although(context, "blocked", &blocked, Launch::blocking)
}

fn forwarded_although(
    context: &Context,
    state: &str,
    signals: &[i32],
    change: fn(Launch, i32) -> Launch,
) -> Verdict {
    let call = any_call(context)?;
    let call = call.launched(|launch| signals.iter().copied().fold(launch, change));
    let (mut wrapper, mut stream, _escalation) = escalated(call)?;
    for signal in signals {
        wrapper.process.signal(*signal)?;
        let what = format!("signal {signal}, which was {state} at the wrapper's start");
        let seen = forwarded(&mut stream, &what)?;
        expect::equal(&what, i64::from(*signal), seen)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// Five real-time signals of one number that come while the wrapper is stopped are five frames.
fn real_time_signals_in_a_queue(context: &mut Context) -> Verdict {
    const REAL_TIME: i32 = 40;
    let (mut wrapper, mut stream) = escalating(context)?;
    wrapper.process.signal(libc::SIGSTOP)?;
    expect_state(context, &wrapper, "T")?;
    for _ in 0..5 {
        wrapper.process.signal(REAL_TIME)?;
    }
    wrapper.process.signal(libc::SIGCONT)?;
    let mut missing = 5;
    while missing > 0 {
        let seen = forwarded(&mut stream, &format!("{missing} more real-time signals"))?;
        match seen {
            seen if seen == i64::from(REAL_TIME) => missing -= 1,
            seen => expect::equal("the forwarded signal", i64::from(libc::SIGCONT), seen)?,
        }
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// A forwarded signal does not end the wrapper: the child's end does.
fn wrapper_stays(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let (mut wrapper, mut stream) = escalating(context)?;
        wrapper.process.signal(signal)?;
        forwarded(&mut stream, "a forwarded signal")?;
        // The child handles the signal and exits with a status of its choice.
        stream.result(17)?;
        wrapper.finish()?.expect_status(17)?;
    }
    Ok(())
}

/// A signal right after the descriptors were sent is not lost.
fn early_signal(context: &mut Context) -> Verdict {
    for _ in 0..20 {
        let (mut wrapper, mut stream) = escalating(context)?;
        wrapper.process.signal(libc::SIGUSR1)?;
        let seen = forwarded(&mut stream, "a signal sent at once")?;
        expect::equal("the forwarded signal", i64::from(libc::SIGUSR1), seen)?;
        stream.result(0)?;
        wrapper.finish()?.expect_status(0)?;
    }
    Ok(())
}
