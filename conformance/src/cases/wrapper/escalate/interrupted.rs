//! wrapper.escalate.interrupted: a deadly signal reaches the escalated child, by a frame or by the end of file.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wire::Received;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{FullSocket, any_call, escalated, expect_waiting};
use crate::system::process::Ended;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.interrupted/frame-or-end-of-file", frame_or_end_of_file),
    case("wrapper.escalate.interrupted/before-the-decision", before_the_decision),
    case("wrapper.escalate.interrupted/before-the-handshake", before_the_handshake),
]);

/// Before a decision these signals end it as they end any program.
fn before_the_decision(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut wrapper = any_call(context)?.start()?;
        let (mut stream, _) = wrapper.request()?;
        wrapper.process.signal(signal)?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        stream.frames.expect_end("the wrapper is gone")?;
    }
    Ok(())
}

/// Nor does a full escalation socket hold them up.
fn before_the_handshake(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        for nonblocking in [true, false] {
            let full = FullSocket::new(nonblocking)?;
            let mut wrapper = full.start(any_call(context)?)?;
            // Until it has had time of its own to reach the socket: no event tells of that.
            expect_waiting(&wrapper, context.scaled(Duration::from_millis(100)))?;
            wrapper.process.signal(signal)?;
            let ended = wrapper.process.wait("the wrapper", context.patience())?;
            expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        }
    }
    Ok(())
}

/// A wrapper that announced *signals* sends a frame; another one ends, and its stream with it.
fn frame_or_end_of_file(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let (mut wrapper, mut stream, escalation) = escalated(any_call(context)?)?;
        let announced = escalation.announces_signals();
        drop(escalation);
        wrapper.process.signal(signal)?;
        match stream.frames.receive()? {
            Received::Frame(frame) => {
                let expected =
                    format!("a frame of signal {signal} from a wrapper that announced signals, or the end");
                let message = frame.json()?;
                expect::that(announced && message["signal"] == signal, expected, message)?;
                stream.result(0)?;
            }
            Received::End { .. } => {}
            Received::Silence { .. } => {
                return Err(violation(
                    format_args!("signal {signal} is forwarded or ends the wrapper"),
                    format_args!("neither within {:?}", context.patience()),
                ));
            }
        }
        wrapper.process.wait("the wrapper", context.patience())?;
    }
    Ok(())
}
