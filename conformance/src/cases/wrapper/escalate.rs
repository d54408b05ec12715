//! Escalate: the descriptors go out, the status comes back, and FILE is not executed here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::stat::fstat;
use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_server::Escalation;
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::system::launch::pipe;
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.fds/numbers", numbers),
    case("wrapper.escalate.fds/same-descriptions", same_descriptions),
    case("wrapper.escalate.fds/shared-offset", shared_offset),
    case("wrapper.escalate.fds/data-flows", data_flows),
    case("wrapper.escalate.fds/not-before-the-decision", not_before_the_decision),
    case("wrapper.escalate.status/zero-to-255", every_status).within_seconds(60),
    case("wrapper.escalate.status/waits-for-the-result", waits_for_the_result),
    case("wrapper.escalate.remote/does-not-execute", does_not_execute),
    case("wrapper.escalate.remote/file-may-be-missing-here", missing_here),
    case("wrapper.escalate.status.range/never-success", range),
    case("wrapper.escalate.umask/travels", umask_travels),
    case("wrapper.escalate.more-fds/others-by-number", others_by_number),
    case("wrapper.escalate.more-fds/sixteen", sixteen),
    case("wrapper.escalate.more-fds/not-the-escalation-socket", not_the_socket),
    case("wrapper.escalate.eof/output", output_eof),
    case("wrapper.escalate.eof/input", input_eof),
    case("wrapper.escalate.killed/by-each-signal", killed_by_each_signal),
    case("wrapper.escalate.killed/ignored-at-the-start", killed_though_ignored),
    case("wrapper.closed-stdio/escalate", closed_stdio),
]);

/// The numbers 0, 1, 2, with three descriptors.
fn numbers(context: &mut Context) -> Verdict {
    escalated(context, Ok, |escalation| {
        let mut numbers = escalation.numbers.clone();
        numbers.sort_unstable();
        expect::equal("numbers", vec![0, 1, 2], numbers)
    })
}

/// Escalates a call, lets `look` at what was handed over, and ends with 0.
fn escalated<'a>(
    context: &'a Context,
    change: impl FnOnce(WrapperCall<'a>) -> Result<WrapperCall<'a>, CaseError>,
    look: impl FnOnce(&Escalation) -> Verdict,
) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let call = change(WrapperCall::new(context, &program.path, ["program"])?)?;
    let mut wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    look(&escalation)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)?;
    program.expect_not_started()
}

fn identity(descriptor: &impl std::os::fd::AsFd) -> Result<(u64, u64), CaseError> {
    let stat = fstat(descriptor)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Each descriptor is the very file that the wrapper had under that number.
fn same_descriptions(context: &mut Context) -> Verdict {
    let mut files = Vec::new();
    for number in 0..3 {
        files.push(
            File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(context.path(&format!("file-{number}")))?,
        );
    }
    let identities = files.iter().map(identity).collect::<Result<Vec<_>, _>>()?;
    escalated(
        context,
        |call| {
            Ok(call.launched(|launch| {
                (0..)
                    .zip(files)
                    .fold(launch, |launch, (number, file)| launch.descriptor(number, file))
            }))
        },
        |escalation| {
            for (number, expected) in (0..).zip(&identities) {
                let seen = identity(escalation.descriptor(number)?)?;
                expect::equal(&format!("the file behind {number}"), *expected, seen)?;
            }
            Ok(())
        },
    )
}

/// The same open file description, not the same file opened again: the offset is shared.
fn shared_offset(context: &mut Context) -> Verdict {
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(context.path("input"))?;
    file.write_all(b"0123456789")?;
    file.seek(SeekFrom::Start(3))?;
    let ours = file.try_clone()?;
    escalated(
        context,
        |call| Ok(call.launched(|launch| launch.descriptor(0, file))),
        |escalation| {
            let mut theirs = File::from(escalation.descriptor(0)?.try_clone()?);
            let mut byte = [0];
            theirs
                .read_exact(&mut byte)
                .map_err(|error| crate::verdict::violation("descriptor 0 can be read", error))?;
            expect::equal("the byte at the wrapper's offset", b'3', byte[0])?;
            let mut ours = ours;
            expect::equal(
                "the offset, seen by who shares the description",
                4,
                ours.stream_position()?,
            )
        },
    )
}

/// What is written to the descriptors arrives where the wrapper's streams go.
fn data_flows(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    for (number, text) in [(1, "output of the child\n"), (2, "error of the child\n")] {
        File::from(escalation.descriptor(number)?.try_clone()?).write_all(text.as_bytes())?;
    }
    stream.result(0)?;
    let finished = wrapper.finish()?;
    expect::equal(
        "standard output",
        "output of the child\n",
        &*finished.output_text(),
    )?;
    expect::equal("standard error", "error of the child\n", &*finished.error_text())?;
    finished.expect_status(0)
}

/// After Run and Deny no descriptors are sent.
fn not_before_the_decision(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for deny in [true, false] {
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        if deny {
            stream.deny(None)?
        } else {
            stream.run()?
        }
        wrapper.finish()?.expect_status(i32::from(deny))?;
        stream.frames.expect_end("only Escalate is answered")?;
    }
    Ok(())
}

/// Any exit_code from 0 to 255 is the wrapper's status.
fn every_status(context: &mut Context) -> Verdict {
    for status in 0..=255 {
        let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.escalate()?;
        stream.result(i64::from(status))?;
        wrapper.finish()?.expect_status(status)?;
    }
    Ok(())
}

/// The wrapper stays until the result, though the descriptors were taken.
fn waits_for_the_result(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    drop(stream.escalate()?);
    // The delay is the input: a wrapper with a timeout of its own gives up in it.
    let ended = wrapper
        .process
        .handle()
        .ended_within(context.scaled(std::time::Duration::from_secs(2)))?;
    expect::that(!ended, "the wrapper waits for the result", "it ended before")?;
    stream.result(9)?;
    wrapper.finish()?.expect_status(9)
}

/// FILE is not executed by the wrapper.
fn does_not_execute(context: &mut Context) -> Verdict {
    escalated(context, Ok, |_| Ok(()))
}

/// What is executed elsewhere need not exist here.
fn missing_here(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/nonexistent/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream.result(3)?;
    wrapper.finish()?.expect_status(3)
}

/// An exit_code that is no status never becomes success.
fn range(context: &mut Context) -> Verdict {
    for code in [256, -256, 512, 1 << 16, -1, 1 << 31, 1 << 32, i64::MIN, i64::MAX] {
        let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.escalate()?;
        stream.result(code)?;
        let ended = wrapper.finish()?.ended;
        expect::that(
            matches!(ended, Ended::Exited(status) if status != 0),
            format_args!("exit_code {code} does not become success"),
            ended,
        )?;
    }
    Ok(())
}

/// The request carries the wrapper's umask as a number.
fn umask_travels(context: &mut Context) -> Verdict {
    for umask in [0o000, 0o022, 0o077, 0o777] {
        let call = WrapperCall::new(context, "/bin/program", ["program"])?;
        let mut wrapper = call.launched(|launch| launch.umask(umask)).start()?;
        let (mut stream, request) = wrapper.request()?;
        expect::equal(
            "umask of the request",
            Some(u64::from(umask)),
            request.message["umask"].as_u64(),
        )?;
        stream.deny(None)?;
        wrapper.finish()?.expect_status(1)?;
    }
    Ok(())
}

/// Other inheritable descriptors travel under their numbers.
fn others_by_number(context: &mut Context) -> Verdict {
    let wanted = [3, 7, 9, 63];
    let mut files = Vec::new();
    for number in wanted {
        files.push((number, File::create_new(context.path(&format!("file-{number}")))?));
    }
    let identities = files
        .iter()
        .map(|(number, file)| Ok((*number, identity(file)?)))
        .collect::<Result<Vec<_>, CaseError>>()?;
    escalated(
        context,
        |call| {
            Ok(call.launched(|launch| {
                files
                    .into_iter()
                    .fold(launch, |launch, (number, file)| launch.descriptor(number, file))
            }))
        },
        |escalation| {
            let mut numbers = escalation.numbers.clone();
            numbers.sort_unstable();
            expect::equal("numbers", vec![0, 1, 2, 3, 7, 9, 63], numbers)?;
            for (number, expected) in &identities {
                let seen = identity(escalation.descriptor(i64::from(*number))?)?;
                expect::equal(&format!("the file behind {number}"), *expected, seen)?;
            }
            Ok(())
        },
    )
}

/// Sixteen descriptors are no more than fit.
fn sixteen(context: &mut Context) -> Verdict {
    escalated(
        context,
        |call| {
            let mut files = Vec::new();
            for number in 3..16 {
                files.push((number, File::open("/dev/null")?));
            }
            Ok(call.launched(|launch| {
                files
                    .into_iter()
                    .fold(launch, |launch, (number, file)| launch.descriptor(number, file))
            }))
        },
        |escalation| {
            let mut numbers = escalation.numbers.clone();
            numbers.sort_unstable();
            expect::equal("numbers", (0..16).collect::<Vec<_>>(), numbers)
        },
    )
}

/// The escalation socket is never among them.
fn not_the_socket(context: &mut Context) -> Verdict {
    escalated(
        context,
        |call| Ok(call.socket_number(3)),
        |escalation| {
            let mut numbers = escalation.numbers.clone();
            numbers.sort_unstable();
            expect::equal("numbers", vec![0, 1, 2], numbers)
        },
    )?;
    escalated(context, Ok, |escalation| {
        let among = escalation.numbers.contains(&i64::from(ESCALATION_DESCRIPTOR));
        expect::that(
            !among,
            "the escalation socket is not sent",
            format_args!("{:?}", escalation.numbers),
        )
    })
}

/// While the child runs the wrapper holds no copy of 1: the end of the child's output is seen at once.
fn output_eof(context: &mut Context) -> Verdict {
    let (mut reader, writer) = pipe()?;
    let call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let mut wrapper = call.launched(|launch| launch.descriptor(1, writer)).start()?;
    let (mut stream, _) = wrapper.request()?;
    drop(stream.escalate()?);
    let seen = crate::system::poll::readable_until(&reader, std::time::Instant::now() + context.patience())?;
    expect::that(
        seen,
        "end of file on standard output while the child runs",
        "none: the wrapper holds a copy",
    )?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    expect::equal("bytes of standard output", Vec::<u8>::new(), bytes)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// While the child runs the wrapper holds no copy of 0: who writes to the child sees that it stopped reading.
fn input_eof(context: &mut Context) -> Verdict {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let (reader, writer) = pipe()?;
    let call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let mut wrapper = call.launched(|launch| launch.descriptor(0, reader)).start()?;
    let (mut stream, _) = wrapper.request()?;
    drop(stream.escalate()?);
    // POLLERR on the writing end: no reader is left.
    let mut set = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(context.patience()).unwrap_or(PollTimeout::MAX);
    let seen = poll(&mut set, timeout)?;
    expect::that(
        seen == 1,
        "no reader of standard input is left",
        "there is one: the wrapper holds a copy",
    )?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// A result with `signal`: the wrapper dies by that signal.
fn killed_by_each_signal(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGTERM,
    ] {
        killed_by(context, signal, |call| call)?;
    }
    Ok(())
}

/// Also where the signal was ignored or blocked when the wrapper started.
fn killed_though_ignored(context: &mut Context) -> Verdict {
    killed_by(context, libc::SIGTERM, |call| {
        call.launched(|launch| launch.ignoring(libc::SIGTERM))
    })?;
    killed_by(context, libc::SIGINT, |call| {
        call.launched(|launch| launch.blocking(libc::SIGINT))
    })
}

fn killed_by<'a>(
    context: &'a Context,
    signal: i32,
    change: impl FnOnce(WrapperCall<'a>) -> WrapperCall<'a>,
) -> Verdict {
    let mut wrapper = change(WrapperCall::new(context, "/bin/program", ["program"])?).start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream
        .frames
        .send_json(&json!({"exit_code": 128 + signal, "signal": signal}))?;
    let ended = wrapper.process.wait("the wrapper", context.patience())?;
    expect::equal("the wrapper's end", Ended::Killed(signal), ended)
}

/// Streams that are closed are not sent; those that are open keep their numbers.
fn closed_stdio(context: &mut Context) -> Verdict {
    for closed in [vec![0], vec![1], vec![2], vec![0, 1], vec![0, 1, 2]] {
        let call = WrapperCall::new(context, "/bin/program", ["program"])?;
        let call = call.launched(|launch| {
            closed
                .iter()
                .fold(launch, |launch, number| launch.closed(*number))
        });
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        let escalation = stream.escalate()?;
        let open: Vec<i64> = (0..3)
            .filter(|number| !closed.contains(&(*number as i32)))
            .collect();
        let mut numbers = escalation.numbers.clone();
        numbers.sort_unstable();
        expect::equal(&format!("numbers with {closed:?} closed"), open, numbers)?;
        for descriptor in &escalation.descriptors {
            expect_no_socket(descriptor)?;
        }
        stream.result(5)?;
        wrapper.finish()?.expect_status(5)?;
    }
    Ok(())
}

/// Nothing of the protocol has taken the place of a closed stream.
fn expect_no_socket(descriptor: &OwnedFd) -> Verdict {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?;
    let socket = target.to_string_lossy().starts_with("socket:");
    expect::that(!socket, "no socket of the protocol is sent", target.display())
}
