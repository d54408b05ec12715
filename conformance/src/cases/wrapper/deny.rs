//! Deny: the message, the status, and that the command does not run.

use crate::context::Context;
use crate::outcome::Verdict;
use crate::peer::decider::WrapperCall;
use crate::peer::program::Program;
use crate::requirements::{Level, Role};
use crate::suite::Case;

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new(
        "wrapper.deny.message/with-reason",
        Role::Wrapper,
        Level::Core,
        message_with_reason,
    ),
    Case::new(
        "wrapper.deny.message/without-reason",
        Role::Wrapper,
        Level::Core,
        message_without_reason,
    ),
    Case::new(
        "wrapper.deny.status/is-one",
        Role::Wrapper,
        Level::Core,
        status_is_one,
    ),
];

/// A denial with a reason is told on standard error, word for word.
fn message_with_reason(context: &mut Context) -> Verdict {
    denied(
        context,
        Some("not on a Sunday"),
        "Execution denied: not on a Sunday\n",
    )
}

/// A denial without a reason is told too.
fn message_without_reason(context: &mut Context) -> Verdict {
    denied(context, None, "Execution denied\n")
}

fn denied(context: &Context, reason: Option<&str>, message: &str) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(reason)?;
    let finished = wrapper.finish()?;
    crate::expect::equal("standard error", message, &*finished.error_text())?;
    finished.expect_no_output()?;
    program.expect_not_started()
}

/// A denied command has status 1 and does not run.
fn status_is_one(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some("no"))?;
    wrapper.finish()?.expect_status(1)?;
    program.expect_not_started()
}
