//! wrapper.escalate.signal: at any moment after Escalate, several at once, and when the stream was full, no signal is
//! lost.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::RequestStream;
use crate::peer::wire::Received;
use crate::peer::wrapper_call::WrapperRun;
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{
    any_call, escalating, expect_held_up, expect_state, fill_with_signals, forwarded, waiting_bytes,
};
use crate::system::process::Ended;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.signal/at-any-moment-after-escalate", at_any_moment_after_escalate),
    case("wrapper.escalate.signal/six-at-once", six_at_once),
    case("wrapper.escalate.signal/after-the-stream-was-full", after_the_stream_was_full).at(Level::Hardened),
    case("wrapper.escalate.signal/real-time-signals-on-a-full-stream", real_time_signals_on_a_full_stream).at(Level::Hardened),
]);

/// SIGTERM some milliseconds after Escalate, from none to 50: it ends the wrapper before it has handed anything over,
/// or it is forwarded.
fn at_any_moment_after_escalate(context: &mut Context) -> Verdict {
    for milliseconds in [0, 1, 2, 3, 5, 8, 12, 18, 25, 33, 41, 50] {
        let mut wrapper = any_call(context)?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
        // The moment is the input.
        thread::sleep(Duration::from_millis(milliseconds));
        wrapper.process.signal(libc::SIGTERM)?;
        context
            .transcript
            .note(format_args!("SIGTERM {milliseconds} ms after Escalate"));
        if matches!(stream.frames.receive()?, Received::Frame(_)) {
            let what = format!("SIGTERM, sent {milliseconds} ms after Escalate");
            let seen = forwarded(&mut stream, &what)?;
            expect::equal(&what, i64::from(libc::SIGTERM), seen)?;
            stream.result(1)?;
            wrapper.finish()?.expect_status(1)?;
        } else {
            let ended = wrapper.process.wait("the wrapper", context.patience())?;
            expect::equal("the wrapper's end", Ended::Killed(libc::SIGTERM), ended)?;
        }
    }
    Ok(())
}

/// Six different signals that reach the wrapper in the same moment: six frames, in any order.
fn six_at_once(context: &mut Context) -> Verdict {
    let burst = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
    ];
    for round in 0..5 {
        let (mut wrapper, mut stream) = escalating(context)?;
        // The last rounds keep the wrapper from running until all six are pending.
        let together = round >= 2;
        if together {
            wrapper.process.signal(libc::SIGSTOP)?;
            expect_state(context, &wrapper, "T")?;
        }
        for signal in burst {
            wrapper.process.signal(signal)?;
        }
        if together {
            wrapper.process.signal(libc::SIGCONT)?;
        }
        expect_all(&mut stream, &burst)?;
        finish(&mut wrapper, &mut stream)?;
    }
    Ok(())
}

/// Demands a frame of each of these signals. SIGCONT, by which the suite continues the wrapper, may come, too.
fn expect_all(stream: &mut RequestStream, signals: &[i32]) -> Verdict {
    let mut missing: BTreeSet<i64> = signals.iter().copied().map(i64::from).collect();
    while !missing.is_empty() {
        let seen = forwarded(stream, &format!("the signals {missing:?} of {signals:?} at once"))?;
        if !missing.remove(&seen) && seen != i64::from(libc::SIGCONT) {
            return Err(violation(
                format_args!("one frame for each of the signals {signals:?}"),
                format_args!("another frame of signal {seen}, while {missing:?} are missing"),
            ));
        }
    }
    Ok(())
}

/// Ends the child. A frame of SIGCONT may still be on its way.
fn finish(wrapper: &mut WrapperRun, stream: &mut RequestStream) -> Verdict {
    stream.result(6)?;
    wrapper.finish()?.expect_status(6)
}

/// The server reads nothing until the stream is full of signal frames. SIGTERM comes then, and is among what it reads
/// afterwards: a server that was slow kills the child all the same.
fn after_the_stream_was_full(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    fill_with_signals(context, &wrapper, &stream)?;
    wrapper.process.signal(libc::SIGTERM)?;
    // Reading makes room, so the wrapper must have met the full stream before.
    expect_held_up(context, &wrapper, || waiting_bytes(stream.frames.socket()))?;
    loop {
        let seen = forwarded(&mut stream, "SIGTERM, which came while the stream was full")?;
        if seen == i64::from(libc::SIGTERM) {
            return finish(&mut wrapper, &mut stream);
        }
        expect::equal("the forwarded signal", i64::from(libc::SIGUSR1), seen)?;
    }
}

/// 300 real-time signals of one number come while the stream is full, more than any buffer of a wrapper's own is made for: the
/// child gets as many, once the server reads.
fn real_time_signals_on_a_full_stream(context: &mut Context) -> Verdict {
    const REAL_TIME: i32 = 41;
    const SENT: usize = 300;
    let (mut wrapper, mut stream) = escalating(context)?;
    fill_with_signals(context, &wrapper, &stream)?;
    for _ in 0..SENT {
        wrapper.process.signal(REAL_TIME)?;
    }
    expect_held_up(context, &wrapper, || waiting_bytes(stream.frames.socket()))?;
    let mut arrived = 0;
    while arrived < SENT {
        let what = format!("a frame of signal {REAL_TIME} after {arrived} of {SENT}");
        let seen = forwarded(&mut stream, &what)?;
        if seen == i64::from(REAL_TIME) {
            arrived += 1;
        } else {
            expect::equal("the forwarded signal", i64::from(libc::SIGUSR1), seen)?;
        }
    }
    finish(&mut wrapper, &mut stream)
}
