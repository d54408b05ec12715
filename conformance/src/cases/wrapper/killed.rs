//! wrapper.killed: a signal kills a wrapper as it kills any program, and the stream ends with the wrapper.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::ConnectedProgram;
use crate::peer::signals::deadly;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{FullSocket, any_call, escalated, expect_waiting};
use crate::system::launch::Launch;
use crate::system::process;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.killed/by-every-deadly-signal", by_every_deadly_signal),
    case("wrapper.killed/after-run", after_run),
    case("wrapper.killed/no-process-of-its-own", no_process_of_its_own),
    case("wrapper.killed/while-the-socket-is-full", killed_while_full),
]);

/// Each signal that can end a program, before the decision. If it ends the wrapper, in whatever way, the stream ends too; a
/// wrapper that it doesn't end (runtimes ignore or handle some) is then killed.
fn by_every_deadly_signal(context: &mut Context) -> Verdict {
    for signal in deadly() {
        let mut wrapper = any_call(context)?
            .launched(|launch| launch.limit(libc::RLIMIT_CORE, 0))
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        wrapper.process.signal(signal)?;
        let at_once = context.scaled(Duration::from_millis(200));
        if !wrapper.process.handle().ended_within(at_once)? {
            wrapper.process.signal(libc::SIGKILL)?;
        }
        wrapper.process.wait("the wrapper", context.patience())?;
        stream
            .frames
            .expect_end(&format!("the wrapper has died after signal {signal}"))?;
    }
    Ok(())
}

/// The stream has ended before the command is killed, and nothing is left after it.
fn after_run(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    let mut wrapper = WrapperCall::new(context, program.text(), ["program"])?
        .launched(Launch::in_new_session)
        .start()?;
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

/// While the child runs, only the wrapper itself holds its end of the stream: when it is killed the stream ends and
/// no helper process survives (the census checks that too).
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

/// Killed while it waits for room, a wrapper sends no handshake afterwards.
fn killed_while_full(context: &mut Context) -> Verdict {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let full = FullSocket::new(true)?;
        let mut wrapper = full.start(any_call(context)?)?;
        expect_waiting(&wrapper, context.scaled(Duration::from_millis(100)))?;
        wrapper.process.signal(signal)?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        full.take_fillers(full.datagrams)?;
        wrapper.expect_no_handshake()?;
    }
    Ok(())
}
