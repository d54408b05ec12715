//! wrapper.escalate.stopped: the wrapper stops with the child, and continues it.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::RequestStream;
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperRun;
use crate::probe::plan::Act;
use crate::spec::requirements::Role;
use crate::stage::signals::stopped_within;
use crate::stage::wrapper::{escalating, forwarded, stopped_by};
use crate::system::clock::Moment;
use crate::system::launch::{Launch, Launched, pipe};
use crate::system::poll::readable_until;
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.stopped/signal-while-stopped", signal_while_stopped),
    case("wrapper.escalate.stopped/result-after-the-continuation", result_after_the_continuation),
    case("wrapper.escalate.stopped/stops-and-continues", stops_and_continues),
    case("wrapper.escalate.stopped/again-and-again", stops_again),
    case("wrapper.escalate.stopped/killed-while-stopped", killed_while_stopped),
    case("wrapper.escalate.stopped/stops-its-group", stops_its_group).needs("group"),
    case("wrapper.escalate.stopped/stops-alone", stops_alone).needs("group"),
    case("wrapper.escalate.stopped/its-group-after-a-stop-alone", its_group_after_a_stop_alone).needs("group"),
    case("wrapper.escalate.stopped/its-group-after-a-continuation", its_group_after_a_continuation).needs("group"),
    case("wrapper.escalate.stopped/continued-and-stopped-at-once", continued_and_stopped_at_once),
]);

/// How long a frame is waited for before the wrapper's state is looked at, of which no event tells.
const STATE_CHANGES: Duration = Duration::from_millis(5);

/// A signal that arrives while the wrapper is stopped reaches the child once the wrapper continues.
fn signal_while_stopped(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    stream.frames.send_json(&json!({"stopped": libc::SIGTSTP}))?;
    stopped_by(&wrapper, context)?;
    wrapper.process.signal(libc::SIGTERM)?;
    wrapper.process.signal(libc::SIGCONT)?;
    let mut seen = vec![
        forwarded(&mut stream, "SIGTERM and SIGCONT")?,
        forwarded(&mut stream, "SIGTERM and SIGCONT")?,
    ];
    seen.sort_unstable();
    expect::equal(
        "forwarded signals",
        vec![i64::from(libc::SIGTERM), i64::from(libc::SIGCONT)],
        seen,
    )?;
    stream.result(6)?;
    wrapper.finish()?.expect_status(6)
}

/// The child ends while its wrapper is stopped: the wrapper still takes over the status when it continues.
fn result_after_the_continuation(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    stream.frames.send_json(&json!({"stopped": libc::SIGTTIN}))?;
    stopped_by(&wrapper, context)?;
    stream.frames.send_json(&json!({"exit_code": 137, "signal": 9}))?;
    wrapper.process.signal(libc::SIGCONT)?;
    expect::equal(
        "the wrapper's end",
        Ended::Killed(libc::SIGKILL),
        wrapper.process.wait("the wrapper", context.patience())?,
    )
}

/// On `stopped` the wrapper stops; when it is continued it forwards SIGCONT to the child.
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

/// Repeatedly, by each of the stopping signals.
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

/// Another process of the wrapper's group, which copies its input to its output.
struct Neighbour {
    process: Launched,
    input: File,
    output: File,
}

impl Neighbour {
    fn of(context: &Context, wrapper: &WrapperRun) -> Result<Neighbour, CaseError> {
        let program = Program::new(context, "neighbour", [Act::Arguments])?;
        let (its_input, input) = pipe()?;
        let (output, its_output) = pipe()?;
        let process = Launch::new(&program.path, context.work_directory())
            .arguments(["neighbour", "copy"])
            .descriptor(0, its_input)
            .descriptor(1, its_output)
            .in_group(wrapper.process.pid.as_raw())
            .start()?;
        Ok(Neighbour {
            process,
            input,
            output,
        })
    }

    /// Whether it goes on. A signal that was sent to it before stops it before it answers, so it is asked.
    fn answers(&mut self, patience: Duration) -> Result<bool, CaseError> {
        self.input.write_all(b"?\n")?;
        if !readable_until(&self.output, Moment::now() + patience)? {
            return Ok(false);
        }
        self.output.read_exact(&mut [0; 2])?;
        Ok(true)
    }
}

/// What stops the child by a terminal's signal stops the wrapper's whole group, and SIGSTOP only the wrapper.
fn stops_its_group(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    let mut neighbour = Neighbour::of(context, &wrapper)?;
    stream.frames.send_json(&json!({"stopped": libc::SIGSTOP}))?;
    stopped_by(&wrapper, context)?;
    expect::that(
        neighbour.answers(context.patience())?,
        "the rest of the group goes on after SIGSTOP",
        "it is stopped",
    )?;
    wrapper.process.signal(libc::SIGCONT)?;
    forwarded(&mut stream, "SIGCONT for the child")?;
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        stops_and_goes_on_with_its_group(context, &wrapper, &mut stream, &neighbour, signal)?;
    }
    neighbour.process.signal(libc::SIGKILL)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// It stops alone if the server says so, or if the stop signal has reached the wrapper itself.
fn stops_alone(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    let mut neighbour = Neighbour::of(context, &wrapper)?;
    for told in [true, false] {
        let mut message = json!({"stopped": libc::SIGTSTP});
        if told {
            message["alone"] = json!(true);
        } else {
            wrapper.process.signal(libc::SIGTSTP)?;
            forwarded(&mut stream, "SIGTSTP")?;
        }
        stream.frames.send_json(&message)?;
        stopped_by(&wrapper, context)?;
        expect::that(
            neighbour.answers(context.patience())?,
            "the rest of the group goes on",
            format_args!("another process of the group is stopped after {message}"),
        )?;
        wrapper.process.signal(libc::SIGCONT)?;
        forwarded(&mut stream, "SIGCONT for the child")?;
    }
    neighbour.process.signal(libc::SIGKILL)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// A stop of which no signal has reached the wrapper since it stopped last is its whole group's.
fn stops_and_goes_on_with_its_group(
    context: &Context,
    wrapper: &WrapperRun,
    stream: &mut RequestStream,
    neighbour: &Neighbour,
    signal: i32,
) -> Verdict {
    stream.frames.send_json(&json!({"stopped": signal}))?;
    stopped_by(wrapper, context)?;
    expect::that(
        stopped_within(neighbour.process.pid.as_raw(), context.patience()),
        format_args!("the wrapper stops its process group on {{\"stopped\":{signal}}}"),
        "another process of the group runs on",
    )?;
    for process in [&wrapper.process, &neighbour.process] {
        process.signal(libc::SIGCONT)?;
    }
    forwarded(stream, "SIGCONT for the child").map(drop)
}

/// A stop signal that has reached the wrapper excuses its group from the next stop, and from no later one.
fn its_group_after_a_stop_alone(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    let neighbour = Neighbour::of(context, &wrapper)?;
    wrapper.process.signal(libc::SIGTSTP)?;
    forwarded(&mut stream, "SIGTSTP")?;
    stop_and_continue(context, &wrapper, &mut stream, libc::SIGTSTP)?;
    stops_and_goes_on_with_its_group(context, &wrapper, &mut stream, &neighbour, libc::SIGTSTP)?;
    neighbour.process.signal(libc::SIGKILL)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// A stop signal and then SIGCONT, as for a job that is stopped and goes on before the child has stopped: the child's next stop
/// is its whole group's.
fn its_group_after_a_continuation(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    let neighbour = Neighbour::of(context, &wrapper)?;
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        for sent in [signal, libc::SIGCONT] {
            wrapper.process.signal(sent)?;
            let seen = forwarded(&mut stream, "a stop signal and SIGCONT")?;
            expect::equal("the forwarded signal", i64::from(sent), seen)?;
        }
        stops_and_goes_on_with_its_group(context, &wrapper, &mut stream, &neighbour, signal)?;
    }
    neighbour.process.signal(libc::SIGKILL)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// SIGTSTP directly after SIGCONT discards that (signal(7)), but not the continuation: the child is told of it, or the
/// wrapper stops again.
fn continued_and_stopped_at_once(context: &mut Context) -> Verdict {
    for _ in 0..20 {
        let (mut wrapper, mut stream) = escalating(context)?;
        stream.frames.send_json(&json!({"stopped": libc::SIGSTOP}))?;
        stopped_by(&wrapper, context)?;
        wrapper.process.signal(libc::SIGCONT)?;
        wrapper.process.signal(libc::SIGTSTP)?;
        told_or_stopped(context, &wrapper, &mut stream)?;
        stream.result(5)?;
        wrapper.process.signal(libc::SIGCONT)?;
        wrapper.finish()?.expect_status(5)?;
    }
    Ok(())
}

fn told_or_stopped(context: &Context, wrapper: &WrapperRun, stream: &mut RequestStream) -> Verdict {
    let deadline = Moment::now() + context.patience();
    loop {
        if readable_until(stream.frames.socket(), Moment::now() + STATE_CHANGES)? {
            let seen = forwarded(stream, "SIGCONT for the child")?;
            if seen == i64::from(libc::SIGCONT) {
                return Ok(());
            }
            expect::equal("the forwarded signal", i64::from(libc::SIGTSTP), seen)?;
        } else if wrapper
            .process
            .state()
            .is_some_and(|process| process.state == 'T')
        {
            return Ok(());
        } else if deadline.is_over() {
            return Err(violation(
                "SIGCONT for the child of a wrapper that was stopped, continued, and sent SIGTSTP at once",
                "no SIGCONT, and the wrapper runs",
            ));
        }
    }
}

/// The stream of a wrapper that is killed while stopped ends.
fn killed_while_stopped(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    stream.frames.send_json(&json!({"stopped": libc::SIGTSTP}))?;
    stopped_by(&wrapper, context)?;
    wrapper.process.signal(libc::SIGKILL)?;
    let ended = wrapper.process.wait("the wrapper", context.patience())?;
    expect::equal("the wrapper's end", Ended::Killed(libc::SIGKILL), ended)?;
    stream.frames.expect_end("the wrapper is gone")
}
