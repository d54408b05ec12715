//! After many terminals the host holds what it held before.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::spec::requirements::Role;
use crate::stage::holdings::Holdings;
use crate::stage::terminal::{Host, on_both};
use crate::transcript::Transcript;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.leak/opened-and-closed", opened_and_closed).within_seconds(120),
]);

/// Wrapped and direct, ended before and not, with a request answered and one pending.
fn opened_and_closed(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 40;
    let loud = std::mem::replace(&mut context.transcript, Transcript::new(|_| {}));
    let host = Host::new(context);
    context.transcript = loud;
    let mut host = host?;
    let mut before = None;
    for round in 0..=ROUNDS {
        on_both(|on| {
            let mut wrapped = host.open_shell(context, on)?;
            let request = RequestMessage::new("/bin/sh", &["answered"], "/");
            let (mut requester, decision) = wrapped.ask(&host.shim, &request)?;
            decision.answer(&Answer::Run)?;
            requester.expect_action(&json!("Run"))?;
            let (_pending, _decision) = wrapped.ask(&host.shim, &request)?;
            let ended = host.open_direct(on, &["/bin/sh", "-c", "echo x; exit 1"])?;
            let (living, _probe) = host.open_probe(on)?;
            host.read_to_end(&ended)?;
            for id in [&living, &ended, &wrapped.id] {
                host.shim.close_terminal(id)?;
            }
            Ok(())
        })?;
        if round == 0 {
            before = Some(Holdings::at_rest(&host.shim, &[], host.patience));
        }
    }
    if let Some(before) = before {
        let what = format!("{ROUNDS} rounds of six terminals");
        Holdings::expect_returned(&host.shim, &[], &before, &what, host.patience)?;
    }
    host.finish()
}
