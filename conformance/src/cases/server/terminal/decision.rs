//! Each request of a terminal is decided on by itself, however old the terminal is.

use std::collections::BTreeMap;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, on_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.decision/a-hundred-commands", a_hundred_commands).within_seconds(60),
    case("terminal.decision/equal-requests", equal_requests),
    case("terminal.decision/pending-at-once", pending_at_once),
    case("terminal.decision/across-what-a-host-does", across_what_a_host_does),
]);

/// The answer to command number N, in turns.
fn answer(number: usize) -> Answer {
    match number % 3 {
        0 => Answer::Run,
        1 => Answer::Deny(Some(format!("no {number}"))),
        _ => Answer::Escalate,
    }
}

/// Every decision at the first, the hundredth and each command between.
fn a_hundred_commands(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "escalated")?;
    let not_executed = ConnectedProgram::new(context, "run-or-denied")?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        for number in 0..=110 {
            let request = RequestMessage::new(not_executed.text(), &["command", &number.to_string()], "/");
            if number % 3 == 2 {
                let mut escalated = terminal.escalate(&host.shim, &program)?;
                escalated.child.send(&Order::Exit(number as i32))?;
                escalated.requester.expect_exit_code(number as i64)?;
                continue;
            }
            let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
            decision.answer(&answer(number))?;
            requester.expect_action(&match answer(number) {
                Answer::Deny(reason) => json!({"Deny": {"reason": reason}}),
                _ => json!("Run"),
            })?;
        }
        not_executed.expect_no_start()
    })?;
    host.finish()
}

/// Requests that are equal in everything are asked about one by one, and answered differently.
fn equal_requests(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let request = RequestMessage::new("/bin/sh", &["the same"], "/").variable("A", "1");
        for _ in 0..3 {
            let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
            decision.answer(&Answer::Run)?;
            requester.expect_action(&json!("Run"))?;
            let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
            decision.answer(&Answer::Deny(None))?;
            requester.expect_action(&json!({"Deny": {"reason": null}}))?;
        }
        Ok(())
    })?;
    host.finish()
}

/// Answers to requests that wait at the same time, of one terminal and of two, go where they belong.
fn pending_at_once(context: &mut Context) -> Verdict {
    const EACH: usize = 8;
    let mut host = Host::new(context)?;
    let mut terminals = On::BOTH
        .into_iter()
        .map(|on| host.open_shell(context, on))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pending = BTreeMap::new();
    for number in 0..2 * EACH {
        let request = RequestMessage::new("/bin/sh", &["pending", &number.to_string()], "/");
        pending.insert(
            (number * 7) % (2 * EACH + 1),
            (number, terminals[number % 2].ask(&host.shim, &request)?),
        );
    }
    for (number, (mut requester, decision)) in pending.into_values() {
        let reason = format!("no {number}");
        decision.answer(&Answer::Deny(Some(reason.clone())))?;
        requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
    }
    host.finish()
}

/// Reads, writes, a new size, a signal, and the end of a command change nothing.
fn across_what_a_host_does(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut terminal = host.open_shell(context, On::Tty)?;
    terminal.probe.must(&Order::Ignore(libc::SIGUSR1))?;
    let id = terminal.id.clone();
    for (method, params) in [
        ("terminal/read", json!({"terminal": id, "wait_ms": 10})),
        ("terminal/write", json!({"terminal": id, "data": "bHMK"})),
        (
            "terminal/resize",
            json!({"terminal": id, "rows": 5, "columns": 5}),
        ),
        (
            "terminal/signal",
            json!({"terminal": id, "signal": libc::SIGUSR1}),
        ),
        ("terminal/list", json!({})),
    ] {
        let request = RequestMessage::new("/bin/sh", &["around", method], "/");
        let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
        host.shim.call(method, params)?;
        decision.answer(&Answer::Deny(Some(method.to_owned())))?;
        requester.expect_action(&json!({"Deny": {"reason": method}}))?;
    }
    expect::that(
        host.shim.decision_within(std::time::Duration::ZERO)?.is_none(),
        "no further question",
        "one",
    )?;
    host.finish()
}
