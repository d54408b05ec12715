//! wrapper.escalate.group: which signals the kernel has sent to the wrapper's process group for a terminal.

use serde_json::Value;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::RequestStream;
use crate::peer::signals::forwarded;
use crate::peer::terminal::Terminal;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{any_call, escalated, escalating};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.group/of-a-terminal", of_a_terminal).since("0.2.0"),
    case("wrapper.escalate.group/of-a-process", of_a_process).since("0.2.0"),
]);

fn next(stream: &mut RequestStream, what: &str) -> Result<Value, CaseError> {
    stream.frames.expect_frame(what)?.json()
}

/// Ctrl-C, Ctrl-\\, Ctrl-Z and a change of the window's size say that they come of a terminal; the same signals from a
/// process do not.
fn of_a_terminal(context: &mut Context) -> Verdict {
    let mut terminal = Terminal::open(context)?;
    let slave = terminal.other_side()?;
    let call = any_call(context)?.launched(|launch| launch.descriptor(0, slave).on_terminal(0));
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    // A terminal that no process has open has no keys.
    let _descriptors = escalation.descriptors;
    for (key, signal) in [
        ("\u{3}", libc::SIGINT),
        ("\u{1c}", libc::SIGQUIT),
        ("\u{1a}", libc::SIGTSTP),
    ] {
        terminal.type_text(key)?;
        expect_of_terminal(&mut stream, signal)?;
        wrapper.process.signal(signal)?;
        expect_plain(&mut stream, signal)?;
    }
    terminal.resize(30, 100)?;
    expect_of_terminal(&mut stream, libc::SIGWINCH)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

fn expect_of_terminal(stream: &mut RequestStream, signal: i32) -> Verdict {
    let message = next(stream, "a frame of a terminal's signal")?;
    expect::that(
        message["signal"] == signal && message["terminal"] == true,
        format_args!("signal {signal} with \"terminal\":true"),
        message,
    )
}

fn expect_plain(stream: &mut RequestStream, signal: i32) -> Verdict {
    let message = next(stream, "a frame of a process's signal")?;
    expect::that(
        message["signal"] == signal && message["terminal"] != true && message["sender"] == std::process::id(),
        format_args!(
            "signal {signal}, without \"terminal\":true and with \"sender\":{}, the process that has sent it",
            std::process::id()
        ),
        message,
    )
}

/// No signal that a process sends comes of a terminal.
fn of_a_process(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for signal in forwarded() {
        wrapper.process.signal(signal)?;
        expect_plain(&mut stream, signal)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}
