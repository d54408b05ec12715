//! Deny: the message, the status, and that the command does not run.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wrapper_call::{Finished, WrapperCall};
use crate::spec::requirements::Role;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.deny.message/with-reason", message_with_reason),
    case("wrapper.deny.message/without-reason", message_without_reason),
    case("wrapper.deny.message/unicode-reason", unicode_reason),
    case("wrapper.deny.message/reason-of-two-lines", two_lines),
    case("wrapper.deny.message/reason-like-a-format", like_a_format),
    case("wrapper.deny.message/long-reason", long_reason),
    case("wrapper.deny.status/is-one", status_is_one),
    case("wrapper.deny.status/with-standard-error-closed", error_closed),
    case("wrapper.deny.control/escaped", control_escaped),
]);

/// A denial with a reason is told on standard error, word for word.
fn message_with_reason(context: &mut Context) -> Verdict {
    told(
        context,
        Some("not on a Sunday"),
        "Execution denied: not on a Sunday\n",
    )
}

/// A denial without a reason is told too.
fn message_without_reason(context: &mut Context) -> Verdict {
    told(context, None, "Execution denied\n")
}

/// A reason beyond ASCII arrives in UTF-8.
fn unicode_reason(context: &mut Context) -> Verdict {
    told(
        context,
        Some("ü – 😀 – 禁止"),
        "Execution denied: ü – 😀 – 禁止\n",
    )
}

/// Newlines and tabs of a reason are kept.
fn two_lines(context: &mut Context) -> Verdict {
    told(
        context,
        Some("first\n\tsecond"),
        "Execution denied: first\n\tsecond\n",
    )
}

/// A reason is data, not a format.
fn like_a_format(context: &mut Context) -> Verdict {
    told(
        context,
        Some("%s %n {} {0} \\n $HOME"),
        "Execution denied: %s %n {} {0} \\n $HOME\n",
    )
}

/// A reason of 64 KiB arrives whole.
fn long_reason(context: &mut Context) -> Verdict {
    let reason = "reason ".repeat(9_362);
    let finished = denied(context, Some(&reason))?;
    let whole = finished.error_text() == format!("Execution denied: {reason}\n");
    expect::that(
        whole,
        "the whole reason of 64 KiB",
        format_args!("{} bytes", finished.error.len()),
    )
}

fn told(context: &Context, reason: Option<&str>, message: &str) -> Verdict {
    let finished = denied(context, reason)?;
    expect::equal("standard error", message, &*finished.error_text())?;
    finished.expect_no_output()
}

/// Denies a program, and demands that it did not run.
fn denied(context: &Context, reason: Option<&str>) -> Result<Finished, crate::verdict::CaseError> {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(reason)?;
    let finished = wrapper.finish()?;
    program.expect_not_started()?;
    Ok(finished)
}

/// A denied command has status 1 and does not run.
fn status_is_one(context: &mut Context) -> Verdict {
    denied(context, Some("no"))?.expect_status(1)
}

/// Nowhere to tell it changes nothing else.
fn error_closed(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call.launched(|launch| launch.closed(2)).start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some("no"))?;
    wrapper.finish()?.expect_status(1)?;
    program.expect_not_started()
}

/// Control characters reach the terminal escaped, in whichever form; newline and tab stay.
fn control_escaped(context: &mut Context) -> Verdict {
    let reason = "a\u{1b}[2Jb\u{7}c\u{8}d\re\u{7f}f\u{9b}g\th\ni";
    let finished = denied(context, Some(reason))?;
    finished.expect_status(1)?;
    let text = finished.error_text();
    let raw = text
        .chars()
        .find(|character| character.is_control() && !matches!(character, '\n' | '\t'));
    expect::that(
        raw.is_none(),
        "no control character but newline and tab",
        format_args!("{text:?}"),
    )?;
    expect::contains("standard error", &text, "g\th\ni\n")?;
    for part in ["Execution denied: a", "[2Jb"] {
        expect::contains("standard error", &text, part)?;
    }
    Ok(())
}
