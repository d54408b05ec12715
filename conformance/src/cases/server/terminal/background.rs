//! What outlives a terminal's own process is served as long as the terminal is there.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::ending::expect_not_served;
use crate::stage::processes::{Kin, fork};
use crate::stage::terminal::{Host, on_both};
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.background/requests-are-served", requests_are_served),
    case("terminal.background/escalated-children-live", escalated_children_live),
    case("terminal.background/until-the-terminal-is-closed", until_the_terminal_is_closed),
]);

/// After the end of the shell, and after that has been read, a job's requests are asked about and answered.
fn requests_are_served(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let _job = fork(&mut terminal.probe, &host.shell, Kin::OwnSession)?;
        terminal.probe.send(&Order::Exit(2))?;
        expect::equal(
            "end of the process",
            Some(Ended::Exited(2)),
            host.read_to_end(&terminal.id)?.ended,
        )?;
        for number in 0..3 {
            let request = RequestMessage::new("/bin/sh", &["job", &number.to_string()], "/");
            let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
            decision.answer(&Answer::Run)?;
            requester.expect_action(&json!("Run"))?;
        }
        Ok(())
    })?;
    host.finish()
}

/// An escalated child lives on when the shell ends.
fn escalated_children_live(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let mut escalated = terminal.escalate(&host.shim, &program)?;
        terminal.probe.send(&Order::Exit(0))?;
        host.read_to_end(&terminal.id)?;
        escalated.child.report_again()?;
        escalated.exit(8)
    })?;
    host.finish()
}

/// With the terminal the job, its requests and its escalated children end.
fn until_the_terminal_is_closed(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let program = ConnectedProgram::new(context, "child")?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let mut job = fork(&mut terminal.probe, &host.shell, Kin::Daemon)?;
        let mut escalated = terminal.escalate(&host.shim, &program)?;
        terminal.probe.send(&Order::Exit(0))?;
        host.read_to_end(&terminal.id)?;
        let request = RequestMessage::new("/bin/sh", &["pending"], "/");
        let (mut pending, _decision) = terminal.ask(&host.shim, &request)?;
        host.shim.close_terminal(&terminal.id)?;
        pending.frames.expect_end("its terminal was closed")?;
        escalated
            .child
            .expect_gone("an escalated child of a closed terminal")?;
        job.expect_gone("a job of a closed terminal")?;
        expect_not_served(&mut terminal.socket, host.patience)
    })?;
    host.finish()
}
