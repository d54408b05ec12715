//! wrapper.escalate.status and wrapper.escalate.status.range: the child's status is the wrapper's.

use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{any_call, escalated, expect_state, expect_waiting};
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.status.range/beyond-64-bits", beyond_64_bits),
    case("wrapper.escalate.status.range/never-success", range),
    case("wrapper.escalate.status/zero-to-255", every_status).within_seconds(300),
    case("wrapper.escalate.status/waits-for-the-result", waits_for_the_result),
    case("wrapper.escalate.status/of-a-killed-child", of_a_killed_child),
    case("wrapper.escalate.status/result-and-end-at-once", result_and_end_at_once),
]);

/// Numbers too large for a machine integer, some with the low bits of 0.
fn beyond_64_bits(context: &mut Context) -> Verdict {
    for digits in [
        "18446744073709551616",
        "-18446744073709551616",
        "340282366920938463463374607431768211456",
        "1000000000000000000000000000000",
        "99999999999999999999",
        "9223372036854775808",
        "-9223372036854775809",
        "4294967296",
        "-2147483648",
    ] {
        let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
        drop(escalation);
        stream
            .frames
            .send(format!("{{\"exit_code\":{digits}}}").as_bytes(), &[])?;
        let ended = wrapper.finish()?.ended;
        expect::that(
            matches!(ended, Ended::Exited(status) if status != 0),
            format_args!("exit_code {digits} does not become success"),
            ended,
        )?;
    }
    Ok(())
}

/// The result of a killed child carries `signal` too. For its shell the wrapper has the status 128+N, whether it knows that
/// member and dies by the signal or doesn't and exits with the exit code.
fn of_a_killed_child(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
        let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
        drop(escalation);
        stream
            .frames
            .send_json(&json!({"exit_code": 128 + signal, "signal": signal}))?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::that(
            ended.shell_status() == 128 + signal,
            format_args!(
                "status {} for the shell, by exit or by signal {signal}",
                128 + signal
            ),
            ended,
        )?;
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

/// After the descriptors were taken the wrapper still waits for the result.
fn waits_for_the_result(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    drop(stream.escalate()?);
    // The delay is the input: a wrapper with a timeout of its own gives up in it.
    expect_waiting(&wrapper, context.scaled(Duration::from_secs(2)))?;
    stream.result(9)?;
    wrapper.finish()?.expect_status(9)
}

/// The server closes the stream with the result: a wrapper that looks only then finds both.
fn result_and_end_at_once(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
    drop(escalation);
    expect_state(context, &wrapper, "S")?;
    wrapper.process.signal(libc::SIGSTOP)?;
    expect_state(context, &wrapper, "T")?;
    stream.result(31)?;
    drop(stream);
    wrapper.process.signal(libc::SIGCONT)?;
    wrapper.finish()?.expect_status(31)
}

/// An exit_code that is not a status never becomes success.
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
