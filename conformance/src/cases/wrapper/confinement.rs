//! Sandboxes and limits, beyond the plain cases of [`super::surroundings`]: failures, signals and ends by a signal.

use serde_json::json;

use super::support::{any_call, escalated};
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::system::filter;
use crate::system::launch::Launch;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.sandbox/failures", sandbox_failures),
    case("wrapper.sandbox/child-killed", sandbox_child_killed),
    case("wrapper.limits/signals-with-sixteen-open-files", signals_with_few_files),
    case("wrapper.limits/signals-without-further-process", signals_without_further_process),
    case("wrapper.limits/both-at-once", both_at_once),
]);

fn in_sandbox(launch: Launch) -> Launch {
    launch.filter(filter::refusing(&super::surroundings::REFUSED))
}

/// RLIMIT_NPROC does not bind root, so a filter refuses what makes processes and threads, as a limit does.
fn alone(launch: Launch) -> Launch {
    let mut calls = vec![libc::SYS_clone, libc::SYS_clone3];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_fork, libc::SYS_vfork]);
    launch
        .limit(libc::RLIMIT_NPROC, 1)
        .filter(filter::answering(&calls, libc::EAGAIN))
}

fn few_files(launch: Launch) -> Launch {
    launch.limit(libc::RLIMIT_NOFILE, 16)
}

/// The end of file, a malformed reply and a missing peer fail closed under the filter as elsewhere.
fn sandbox_failures(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for reply in [None, Some("{}"), Some("{\"action\":\"Sudo\"}")] {
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let mut wrapper = call.launched(in_sandbox).start()?;
        let (mut stream, _) = wrapper.request()?;
        if let Some(reply) = reply {
            stream.frames.send(reply.as_bytes(), &[])?;
        }
        drop(stream);
        wrapper.finish()?.expect_failed_closed()?;
    }
    let (server_end, client_end) = std::os::unix::net::UnixDatagram::pair()?;
    drop(server_end);
    super::fail_closed::fails_without_request(context, |call| {
        call.client_end(Some(client_end.into())).launched(in_sandbox)
    })?;
    program.expect_not_started()
}

/// A result with `signal` ends the wrapper under the filter as elsewhere.
fn sandbox_child_killed(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGSEGV] {
        let call = any_call(context)?.launched(in_sandbox);
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        drop(escalation);
        stream
            .frames
            .send_json(&json!({"exit_code": 128 + signal, "signal": signal}))?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
    }
    Ok(())
}

/// Escalate with a forwarded signal, a stop and a result.
fn signals_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    let call = any_call(context)?.socket_number(3).launched(change);
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    // Without the extension there are no frames to wait for; that is another requirement's.
    if escalation.announces_signals() {
        for signal in [libc::SIGTERM, libc::SIGUSR1] {
            wrapper.process.signal(signal)?;
            let seen = super::signals::forwarded(&mut stream, "a forwarded signal")?;
            expect::equal("the forwarded signal", i64::from(signal), seen)?;
        }
        stream.frames.send_json(&json!({"stopped": libc::SIGTSTP}))?;
        super::signals::stopped_by(&wrapper, context)?;
        wrapper.process.signal(libc::SIGCONT)?;
        let seen = super::signals::forwarded(&mut stream, "SIGCONT")?;
        expect::equal("the forwarded signal", i64::from(libc::SIGCONT), seen)?;
    }
    stream.result(12)?;
    wrapper.finish()?.expect_status(12)
}

/// With 16 open files.
fn signals_with_few_files(context: &mut Context) -> Verdict {
    signals_under(context, few_files)
}

/// Without a further process or thread.
fn signals_without_further_process(context: &mut Context) -> Verdict {
    signals_under(context, alone)
}

/// Both limits, and every decision.
fn both_at_once(context: &mut Context) -> Verdict {
    let both = |launch| alone(few_files(launch));
    signals_under(context, both)?;
    let program = Program::new(context, "program", [])?;
    for run in [true, false] {
        let call = WrapperCall::new(context, &program.path, ["program"])?.socket_number(3);
        let mut wrapper = call.launched(both).start()?;
        let (mut stream, _) = wrapper.request()?;
        if run {
            stream.run()?;
        } else {
            stream.deny(None)?;
        }
        wrapper.finish()?.expect_status(i32::from(!run))?;
    }
    program.only_start().map(drop)
}
