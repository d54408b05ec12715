//! What Escalate hands over, beyond the plain cases of [`super::escalate`]: which descriptions, which numbers, and
//! that no copy stays.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use proptest::collection::btree_map;

use super::support::{any_call, escalated, same_description};
use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::fake_server::Escalation;
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wire::{Received, expect_end_of_file, read_to_end};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::system::launch::{Launch, pipe};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.fds/status-flags", status_flags),
    case("wrapper.escalate.fds/one-pipe-on-two-numbers", one_pipe_on_two_numbers),
    case("wrapper.escalate.fds/a-terminal", a_terminal),
    case("wrapper.escalate.remote/not-after-a-failure", not_after_a_failure),
    case("wrapper.escalate.more-fds/of-any-kind", of_any_kind),
    case("wrapper.escalate.more-fds/more-than-sixteen", more_than_sixteen),
    case("wrapper.escalate.more-fds/any-set", any_set).within_seconds(60),
    case("wrapper.closed-stdio/eight-combinations", eight_combinations),
    case("wrapper.closed-stdio/eight-combinations-run", eight_combinations_run),
    case("wrapper.closed-stdio/protocol-intact", protocol_intact),
    case("wrapper.closed-stdio/messages-go-nowhere-else", messages_go_nowhere_else),
    case("wrapper.escalate.eof/shared-with-standard-error", shared_with_standard_error),
    case("wrapper.escalate.eof/both-at-once", both_at_once),
]);

/// Demands that descriptor `number` of the message is the description behind `ours`.
fn expect_same(escalation: &Escalation, number: i32, ours: &impl AsFd) -> Verdict {
    let same = same_description(ours, escalation.descriptor(i64::from(number))?)?;
    expect::that(
        same,
        format_args!("the descriptor for {number} is the description that the wrapper was started with"),
        "it is another one",
    )
}

/// O_APPEND and O_NONBLOCK of what is sent are what they were, and the description is the same.
fn status_flags(context: &mut Context) -> Verdict {
    let log = File::options()
        .create_new(true)
        .append(true)
        .open(context.path("log"))?;
    let (reader, _writer) = pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let (_reader, writer) = pipe()?;
    let ours = [
        (0, reader.try_clone()?),
        (1, log.try_clone()?),
        (2, writer.try_clone()?),
    ];
    let before = ours
        .iter()
        .map(|(_, file)| fcntl(file, FcntlArg::F_GETFL))
        .collect::<Result<Vec<_>, _>>()?;
    let call = any_call(context)?.launched(|launch| {
        launch
            .descriptor(0, reader)
            .descriptor(1, log)
            .descriptor(2, writer)
    });
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    for ((number, ours), before) in ours.iter().zip(before) {
        let flags = fcntl(escalation.descriptor(i64::from(*number))?, FcntlArg::F_GETFL)?;
        expect::equal(&format!("status flags of {number}"), before, flags)?;
        expect_same(&escalation, *number, ours)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// 1 and 2 are the same pipe: both are sent, and both are that pipe.
fn one_pipe_on_two_numbers(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let (second, ours) = (writer.try_clone()?, writer.try_clone()?);
    let call = any_call(context)?.launched(|launch| launch.descriptor(1, writer).descriptor(2, second));
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    expect::equal("numbers", vec![0, 1, 2], escalation.sorted_numbers())?;
    for number in [1, 2] {
        expect_same(&escalation, number, &ours)?;
        File::from(escalation.descriptor(i64::from(number))?.try_clone()?)
            .write_all(format!("{number}").as_bytes())?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)?;
    drop((escalation, ours));
    let read = read_to_end(reader, Instant::now() + context.patience())?;
    expect::equal("what came through the pipe", Some(b"12".to_vec()), read)
}

/// 0, 1 and 2 are a terminal: what is sent is that terminal, and not one made for the purpose.
fn a_terminal(context: &mut Context) -> Verdict {
    let pair = nix::pty::openpty(None, None)?;
    let device = fstat(&pair.slave)?.st_rdev;
    let call = any_call(context)?;
    let (first, second) = (pair.slave.try_clone()?, pair.slave.try_clone()?);
    let call = call.launched(|launch| {
        launch
            .descriptor(0, first)
            .descriptor(1, second)
            .descriptor(2, pair.slave)
            .on_terminal(0)
    });
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    for number in 0..3 {
        let descriptor = escalation.descriptor(number)?;
        expect::that(
            nix::unistd::isatty(descriptor)?,
            format_args!("{number} is a terminal"),
            "it is none",
        )?;
        expect::equal(&format!("device of {number}"), device, fstat(descriptor)?.st_rdev)?;
    }
    drop(escalation);
    stream.result(5)?;
    wrapper.finish()?.expect_status(5)?;
    drop(pair.master);
    Ok(())
}

/// Where the escalation fails, FILE is not executed here instead.
fn not_after_a_failure(context: &mut Context) -> Verdict {
    for result in [None, Some(1), Some(126), Some(127)] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        drop(escalation);
        if let Some(status) = result {
            stream.result(status)?;
        }
        drop(stream);
        let ended = wrapper.finish()?.ended;
        expect::that(ended.shell_status() != 0, "a failure", ended)?;
        program.expect_not_started()?;
    }
    Ok(())
}

/// A file, a pipe and a socket under low and high numbers, each the description that it was.
fn of_any_kind(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let (near, _far) = UnixStream::pair()?;
    let file = File::open(context.write_file("data", b"text", 0o644)?)?;
    let ours: [(i32, OwnedFd); 4] = [
        (3, file.into()),
        (7, reader.into()),
        (63, near.into()),
        (200, writer.into()),
    ];
    let mut call = any_call(context)?;
    for (number, descriptor) in &ours {
        let copy = descriptor.try_clone()?;
        call = call.launched(|launch| launch.descriptor(*number, copy));
    }
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    expect::equal(
        "numbers",
        vec![0, 1, 2, 3, 7, 63, 200],
        escalation.sorted_numbers(),
    )?;
    for (number, descriptor) in &ours {
        expect_same(&escalation, *number, descriptor)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// More than 16: the wrapper refuses and says so, or sends 16 with 0, 1 and 2 among them.
fn more_than_sixteen(context: &mut Context) -> Verdict {
    for others in [14, 20, 300] {
        let program = Program::new(context, &format!("program-{others}"), [])?;
        let mut call = WrapperCall::new(context, &program.path, ["program"])?;
        for number in (3..)
            .filter(|number| *number != ESCALATION_DESCRIPTOR)
            .take(others)
        {
            let file = File::open("/dev/null")?;
            call = call.launched(|launch| launch.descriptor(number, file));
        }
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
        match stream.frames.receive()? {
            Received::Frame(frame) => {
                let escalation = Escalation::of(frame)?;
                let numbers = escalation.sorted_numbers();
                let right = numbers.len() == 16 && numbers.starts_with(&[0, 1, 2]);
                expect::that(
                    right,
                    "16 descriptors, 0, 1 and 2 among them",
                    format_args!("{numbers:?}"),
                )?;
                stream.result(4)?;
                wrapper.finish()?.expect_status(4)?;
            }
            Received::End { .. } => wrapper.finish()?.expect_refused()?,
            Received::Silence { .. } => {
                return Err(violation(
                    "a descriptor message or a refusal",
                    "neither, and the stream is open",
                ));
            }
        }
        program.expect_not_started()?;
    }
    Ok(())
}

/// Property: any set of up to 13 others and any closed standard streams; the numbers are exactly those, each with its
/// description, and nothing of the wrapper's own is among them.
fn any_set(context: &mut Context) -> Verdict {
    let context = &*context;
    let kinds = btree_map(0..120_i32, 0..4_u8, 0..13);
    property::holds(context, &kinds, |mut kinds| {
        kinds.remove(&ESCALATION_DESCRIPTOR);
        let mut call = any_call(context)?;
        let mut ours = Vec::new();
        let mut open: Vec<i64> = (0..3).collect();
        for (number, kind) in &kinds {
            if *kind == 0 {
                open.retain(|other| *other != i64::from(*number));
                call = call.launched(|launch| launch.closed(*number));
                continue;
            }
            let descriptor: OwnedFd = match kind {
                1 => File::open("/dev/null")?.into(),
                2 => pipe()?.0.into(),
                _ => UnixStream::pair()?.0.into(),
            };
            ours.push((*number, descriptor.try_clone()?));
            open.push(i64::from(*number));
            call = call.launched(|launch| launch.descriptor(*number, descriptor));
        }
        open.sort_unstable();
        open.dedup();
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        expect::equal("numbers", open, escalation.sorted_numbers())?;
        for (number, descriptor) in &ours {
            expect_same(&escalation, *number, descriptor)?;
        }
        stream.result(3)?;
        wrapper.finish()?.expect_status(3)
    })
}

/// Subsets of 0, 1 and 2, each as the numbers that are closed.
fn subsets() -> impl Iterator<Item = Vec<i32>> {
    (0..8_i32).map(|bits| (0..3).filter(|number| bits & (1 << number) != 0).collect())
}

fn with_closed(launch: Launch, closed: &[i32]) -> Launch {
    closed
        .iter()
        .fold(launch, |launch, number| launch.closed(*number))
}

/// Escalate with each subset of 0, 1, 2 closed: exactly the open ones are sent, each the file that it was.
fn eight_combinations(context: &mut Context) -> Verdict {
    for closed in subsets() {
        let mut call = any_call(context)?.launched(|launch| with_closed(launch, &closed));
        let mut ours = Vec::new();
        for number in (0..3).filter(|number| !closed.contains(number)) {
            let path = context.path(&format!("stream-{}", context.next_number()));
            let file = File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(path)?;
            ours.push((number, file.try_clone()?));
            call = call.launched(|launch| launch.descriptor(number, file));
        }
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        let open: Vec<i64> = ours.iter().map(|(number, _)| i64::from(*number)).collect();
        expect::equal(
            &format!("numbers with {closed:?} closed"),
            open,
            escalation.sorted_numbers(),
        )?;
        for (number, file) in &ours {
            expect_same(&escalation, *number, file)?;
        }
        stream.result(5)?;
        wrapper.finish()?.expect_status(5)?;
    }
    Ok(())
}

/// Run with each subset of 0, 1, 2 closed: the command has exactly the others.
fn eight_combinations_run(context: &mut Context) -> Verdict {
    for closed in subsets() {
        let report = super::attributes::run_under(context, |launch| with_closed(launch, &closed))?;
        let expected: Vec<i32> = (0..3)
            .filter(|number| !closed.contains(number))
            .chain([ESCALATION_DESCRIPTOR])
            .collect();
        expect::equal(
            &format!("the command's descriptors with {closed:?} closed"),
            expected,
            report.descriptor_numbers(),
        )?;
    }
    Ok(())
}

/// All three closed, and a request of 1 MiB: the frame is whole, and nothing else is on the stream.
fn protocol_intact(context: &mut Context) -> Verdict {
    let value = "0123456789abcdef".repeat(1024);
    let mut call = any_call(context)?;
    for index in 0..64 {
        call = call.variable(format!("LARGE_{index}"), &value);
    }
    let mut wrapper = call.launched(|launch| with_closed(launch, &[0, 1, 2])).start()?;
    let (mut stream, request) = wrapper.request()?;
    for index in 0..64 {
        let name = format!("LARGE_{index}");
        let same = request.variable(&name)? == Some(value.as_str());
        expect::that(same, format_args!("{name}, verbatim"), "something else")?;
    }
    stream.deny(Some("the reason has nowhere to go"))?;
    wrapper.finish()?.expect_status(1)?;
    stream.frames.expect_end("the request is all that is sent")
}

/// With 2 closed a message goes nowhere: not to standard output, not into the stream, not into a file that others
/// have under another number.
fn messages_go_nowhere_else(context: &mut Context) -> Verdict {
    for end in ["denied", "missing", "refused"] {
        let output = context.path(&format!("output-{end}"));
        let other = context.path(&format!("other-{end}"));
        let (first, second) = (File::create_new(&output)?, File::create_new(&other)?);
        let call = WrapperCall::new(context, "/nonexistent/program", ["program"])?;
        let call = call.launched(|launch| launch.descriptor(1, first).descriptor(3, second).closed(2));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        let status = match end {
            "denied" => {
                stream.deny(Some("the reason"))?;
                1
            }
            "missing" => {
                stream.run()?;
                127
            }
            _ => {
                stream.frames.send(b"nonsense", &[])?;
                126
            }
        };
        wrapper.finish()?.expect_status(status)?;
        stream.frames.expect_end("the request is all that is sent")?;
        for path in [output, other] {
            let text = std::fs::read(&path)?;
            let what = format!("what was written to {} when {end}", path.display());
            expect::equal(&what, String::new(), String::from_utf8_lossy(&text).into_owned())?;
        }
    }
    Ok(())
}

/// 1 and 2 share a pipe, of which 2 may be kept: everything else goes on as ever.
fn shared_with_standard_error(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let second = writer.try_clone()?;
    let call = any_call(context)?.launched(|launch| launch.descriptor(1, writer).descriptor(2, second));
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    drop(escalation);
    stream.result(11)?;
    wrapper.finish()?.expect_status(11)?;
    expect_end_of_file(
        &reader,
        "the pipe has no writer after the end",
        context.patience(),
    )
}

/// 0 and 1 are two pipes of the same child; both have nobody but the child on its side while it runs.
fn both_at_once(context: &mut Context) -> Verdict {
    let (input, feeder) = pipe()?;
    let (reader, output) = pipe()?;
    let call = any_call(context)?.launched(|launch| launch.descriptor(0, input).descriptor(1, output));
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    drop(escalation);
    expect_end_of_file(
        &reader,
        "nobody holds standard output while the child runs",
        context.patience(),
    )?;
    expect_no_reader(context, &feeder)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// Demands that nobody holds the reading end of the pipe behind `writer`.
fn expect_no_reader(context: &Context, writer: &File) -> Result<(), CaseError> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut set = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(context.patience()).unwrap_or(PollTimeout::MAX);
    let seen = poll(&mut set, timeout)?;
    expect::that(
        seen == 1,
        format_args!(
            "no reader of pipe {} is left while the child runs",
            writer.as_raw_fd()
        ),
        "there is one",
    )
}
