//! While the escalated child runs: signals go to it, stops and continues too; and whatever happens to the
//! wrapper, its stream ends.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_server::RequestStream;
use crate::peer::wrapper_call::{WrapperCall, WrapperRun};
use crate::spec::requirements::{Level, Role};
use crate::system::launch::Launch;
use crate::system::process::{self, Ended};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.signal/each-is-forwarded", each_is_forwarded),
    case("wrapper.escalate.signal/wrapper-stays", wrapper_stays),
    case("wrapper.escalate.signal/before-the-child-started", early_signal),
    case("wrapper.escalate.stopped/stops-and-continues", stops_and_continues),
    case("wrapper.escalate.stopped/again-and-again", stops_again),
    case("wrapper.escalate.stopped/killed-while-stopped", killed_while_stopped),
    case("wire.frame.joined/stopped-and-result", stopped_and_result).at(Level::Faithful),
    case("wrapper.killed/while-it-waits", killed_while_it_waits),
    case("wrapper.killed/while-the-child-runs", killed_while_the_child_runs),
    case("wrapper.killed/not-held-by-others", stream_held_by_nobody_else),
]);

/// The signals that must reach the escalated child (`wrapper.escalate.signal`).
const FORWARDED: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// A wrapper whose escalated child "runs": the suite has the descriptors and has not sent a result.
pub(super) fn escalating(context: &Context) -> Result<(WrapperRun, RequestStream), CaseError> {
    let wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    expect::that(
        escalation.announces_signals(),
        "\"signals\":true with the descriptors, from a wrapper that forwards signals",
        &escalation.message,
    )?;
    Ok((wrapper, stream))
}

/// The next signal frame.
pub(super) fn forwarded(stream: &mut RequestStream, what: &str) -> Result<i64, CaseError> {
    let message = stream.frames.expect_frame(what)?.json()?;
    message["signal"]
        .as_i64()
        .ok_or_else(|| violation(format_args!("{what}: a signal frame"), &message))
}

/// Each signal sent to the wrapper arrives as a frame with its number.
fn each_is_forwarded(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for signal in FORWARDED {
        wrapper.process.signal(signal)?;
        let seen = forwarded(&mut stream, "a forwarded signal")?;
        expect::equal("the forwarded signal", i64::from(signal), seen)?;
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
        // The child handles the signal and ends as it likes.
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

/// Waits until the wrapper, a child of this process, is stopped, and returns by which signal.
pub(super) fn stopped_by(wrapper: &WrapperRun, context: &Context) -> Result<i32, CaseError> {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let deadline = std::time::Instant::now() + context.patience();
    loop {
        // WNOWAIT is not used: the stop is consumed, so that the next one is seen as a new one.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(wrapper.process.pid), flags)? {
            WaitStatus::Stopped(_, signal) => return Ok(signal as i32),
            WaitStatus::StillAlive if std::time::Instant::now() < deadline => std::thread::yield_now(),
            WaitStatus::StillAlive => {
                let seen = process::describe(wrapper.process.pid);
                return Err(violation("the wrapper stops itself after `stopped`", seen));
            }
            other => return Err(harness(format_args!("waitid gave {other:?}"))),
        }
    }
}

/// On `stopped` the wrapper stops; when it is continued it tells the child.
fn stops_and_continues(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    stop_and_continue(context, &wrapper, &mut stream, libc::SIGTSTP)?;
    stream.result(8)?;
    wrapper.finish()?.expect_status(8)
}

fn stop_and_continue(
    context: &Context,
    wrapper: &WrapperRun,
    stream: &mut RequestStream,
    signal: i32,
) -> Verdict {
    stream.frames.send_json(&json!({"stopped": signal}))?;
    let stop = stopped_by(wrapper, context)?;
    expect::that(
        stop == signal || stop == libc::SIGSTOP,
        format_args!("stopped by {signal} or by SIGSTOP"),
        format_args!("stopped by {stop}"),
    )?;
    wrapper.process.signal(libc::SIGCONT)?;
    let seen = forwarded(stream, "SIGCONT for the child")?;
    expect::equal("the forwarded signal", i64::from(libc::SIGCONT), seen)
}

/// As often as it happens, by each of the stopping signals.
fn stops_again(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for signal in [
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGSTOP,
    ] {
        stop_and_continue(context, &wrapper, &mut stream, signal)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// A wrapper that is killed while it is stopped lets go of its stream.
fn killed_while_stopped(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    stream.frames.send_json(&json!({"stopped": libc::SIGTSTP}))?;
    stopped_by(&wrapper, context)?;
    wrapper.process.signal(libc::SIGKILL)?;
    let ended = wrapper.process.wait("the wrapper", context.patience())?;
    expect::equal("the wrapper's end", Ended::Killed(libc::SIGKILL), ended)?;
    stream.frames.expect_end("the wrapper is gone")
}

/// `stopped` and the result in one write: the result is not lost.
fn stopped_and_result(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    let mut bytes = crate::peer::wire::frame(br#"{"stopped":19}"#);
    bytes.extend(crate::peer::wire::frame(br#"{"exit_code":3}"#));
    stream.frames.send_bytes(&bytes, &[])?;
    stopped_by(&wrapper, context)?;
    wrapper.process.signal(libc::SIGCONT)?;
    wrapper.finish()?.expect_status(3)
}

/// SIGKILL while it waits for a decision: the server sees end of file.
fn killed_while_it_waits(context: &mut Context) -> Verdict {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        wrapper.process.signal(signal)?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        stream.frames.expect_end("the wrapper is gone")?;
    }
    Ok(())
}

/// SIGKILL while the escalated child runs: the server sees end of file.
fn killed_while_the_child_runs(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    wrapper.process.signal(libc::SIGKILL)?;
    wrapper.process.wait("the wrapper", context.patience())?;
    stream.frames.expect_end("the wrapper is gone")
}

/// A command that runs in the wrapper's place does not hold the stream: the server sees its end at once.
fn stream_held_by_nobody_else(context: &mut Context) -> Verdict {
    let program = crate::peer::program::ConnectedProgram::new(context, "program")?;
    let call = WrapperCall::new(context, &program.program().path, ["program"])?;
    let mut wrapper = call.launched(Launch::in_new_session).start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let mut probe = program.accept("the command")?;
    stream.frames.expect_end("the wrapper has become the command")?;
    probe.send(&crate::probe::remote::Order::Exit(0))?;
    wrapper.finish()?.expect_status(0)
}
