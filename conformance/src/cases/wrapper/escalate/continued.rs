//! wrapper.escalate.continued: stops and continuations that cross on their way.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::RequestStream;
use crate::peer::wrapper_call::WrapperRun;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{escalating, expect_state, stopped_by};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.continued/says-what-it-has-read", says_what_it_has_read),
    case("wrapper.escalate.continued/signal-before-the-message-is-read", signal_before_the_message_is_read),
    case("wrapper.escalate.continued/not-stopped-by-what-is-stale", not_stopped_by_what_is_stale),
]).needs("group");

/// The next frame of a wrapper that has been sent SIGCONT.
fn continuation(wrapper: &WrapperRun, stream: &mut RequestStream) -> Result<Value, CaseError> {
    wrapper.process.signal(libc::SIGCONT)?;
    let message = stream.frames.expect_frame("SIGCONT for the child")?.json()?;
    expect::equal("the forwarded signal", &json!(libc::SIGCONT), &message["signal"])?;
    Ok(message)
}

/// Each frame of a SIGCONT says how many stopped messages have been read.
fn says_what_it_has_read(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for read in 0..4 {
        if read > 0 {
            let message = json!({"stopped": libc::SIGTSTP, "alone": true, "continued": read});
            stream.frames.send_json(&message)?;
            stopped_by(&wrapper, context)?;
        }
        expect::equal(
            &format!("stops in the frame of a SIGCONT after {read} stopped messages"),
            &json!(read),
            &continuation(&wrapper, &mut stream)?["stops"],
        )?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// A stopped message and the SIGCONT that lets the wrapper read it: when the signal came, it had read none.
fn signal_before_the_message_is_read(context: &mut Context) -> Verdict {
    for _ in 0..5 {
        let (mut wrapper, mut stream) = escalating(context)?;
        wrapper.process.signal(libc::SIGSTOP)?;
        expect_state(context, &wrapper, "T")?;
        let message = json!({"stopped": libc::SIGTSTP, "alone": true, "continued": 0});
        stream.frames.send_json(&message)?;
        expect::equal(
            "stops in the frame of a SIGCONT that came while a stopped message was unread",
            &json!(0),
            &continuation(&wrapper, &mut stream)?["stops"],
        )?;
        stream.result(0)?;
        wrapper.finish()?.expect_status(0)?;
    }
    Ok(())
}

/// A message that was sent before the server had read of the last continuation stops nothing, but counts as read; the next one
/// stops the wrapper.
fn not_stopped_by_what_is_stale(context: &mut Context) -> Verdict {
    for signal in [libc::SIGTSTP, libc::SIGSTOP] {
        let (mut wrapper, mut stream) = escalating(context)?;
        let stopped = |continued: u32| json!({"stopped": signal, "alone": true, "continued": continued});
        continuation(&wrapper, &mut stream)?;
        continuation(&wrapper, &mut stream)?;
        stream.frames.send_json(&stopped(1))?;
        stream.frames.send_json(&stopped(2))?;
        stopped_by(&wrapper, context)?;
        expect::equal(
            "stops in the frame of a SIGCONT after two stopped messages, of which the first was stale",
            &json!(2),
            &continuation(&wrapper, &mut stream)?["stops"],
        )?;
        stream.frames.send_json(&stopped(2))?;
        stream.result(5)?;
        wrapper.finish()?.expect_status(5)?;
    }
    Ok(())
}
