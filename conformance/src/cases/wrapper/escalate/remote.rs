//! wrapper.escalate.remote: FILE is executed elsewhere, and never here instead.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{escalated, handed_over};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.remote/does-not-execute", does_not_execute),
    case("wrapper.escalate.remote/file-may-be-missing-here", missing_here),
    case("wrapper.escalate.remote/not-after-a-failure", not_after_a_failure),
]);

/// FILE is not executed by the wrapper.
fn does_not_execute(context: &mut Context) -> Verdict {
    handed_over(context, Ok, |_| Ok(()))
}

/// What is executed elsewhere need not exist here.
fn missing_here(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/nonexistent/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.escalate()?;
    stream.result(3)?;
    wrapper.finish()?.expect_status(3)
}

/// Where the escalation fails, FILE is not executed here instead.
fn not_after_a_failure(context: &mut Context) -> Verdict {
    for result in [None, Some(1), Some(126), Some(127)] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        drop(escalation);
        if let Some(status) = result {
            stream.result(status)?;
        }
        drop(stream);
        let ended = wrapper.finish()?.ended;
        expect::that(ended.shell_status() != 0, "a failure", ended)?;
        program.expect_not_started()?;
    }
    Ok(())
}
