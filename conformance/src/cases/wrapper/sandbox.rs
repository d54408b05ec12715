//! wrapper.sandbox: the system calls that network filters refuse are not needed.

use std::os::unix::net::UnixDatagram;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{
    any_call, denied_under, escalated, escalated_under, fails_without_request, in_sandbox, runs_under,
};
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.sandbox/failures", sandbox_failures),
    case("wrapper.sandbox/child-killed", sandbox_child_killed).needs("signals"),
    case("wrapper.sandbox/run", sandbox_run),
    case("wrapper.sandbox/deny", sandbox_deny),
    case("wrapper.sandbox/escalate", sandbox_escalate),
]);

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
        wrapper.finish()?.expect_refused()?;
    }
    let (server_end, client_end) = UnixDatagram::pair()?;
    drop(server_end);
    fails_without_request(context, |call| {
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

/// Run, under the filter.
fn sandbox_run(context: &mut Context) -> Verdict {
    runs_under(context, in_sandbox)
}

/// Deny, under the filter.
fn sandbox_deny(context: &mut Context) -> Verdict {
    denied_under(context, in_sandbox)
}

/// Escalate, under the filter.
fn sandbox_escalate(context: &mut Context) -> Verdict {
    escalated_under(context, in_sandbox)
}
