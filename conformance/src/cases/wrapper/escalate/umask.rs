//! wrapper.escalate.umask: the request carries the wrapper's umask.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.umask/travels", umask_travels),
]);

/// The request carries the wrapper's umask as a number.
fn umask_travels(context: &mut Context) -> Verdict {
    for umask in [0o000, 0o022, 0o077, 0o777] {
        let call = WrapperCall::new(context, "/bin/program", ["program"])?;
        let mut wrapper = call.launched(|launch| launch.umask(umask)).start()?;
        let (mut stream, request) = wrapper.request()?;
        expect::equal(
            "umask of the request",
            Some(u64::from(umask)),
            request.message["umask"].as_u64(),
        )?;
        stream.deny(None)?;
        wrapper.finish()?.expect_status(1)?;
    }
    Ok(())
}
