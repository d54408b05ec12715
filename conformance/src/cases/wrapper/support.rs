//! What several files of wrapper cases need.

use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::case::context::Context;
use crate::peer::fake_server::{Escalation, RequestStream};
use crate::peer::wrapper_call::{WrapperCall, WrapperRun};
use crate::verdict::{CaseError, Verdict, violation};

/// Whether two descriptors share an open file description: a status flag set through one is seen through the
/// other. (kcmp(2) says it directly, but many a container refuses it.)
pub fn same_description(one: &impl AsFd, other: &impl AsFd) -> Result<bool, CaseError> {
    let before = fcntl(one, FcntlArg::F_GETFL)?;
    let toggled = OFlag::from_bits_retain(before ^ libc::O_NONBLOCK);
    let seen_before = fcntl(other, FcntlArg::F_GETFL)?;
    fcntl(one, FcntlArg::F_SETFL(toggled))?;
    let seen = fcntl(other, FcntlArg::F_GETFL)?;
    fcntl(one, FcntlArg::F_SETFL(OFlag::from_bits_retain(before)))?;
    Ok((seen ^ seen_before) & libc::O_NONBLOCK != 0)
}

/// Starts a call, escalates its request and returns what was handed over. The suite plays the child from here.
pub fn escalated(call: WrapperCall<'_>) -> Result<(WrapperRun, RequestStream, Escalation), CaseError> {
    let wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    Ok((wrapper, stream, escalation))
}

/// A call of a program that is never executed.
pub fn any_call(context: &Context) -> Result<WrapperCall<'_>, CaseError> {
    WrapperCall::new(context, "/bin/program", ["program"])
}

/// Waits until a process is in one of these states (R, S, T …), as /proc says. The kernel tells nobody.
pub fn expect_state(context: &Context, wrapper: &WrapperRun, states: &str) -> Verdict {
    let deadline = std::time::Instant::now() + context.patience();
    loop {
        let state = wrapper.process.state().map(|process| process.state);
        if state.is_some_and(|state| states.contains(state)) {
            return Ok(());
        }
        if std::time::Instant::now() >= deadline {
            return Err(violation(
                format_args!("the wrapper's state is one of {states}"),
                format_args!("{state:?} after {:?}", context.patience()),
            ));
        }
        std::thread::yield_now();
    }
}
