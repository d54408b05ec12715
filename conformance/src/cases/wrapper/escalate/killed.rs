//! wrapper.escalate.killed: the wrapper dies by the signal that killed the child.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::signals::{OF_LIBRARIES, deadly};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{any_call, escalated};
use crate::system::launch::hard_limit;
use crate::system::process;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.killed/every-deadly-signal", every_deadly_signal),
    case("wrapper.escalate.killed/although-ignored-and-blocked", although_ignored_and_blocked),
    case("wrapper.escalate.killed/no-core", no_core),
    case("wrapper.escalate.killed/a-number-that-cannot-kill", cannot_kill),
    case("wrapper.escalate.killed/status-alone-does-not-kill", status_alone),
]);

/// The result says that the child died by `signal`: the wrapper does the same. With a signal of a C library it may exit instead.
fn dies_by(context: &Context, call: WrapperCall<'_>, signal: i32) -> Verdict {
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    drop(escalation);
    stream
        .frames
        .send_json(&json!({"exit_code": 128 + signal, "signal": signal}))?;
    let ended = wrapper.process.wait("the wrapper", context.patience())?;
    if OF_LIBRARIES.contains(&signal) && ended == Ended::Exited(128 + signal) {
        return Ok(());
    }
    expect::equal("the wrapper's end", Ended::Killed(signal), ended)
}

/// For each signal that can end a process.
fn every_deadly_signal(context: &mut Context) -> Verdict {
    for signal in deadly() {
        dies_by(context, any_call(context)?, signal)?;
    }
    Ok(())
}

/// Also where the wrapper was started with that signal ignored and blocked, with all others too. Those that C
/// libraries reserve and do not let programs unblock are left out.
fn although_ignored_and_blocked(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGSEGV,
        libc::SIGUSR1,
        35,
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

/// A core dump, if any, is the child's: the wrapper dumps none even where its limits allow it.
fn no_core(context: &mut Context) -> Verdict {
    let size = hard_limit(libc::RLIMIT_CORE)?.min(256 << 20);
    for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGQUIT] {
        let call = any_call(context)?.launched(|launch| launch.limit(libc::RLIMIT_CORE, size));
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

/// A number that ends no process: the exit code counts, never as success, and no process is stopped or signalled.
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
            // A wrapper may treat a number that is not a signal as a malformed result.
            let right = matches!(ended, Ended::Exited(status) if status != 0 && (status == code || code == 0 || status == 126));
            expect::that(
                right,
                match code {
                    0 => format!(
                        "signal {number}, exit_code 0: any status but 0, since the two contradict each other"
                    ),
                    _ => format!(
                        "signal {number}, exit_code {code}: status {code}, or 126 for a malformed result"
                    ),
                },
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
