//! wire.fds.unexpected, for a wrapper: it closes descriptors that come with a reply.

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::Escalation;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{ESCALATION_DESCRIPTOR, Received, expect_end_of_file, frame};
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.fds.unexpected/with-run", descriptors_with_run),
    case("wire.fds.unexpected/more-than-the-room", more_than_the_room),
    case("wire.fds.unexpected/with-escalate", descriptors_with_escalate),
    case("wire.fds.unexpected/on-a-result", descriptors_on_a_result),
]);

/// `count` pipes: their reading ends, and their writing ends.
fn pipes(count: usize) -> Result<(Vec<File>, Vec<File>), CaseError> {
    let pairs = (0..count).map(|_| pipe()).collect::<Result<Vec<_>, _>>()?;
    Ok(pairs.into_iter().unzip())
}

/// Sends Run with `count` writing ends of pipes, which the wrapper must close.
fn run_with(context: &Context, count: usize) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    let mut wrapper = WrapperCall::new(context, program.text(), ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let (readers, writers) = pipes(count)?;
    let numbers: Vec<i32> = writers.iter().map(AsRawFd::as_raw_fd).collect();
    stream.frames.send(br#"{"action":"Run"}"#, &numbers)?;
    drop(writers);
    // The command runs now, unless the wrapper refused the message.
    let probe = program.accept_or_end(&wrapper.process)?;
    for (index, reader) in readers.iter().enumerate() {
        let what = format!("pipe {index} of {count}: no process holds the writing end that came with Run");
        expect_end_of_file(reader, &what, context.patience())?;
    }
    match probe {
        None => wrapper.finish()?.expect_refused(),
        Some(mut probe) => {
            probe.send(&Order::Exit(0))?;
            wrapper.finish()?.expect_status(0)
        }
    }
}

/// Three descriptors with Run: neither the command nor any other process has them.
fn descriptors_with_run(context: &mut Context) -> Verdict {
    run_with(context, 3)?;
    expect_only_its_own(context)
}

/// More descriptors than a receiver of this protocol has room for.
fn more_than_the_room(context: &mut Context) -> Verdict {
    run_with(context, 64)
}

/// Descriptors with Escalate are closed while the wrapper waits, and are not sent back as its own.
fn descriptors_with_escalate(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let (readers, writers) = pipes(3)?;
    let numbers: Vec<i32> = writers.iter().map(AsRawFd::as_raw_fd).collect();
    stream
        .frames
        .send_bytes(&frame(br#"{"action":"Escalate"}"#), &numbers)?;
    drop(writers);
    match stream.frames.receive()? {
        Received::Frame(frame) => {
            let escalation = Escalation::of(frame)?;
            expect::equal("numbers", vec![0, 1, 2], escalation.sorted_numbers())?;
            drop(escalation.descriptors);
            for reader in &readers {
                expect_end_of_file(
                    reader,
                    "no process holds what came with Escalate while the child runs",
                    context.patience(),
                )?;
            }
            stream.result(6)?;
            wrapper.finish()?.expect_status(6)?;
        }
        // Refusing the message is as right as ignoring what came with it.
        _ => wrapper.finish()?.expect_refused()?,
    }
    for reader in &readers {
        expect_end_of_file(
            reader,
            "no process holds what came with Escalate",
            context.patience(),
        )?;
    }
    Ok(())
}

/// Sends two descriptors of a file with Run, and demands that the command has only its own.
fn expect_only_its_own(context: &Context) -> Verdict {
    let program = Program::new(context, "plain-program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let file = File::open("/etc/passwd")?;
    stream
        .frames
        .send(br#"{"action":"Run"}"#, &[file.as_raw_fd(), file.as_raw_fd()])?;
    // Refusing the message is as right as ignoring what came with it; keeping it is not.
    let finished = wrapper.finish()?;
    let Some(report) = program.starts()?.pop() else {
        return finished.expect_refused();
    };
    let number = ESCALATION_DESCRIPTOR;
    expect::equal(
        "the command's descriptors",
        vec![0, 1, 2, number],
        report.descriptor_numbers(),
    )
}

/// Descriptors that come with a result are not kept: the wrapper ends, and no process holds the pipe sent with it.
fn descriptors_on_a_result(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream.frames.send(br#"{"exit_code":3}"#, &[writer.as_raw_fd()])?;
    drop(writer);
    let finished = wrapper.finish()?;
    let ended = readable_until(&reader, Moment::now() + context.patience())?;
    expect::that(
        ended,
        "no process holds the descriptor after the wrapper ended",
        "a process does",
    )?;
    expect::that(
        finished.ended.shell_status() != 0,
        "exit_code 3, or a refusal",
        finished.ended,
    )
}
