//! How a wrapper ends: by the signal of a result, by a status, or by what kills it; and that its stream ends with it.

use serde_json::json;

use super::support::{any_call, escalated};
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::system::process::{self, Ended};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.killed/every-deadly-signal", every_deadly_signal),
    case("wrapper.escalate.killed/although-ignored-and-blocked", although_ignored_and_blocked),
    case("wrapper.escalate.killed/no-core", no_core),
    case("wrapper.escalate.killed/a-number-that-cannot-kill", cannot_kill),
    case("wrapper.escalate.killed/status-alone-does-not-kill", status_alone),
    case("wrapper.escalate.status.range/beyond-64-bits", beyond_64_bits),
    case("wrapper.killed/by-every-deadly-signal", by_every_deadly_signal),
    case("wrapper.killed/after-run", after_run),
    case("wrapper.killed/no-process-of-its-own", no_process_of_its_own),
]);

/// The signals whose default is to end a process, real-time ones included.
fn deadly() -> impl Iterator<Item = i32> {
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    (1..=64).filter(move |signal| !harmless.contains(signal))
}

/// The result says that the child died by `signal`: the wrapper does the same.
fn dies_by(context: &Context, call: WrapperCall<'_>, signal: i32) -> Verdict {
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    drop(escalation);
    stream
        .frames
        .send_json(&json!({"exit_code": 128 + signal, "signal": signal}))?;
    let ended = wrapper.process.wait("the wrapper", context.patience())?;
    expect::equal("the wrapper's end", Ended::Killed(signal), ended)
}

/// Each signal that can end a process.
fn every_deadly_signal(context: &mut Context) -> Verdict {
    for signal in deadly() {
        dies_by(context, any_call(context)?, signal)?;
    }
    Ok(())
}

/// Also where the wrapper was started with that signal ignored and blocked, with all others too. 32 and 33 are left
/// out, since C libraries keep them for themselves and let nobody unblock them.
fn although_ignored_and_blocked(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGSEGV,
        libc::SIGUSR1,
        34,
        64,
    ] {
        let ignored = any_call(context)?.launched(|launch| launch.ignoring(signal));
        dies_by(context, ignored, signal)?;
        let blocked = any_call(context)?.launched(|launch| launch.blocking(signal));
        dies_by(context, blocked, signal)?;
        let all = any_call(context)?.launched(|launch| {
            (1..=64)
                .filter(|other| ![libc::SIGKILL, libc::SIGSTOP].contains(other))
                .fold(launch, |launch, other| launch.ignoring(other).blocking(other))
        });
        dies_by(context, all, signal)?;
    }
    Ok(())
}

/// The core dump, if any, is the child's: the wrapper makes none, where limits would let it.
fn no_core(context: &mut Context) -> Verdict {
    for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGQUIT] {
        let call = any_call(context)?.launched(|launch| launch.limit(libc::RLIMIT_CORE, 256 << 20));
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        drop(escalation);
        stream
            .frames
            .send_json(&json!({"exit_code": 128 + signal, "signal": signal}))?;
        wrapper
            .process
            .handle()
            .expect_end("the wrapper", context.patience())?;
        let seen = process::wait_for(
            libc::P_PID,
            wrapper.process.pid.as_raw(),
            libc::WEXITED | libc::WNOWAIT,
        )?;
        let dumped = seen.is_some_and(|seen| seen.code == libc::CLD_DUMPED);
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        expect::equal("whether the wrapper dumped core", false, dumped)?;
        let files = std::fs::read_dir(context.work_directory())?.count();
        expect::equal("files in the working directory", 0, files)?;
    }
    Ok(())
}

/// A number that ends nobody: the exit code counts, and it is never success; nobody is stopped or signalled.
fn cannot_kill(context: &mut Context) -> Verdict {
    let numbers = [
        0,
        i64::from(libc::SIGCHLD),
        i64::from(libc::SIGCONT),
        i64::from(libc::SIGSTOP),
        i64::from(libc::SIGTSTP),
        i64::from(libc::SIGTTIN),
        i64::from(libc::SIGURG),
        i64::from(libc::SIGWINCH),
        65,
        128,
        1000,
        -1,
        -9,
        265,
        1 << 32,
        (1 << 32) + 9,
    ];
    for number in numbers {
        for code in [137, 3, 0] {
            let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
            drop(escalation);
            stream
                .frames
                .send_json(&json!({"exit_code": code, "signal": number}))?;
            let ended = wrapper.finish()?.ended;
            // A wrapper may take a number that is no signal at all for a malformed result.
            let right = matches!(ended, Ended::Exited(status) if status != 0 && (status == code || code == 0 || status == 126));
            expect::that(
                right,
                format_args!("signal {number}, exit_code {code}: that status, and never success"),
                ended,
            )?;
        }
    }
    Ok(())
}

/// 128+N without `signal` is a status: a program that returned it was not killed.
fn status_alone(context: &mut Context) -> Verdict {
    for signal in [1, 2, 9, 13, 15, 64] {
        let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
        drop(escalation);
        stream.result(128 + signal)?;
        wrapper
            .finish()?
            .expect_status(i32::try_from(128 + signal).unwrap_or(-1))?;
    }
    Ok(())
}

/// Numbers that no machine integer holds, whose low bits are those of 0.
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

/// Before a decision each signal acts on the wrapper as on any program, and the stream ends with it.
fn by_every_deadly_signal(context: &mut Context) -> Verdict {
    for signal in deadly() {
        let mut wrapper = any_call(context)?
            .launched(|launch| launch.limit(libc::RLIMIT_CORE, 0))
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        wrapper.process.signal(signal)?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        stream.frames.expect_end("the wrapper is gone")?;
    }
    Ok(())
}

/// The stream has ended before the command is killed, and nothing is left after it.
fn after_run(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    let mut wrapper = WrapperCall::new(context, program.text(), ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let mut probe = program.accept("the command")?;
    stream.frames.expect_end("the wrapper has become the command")?;
    probe.must(&Order::Report)?;
    let children = process::descendants(wrapper.process.pid.as_raw());
    expect::that(
        children.is_empty(),
        "the command has no child",
        format_args!("{children:?}"),
    )?;
    wrapper.process.signal(libc::SIGKILL)?;
    let ended = wrapper.process.wait("the command", context.patience())?;
    expect::equal("the command's end", Ended::Killed(libc::SIGKILL), ended)?;
    probe.expect_gone("the command")
}

/// No helper: while the child runs the wrapper's end of the stream is held by the wrapper, and when that is killed
/// nothing of it is left (the census looks).
fn no_process_of_its_own(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
    drop(escalation);
    let own = wrapper.process.pid.as_raw();
    let before = process::descendants(own);
    wrapper.process.signal(libc::SIGKILL)?;
    wrapper.process.wait("the wrapper", context.patience())?;
    stream.frames.expect_end("the wrapper is gone")?;
    for helper in before {
        let gone = process::state(helper.pid).is_none_or(|state| state.state == 'Z');
        expect::that(
            gone,
            "no helper survives the wrapper",
            process::describe(nix::unistd::Pid::from_raw(helper.pid)),
        )?;
    }
    Ok(())
}
