//! The size of a pseudo-terminal changes.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, window};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.resize/size-and-signal", size_and_signal),
    case("terminal.resize/on-pipes", on_pipes),
]);

/// Each change is seen, and told by SIGWINCH.
fn size_and_signal(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Tty)?;
    let terminal = probe.take_descriptor(0)?;
    probe.must(&Order::Watch(vec![libc::SIGWINCH]))?;
    for (rows, columns) in [(25, 81), (1, 1), (300, 40), (24, 80)] {
        host.shim.call(
            "terminal/resize",
            json!({"terminal": id, "rows": rows, "columns": columns}),
        )?;
        expect::equal("signal", libc::SIGWINCH, probe.next_signal("SIGWINCH")?)?;
        expect::equal("rows and columns", (rows, columns), window(&terminal)?)?;
    }
    host.finish()
}

/// On pipes it is an error, and the terminal goes on.
fn on_pipes(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Pipes)?;
    let call = host.shim.send(
        "terminal/resize",
        json!({"terminal": id, "rows": 24, "columns": 80}),
    )?;
    if let Ok(result) = host.shim.answer_to(call, "terminal/resize")? {
        return Err(violation("an error of terminal/resize on pipes", result));
    }
    probe.must(&Order::Write(1, b"goes on".to_vec()))?;
    host.read_until(&id, "goes on")?;
    host.finish()
}
