//! wrapper.deny: the message, the status, and that the command does not run.

use std::io::Read;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::finished::Finished;
use crate::peer::program::Program;
use crate::peer::wire::read_to_end;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{any_call, with_debug_variables};
use crate::system::clock::Moment;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.deny.message/with-reason", message_with_reason),
    case("wrapper.deny.message/without-reason", message_without_reason),
    case("wrapper.deny.message/unicode-reason", unicode_reason),
    case("wrapper.deny.message/reason-of-two-lines", two_lines),
    case("wrapper.deny.message/reason-like-a-format", like_a_format),
    case("wrapper.deny.message/long-reason", long_reason),
    case("wrapper.deny.message/slowly-read", slowly_read),
    case("wrapper.deny.message/quiet-under-debug-variables", quiet_under_debug_variables).at(Level::Faithful),
    case("wrapper.deny.status/is-one", status_is_one),
    case("wrapper.deny.status/with-standard-error-closed", error_closed),
    case("wrapper.deny.control/escaped", control_escaped),
    case("wrapper.deny.control/every-control-character", every_control_character),
    case("wrapper.deny.control/other-text-stays", other_text_stays),
]);

/// A denial with a reason is reported on standard error, word for word.
fn message_with_reason(context: &mut Context) -> Verdict {
    expect_message(
        context,
        Some("not on a Sunday"),
        "Execution denied: not on a Sunday\n",
    )
}

/// A denial without a reason is reported as well.
fn message_without_reason(context: &mut Context) -> Verdict {
    expect_message(context, None, "Execution denied\n")
}

/// A reason beyond ASCII arrives in UTF-8.
fn unicode_reason(context: &mut Context) -> Verdict {
    expect_message(
        context,
        Some("ü – 😀 – 禁止"),
        "Execution denied: ü – 😀 – 禁止\n",
    )
}

/// Newlines and tabs of a reason are kept.
fn two_lines(context: &mut Context) -> Verdict {
    expect_message(
        context,
        Some("first\n\tsecond"),
        "Execution denied: first\n\tsecond\n",
    )
}

/// A reason is data, not a format.
fn like_a_format(context: &mut Context) -> Verdict {
    expect_message(
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

fn expect_message(context: &Context, reason: Option<&str>, message: &str) -> Verdict {
    let finished = denied(context, reason)?;
    expect::equal("standard error", message, &*finished.error_text())?;
    finished.expect_no_output()
}

/// Denies a program, and demands that it did not run.
fn denied(context: &Context, reason: Option<&str>) -> Result<Finished, CaseError> {
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

/// With standard error closed, status and denial are the same.
fn error_closed(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call.launched(|launch| launch.closed(2)).start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some("no"))?;
    wrapper.finish()?.expect_status(1)?;
    program.expect_not_started()
}

/// Control characters are escaped, in any form, on their way to the terminal; newline and tab are not.
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

/// A reason of 200 KB into a pipe that is full before it is read.
fn slowly_read(context: &mut Context) -> Verdict {
    let reason = "slow ".repeat(40_000);
    let (mut reader, writer) = pipe()?;
    let mut wrapper = any_call(context)?
        .launched(|launch| launch.descriptor(2, writer))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some(&reason))?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    // The first bytes one by one, each as it becomes available.
    for _ in 0..64 {
        let more = readable_until(&reader, Moment::now() + context.patience())?;
        expect::that(more, "a denial on standard error", "nothing")?;
        let length = reader.read(&mut piece[..1])?;
        text.extend_from_slice(&piece[..length]);
    }
    let rest = read_to_end(&mut reader, Moment::now() + context.patience())?;
    text.extend(rest.unwrap_or_default());
    wrapper.finish()?.expect_status(1)?;
    expect::that(
        text == format!("Execution denied: {reason}\n").as_bytes(),
        "the whole reason",
        format_args!("{} bytes", text.len()),
    )
}

/// Debugging variables are meant for the command: the wrapper prints nothing more because of them.
fn quiet_under_debug_variables(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = || {
        Ok::<_, CaseError>(with_debug_variables(WrapperCall::new(
            context,
            &program.path,
            ["x"],
        )?))
    };
    let mut wrapper = call()?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some("no"))?;
    let finished = wrapper.finish()?;
    expect::equal(
        "standard error",
        "Execution denied: no\n",
        &*finished.error_text(),
    )?;
    finished.expect_no_output()?;
    program.expect_not_started()?;
    let mut wrapper = call()?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let finished = wrapper.finish()?;
    finished.expect_status(0)?;
    expect::equal("standard error under Run", "", &*finished.error_text())?;
    finished.expect_no_output()
}

/// The standard error of a denial for this reason.
fn denial(context: &Context, reason: &str) -> Result<Finished, CaseError> {
    let mut wrapper = any_call(context)?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some(reason))?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    finished.expect_no_output()?;
    Ok(finished)
}

/// Each control character alone between two letters: something visible stands for it.
fn every_control_character(context: &mut Context) -> Verdict {
    let control = (1..=0x9f_u32)
        .filter_map(char::from_u32)
        .filter(|character| character.is_control() && !matches!(character, '\t' | '\n'));
    let mut reason = String::new();
    let mut count = 0;
    for character in control {
        reason.push_str(&format!("<{character}>"));
        count += 1;
    }
    let finished = denial(context, &reason)?;
    let text = String::from_utf8(finished.error.clone())
        .map_err(|_| violation("UTF-8 on standard error", finished.error_text()))?;
    let raw = text
        .trim_end_matches('\n')
        .chars()
        .find(|character| character.is_control());
    expect::that(
        raw.is_none(),
        "no control character arrives raw",
        format_args!("{raw:?} in {text:?}"),
    )?;
    let shown: Vec<&str> = text.split('<').skip(1).collect();
    expect::equal("escaped characters", count, shown.len())?;
    for escaped in shown {
        let form = escaped.trim_end().trim_end_matches('>');
        expect::that(
            !form.is_empty(),
            "a visible form of each control character",
            format_args!("none: {text:?}"),
        )?;
    }
    Ok(())
}

/// Everything except control characters is unchanged: backslashes, other scripts, tabs and newlines.
fn other_text_stays(context: &mut Context) -> Verdict {
    let (before, after) = ("a\\n\\x07 ü–😀\u{a0}\u{2028}\tb\n", "\u{feff}c\\\\ é\n\nd");
    let finished = denial(context, &format!("{before}\u{7}{after}"))?;
    let text = finished.error_text();
    let rest = text.strip_prefix(&format!("Execution denied: {before}"));
    let form = rest.and_then(|rest| rest.strip_suffix(&format!("{after}\n")));
    expect::that(
        form.is_some_and(|form| !form.contains('\u{7}')),
        format_args!("{before:?}, something for the bell, {after:?}"),
        format_args!("{text:?}"),
    )
}
