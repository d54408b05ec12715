//! wrapper.deny.message: the whole reason, also where it doesn't fit into standard error at once.

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wire::read_to_end;
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{any_call, expect_held_up, stopped_and_continued, waiting_bytes};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.deny.message/non-blocking-standard-error", non_blocking_standard_error).at(Level::Faithful),
    case("wrapper.deny.message/through-a-stop", through_a_stop).at(Level::Faithful),
]);

/// More than four times what a pipe holds.
const REASON_LENGTH: usize = 300_000;

/// Standard error is a non-blocking pipe, as programs with an event loop leave it behind, and full for a while.
fn non_blocking_standard_error(context: &mut Context) -> Verdict {
    whole_reason(context, OFlag::O_NONBLOCK, false)
}

/// The wrapper is stopped and continued while standard error, a pipe, is full, as by Ctrl-Z and `fg`.
fn through_a_stop(context: &mut Context) -> Verdict {
    whole_reason(context, OFlag::empty(), true)
}

fn whole_reason(context: &Context, flags: OFlag, stop: bool) -> Verdict {
    let (mut reader, writer) = pipe()?;
    fcntl(&writer, FcntlArg::F_SETFL(flags))?;
    let mut wrapper = any_call(context)?
        .launched(|launch| launch.descriptor(2, writer))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    let reason = "0123456789".repeat(REASON_LENGTH / 10);
    stream.deny(Some(&reason))?;
    expect_held_up(context, &wrapper, || waiting_bytes(&reader))?;
    if stop {
        stopped_and_continued(context, &wrapper)?;
    }
    let text = read_to_end(&mut reader, Moment::now() + context.patience())?.unwrap_or_default();
    let expected = format!("Execution denied: {reason}\n");
    expect::that(
        text == expected.as_bytes(),
        format_args!("the whole message of {} bytes", expected.len()),
        format_args!("{} bytes of standard error", text.len()),
    )?;
    wrapper.finish()?.expect_status(1)
}
