//! wrapper.escalate.fds: the wrapper sends its own 0, 1 and 2, and only after Escalate.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wire::read_to_end;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{any_call, escalated, expect_same_description, handed_over};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.fds/numbers", numbers),
    case("wrapper.escalate.fds/same-descriptions", same_descriptions),
    case("wrapper.escalate.fds/shared-offset", shared_offset),
    case("wrapper.escalate.fds/data-flows", data_flows),
    case("wrapper.escalate.fds/not-before-the-decision", not_before_the_decision),
    case("wrapper.escalate.fds/status-flags", status_flags),
    case("wrapper.escalate.fds/one-pipe-on-two-numbers", one_pipe_on_two_numbers),
    case("wrapper.escalate.fds/a-terminal", a_terminal),
]);

/// The numbers 0, 1, 2, with three descriptors.
fn numbers(context: &mut Context) -> Verdict {
    handed_over(context, Ok, |escalation| {
        expect::equal("numbers", vec![0, 1, 2], escalation.sorted_numbers())
    })
}

fn identity(descriptor: &impl AsFd) -> Result<(u64, u64), CaseError> {
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
    handed_over(
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
    handed_over(
        context,
        |call| Ok(call.launched(|launch| launch.descriptor(0, file))),
        |escalation| {
            let mut theirs = File::from(escalation.descriptor(0)?.try_clone()?);
            let mut byte = [0];
            theirs
                .read_exact(&mut byte)
                .map_err(|error| violation("descriptor 0 can be read", error))?;
            expect::equal("the byte at the wrapper's offset", b'3', byte[0])?;
            let mut ours = ours;
            expect::equal(
                "the offset of the shared description, as the suite sees it",
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
        stream.frames.expect_end("the wrapper answers only Escalate")?;
    }
    Ok(())
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
        expect_same_description(&escalation, *number, ours)?;
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
        expect_same_description(&escalation, number, &ours)?;
        File::from(escalation.descriptor(i64::from(number))?.try_clone()?)
            .write_all(format!("{number}").as_bytes())?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)?;
    drop((escalation, ours));
    let read = read_to_end(reader, Moment::now() + context.patience())?;
    expect::equal("what came through the pipe", Some(b"12".to_vec()), read)
}

/// 0, 1 and 2 are a terminal: the wrapper sends that very terminal, not one that it opened.
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
            "it is not a terminal",
        )?;
        expect::equal(&format!("device of {number}"), device, fstat(descriptor)?.st_rdev)?;
    }
    drop(escalation);
    stream.result(5)?;
    wrapper.finish()?.expect_status(5)?;
    drop(pair.master);
    Ok(())
}
