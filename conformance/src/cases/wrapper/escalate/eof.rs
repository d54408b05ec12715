//! wrapper.escalate.eof: while the child runs the wrapper holds no copy of 0 and 1.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wire::expect_end_of_file;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{any_call, escalated};
use crate::system::clock::Moment;
use crate::system::holders::still_open;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.eof/output", output_eof),
    case("wrapper.escalate.eof/input", input_eof),
    case("wrapper.escalate.eof/shared-with-standard-error", shared_with_standard_error),
    case("wrapper.escalate.eof/both-at-once", both_at_once),
    case("wrapper.escalate.eof/higher-descriptors", higher_descriptors).at(Level::Hardened),
]);

/// While the child runs the wrapper holds no copy of 1: the end of the child's output is seen at once.
fn output_eof(context: &mut Context) -> Verdict {
    let (mut reader, writer) = pipe()?;
    let call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let mut wrapper = call.launched(|launch| launch.descriptor(1, writer)).start()?;
    let (mut stream, _) = wrapper.request()?;
    drop(stream.escalate()?);
    let seen = readable_until(&reader, Moment::now() + context.patience())?;
    expect::that(
        seen,
        "end of file on standard output while the child runs",
        still_open(&reader, context.patience()),
    )?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    expect::equal("bytes of standard output", Vec::<u8>::new(), bytes)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// While the child runs the wrapper holds no copy of 0: a writer notices when the child stops reading.
fn input_eof(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let mut wrapper = call.launched(|launch| launch.descriptor(0, reader)).start()?;
    let (mut stream, _) = wrapper.request()?;
    drop(stream.escalate()?);
    expect_no_reader(context, &writer)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// Of a descriptor from 3 on that it has sent the wrapper holds no copy while the child runs. One that isn't sent
/// (`wrapper.escalate.more-fds`) may stay.
fn higher_descriptors(context: &mut Context) -> Verdict {
    for number in [3, 7, 200] {
        let (reader, writer) = pipe()?;
        let call = any_call(context)?.launched(|launch| launch.descriptor(number, writer));
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        let sent = escalation.numbers.contains(&i64::from(number));
        drop(escalation);
        if sent {
            expect::that(
                readable_until(&reader, Moment::now() + context.patience())?,
                format_args!("end of file on descriptor {number}, which was sent, while the child runs"),
                still_open(&reader, context.patience()),
            )?;
        }
        stream.result(0)?;
        wrapper.finish()?.expect_status(0)?;
    }
    Ok(())
}

/// 1 and 2 share a pipe, and the wrapper may keep 2: everything else works as usual.
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

/// 0 and 1 are two pipes: while the child runs, only the child holds its ends of them.
fn both_at_once(context: &mut Context) -> Verdict {
    let (input, feeder) = pipe()?;
    let (reader, output) = pipe()?;
    let call = any_call(context)?.launched(|launch| launch.descriptor(0, input).descriptor(1, output));
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    drop(escalation);
    expect_end_of_file(
        &reader,
        "only the child holds standard output while it runs",
        context.patience(),
    )?;
    expect_no_reader(context, &feeder)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// Demands that no process holds the reading end of the pipe behind `writer`.
fn expect_no_reader(context: &Context, writer: &File) -> Result<(), CaseError> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    // POLLERR on the writing end: no reader is left.
    let mut set = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(context.patience()).unwrap_or(PollTimeout::MAX);
    let seen = poll(&mut set, timeout)?;
    expect::that(
        seen == 1,
        format_args!(
            "no reader of pipe {} is left while the child runs",
            writer.as_raw_fd()
        ),
        still_open(writer, context.patience()),
    )
}
