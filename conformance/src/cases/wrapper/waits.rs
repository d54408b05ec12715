//! wrapper.waits: for decisions and results as long as they take.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::{Level, Role};
use crate::stage::wrapper::{any_call, expect_state, expect_waiting};
use crate::system::clock::Moment;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.waits/for-each-decision", for_each_decision),
    case("wrapper.waits/fourteen-seconds", fourteen_seconds).within_seconds(60),
    case("wrapper.waits/stopped-and-continued", stopped_and_continued).at(Level::Faithful),
    case("wrapper.waits/harmless-signals", harmless_signals).at(Level::Faithful),
]);

/// Three wrappers wait side by side while time passes; then each decision is still carried out, silently until then.
fn for_each_decision(context: &mut Context) -> Verdict {
    carried_out_after(context, context.scaled(Duration::from_secs(2)))
}

/// The same for longer than the timeouts of 5 and 10 seconds that clients of all kinds have.
fn fourteen_seconds(context: &mut Context) -> Verdict {
    // Not scaled: a timeout of a wrapper isn't either.
    carried_out_after(context, Duration::from_secs(7))
}

/// Each decision is carried out after twice this time; the escalating wrapper waits once for each answer.
fn carried_out_after(context: &Context, half: Duration) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let start = || -> Result<_, CaseError> {
        let wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (stream, _) = wrapper.request()?;
        Ok((wrapper, stream))
    };
    let (mut run, mut run_stream) = start()?;
    let (mut denied, mut denied_stream) = start()?;
    let (mut escalated, mut escalated_stream) = start()?;
    // The delay is the input: a wrapper with a timeout of its own would give up. The escalating one spends half of it
    // waiting for its result.
    expect_waiting(&run, half)?;
    drop(escalated_stream.escalate()?);
    expect_waiting(&escalated, half)?;
    for (wrapper, stream) in [
        (&run, &run_stream),
        (&denied, &denied_stream),
        (&escalated, &escalated_stream),
    ] {
        expect_waiting(wrapper, Duration::ZERO)?;
        wrapper.expect_no_handshake()?;
        let silent = !readable_until(stream.frames.socket(), Moment::now())?;
        expect::that(silent, "nothing is sent while it waits", "bytes, or end of file")?;
    }
    program.expect_not_started()?;
    run_stream.run()?;
    let finished = run.finish()?;
    finished.expect_status(0)?;
    expect::equal("standard error", "", &*finished.error_text())?;
    let started = program.only_start()?;
    expect::equal(
        "CODEX_ESCALATE_SOCKET",
        Some(ESCALATION_DESCRIPTOR.to_string().into_bytes()),
        started.variable("CODEX_ESCALATE_SOCKET"),
    )?;
    denied_stream.deny(None)?;
    let finished = denied.finish()?;
    finished.expect_status(1)?;
    expect::equal("standard error", "Execution denied\n", &*finished.error_text())?;
    escalated_stream.result(5)?;
    let finished = escalated.finish()?;
    finished.expect_status(5)?;
    expect::equal("standard error", "", &*finished.error_text())
}

/// SIGSTOP and SIGCONT from outside do not end the wait.
fn stopped_and_continued(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for decision in 0..3 {
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        for _ in 0..2 {
            wrapper.process.signal(libc::SIGSTOP)?;
            expect_state(context, &wrapper, "T")?;
            wrapper.process.signal(libc::SIGCONT)?;
            expect_state(context, &wrapper, "RS")?;
        }
        let status = match decision {
            0 => {
                stream.run()?;
                0
            }
            1 => {
                stream.deny(None)?;
                1
            }
            _ => {
                drop(stream.escalate()?);
                stream.result(44)?;
                44
            }
        };
        wrapper.finish()?.expect_status(status)?;
    }
    Ok(())
}

/// Signals that are ignored by default do not end the wait.
fn harmless_signals(context: &mut Context) -> Verdict {
    let mut wrapper = any_call(context)?.start()?;
    let (mut stream, _) = wrapper.request()?;
    for signal in [libc::SIGWINCH, libc::SIGCHLD, libc::SIGURG, libc::SIGCONT] {
        // So that each signal interrupts a wait that has begun.
        expect_state(context, &wrapper, "S")?;
        wrapper.process.signal(signal)?;
    }
    stream.deny(Some("after all"))?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    expect::equal(
        "standard error",
        "Execution denied: after all\n",
        &*finished.error_text(),
    )
}
