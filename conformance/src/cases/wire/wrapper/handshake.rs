//! wire.handshake, for a wrapper: one datagram with one byte and one descriptor.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.handshake/one-byte-one-descriptor", handshake),
]);

/// One datagram: the byte 0 with one descriptor, a connected AF_UNIX stream. [`WrapperRun::handshake`] looks.
///
/// [`WrapperRun::handshake`]: crate::peer::wrapper_call::WrapperRun::handshake
fn handshake(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let mut stream = wrapper.handshake()?;
    stream.request()?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)?;
    wrapper.expect_no_handshake()
}
