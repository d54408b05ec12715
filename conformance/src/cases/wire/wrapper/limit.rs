//! wire.limit, for a wrapper: large replies that it must accept, and lengths that it must refuse.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::fails_by;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.limit/reason-of-16-mebibytes", large_reason),
    case("wire.limit/result-announced-4-gibibytes", result_announced),
    case("wire.limit/four-gibibytes", announced_four_gibibytes),
    case("wire.limit/sixteen-mebibytes", sixteen_mebibytes),
    case("wire.limit/announced-without-a-limit-of-memory", announced_without_a_limit),
]);

/// A reason that fills a payload of 16 MiB arrives whole.
fn large_reason(context: &mut Context) -> Verdict {
    let (before, after) = ("{\"action\":{\"Deny\":{\"reason\":\"", "\"}}}");
    let room = (16 << 20) - before.len() - after.len();
    let reason = &"0123456789abcdef".repeat(1 << 20)[..room];
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream
        .frames
        .send(format!("{before}{reason}{after}").as_bytes(), &[])?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    let expected = format!("Execution denied: {reason}\n");
    expect::that(
        finished.error == expected.as_bytes(),
        format_args!("the whole reason of {room} bytes"),
        format_args!("{} bytes of standard error", finished.error.len()),
    )
}

/// A length of 4 GiB in place of a result, with 1 GiB of address space and the stream left open.
fn result_announced(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .launched(|launch| launch.limit(libc::RLIMIT_AS, 1 << 30))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream.frames.send_bytes(&u32::MAX.to_le_bytes(), &[])?;
    wrapper.finish()?.expect_refused()?;
    stream.frames.expect_end("the length is over every limit")
}

/// A length of 4 GiB is refused before that much is allocated: the wrapper has 1 GiB of address space.
fn announced_four_gibibytes(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call
        .launched(|launch| launch.limit(libc::RLIMIT_AS, 1 << 30))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.frames.send_bytes(&u32::MAX.to_le_bytes(), &[])?;
    wrapper.finish()?.expect_refused()?;
    program.expect_not_started()
}

/// A decision of 16 MiB is accepted.
fn sixteen_mebibytes(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let message = br#"{"action":"Run"}"#;
    let mut payload = vec![b' '; (16 << 20) - message.len()];
    payload.extend_from_slice(message);
    stream.frames.send(&payload, &[])?;
    wrapper.finish()?.expect_status(0)?;
    program.only_start().map(drop)
}

/// A length of 4 GiB is refused as soon as it is there, also where that much memory can be had: in place of a decision,
/// and of a result.
fn announced_without_a_limit(context: &mut Context) -> Verdict {
    for escalated in [false, true] {
        fails_by(context, |mut stream| {
            if escalated {
                stream.escalate()?;
            }
            stream.frames.send_bytes(&u32::MAX.to_le_bytes(), &[])?;
            Ok(Some(stream))
        })?;
    }
    Ok(())
}
