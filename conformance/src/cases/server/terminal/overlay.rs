//! The overlay and the socket of a wrapped terminal.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, WRAPPER, on_both, socket_number};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.overlay/merged-over-the-environment", merged_over_the_environment),
    case("terminal.overlay/a-datagram-socket", a_datagram_socket),
    case("terminal.overlay/a-handshake-is-served", a_handshake_is_served),
    case("terminal.overlay/sessions-of-their-own", sessions_of_their_own),
]);

/// The shell has the given environment, over it the overlay, and nothing else; each name once.
fn merged_over_the_environment(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let shell = host.shell.text().to_owned();
        let base = json!({"EXEC_WRAPPER": "/of/the/base", "CODEX_ESCALATE_SOCKET": "99", "KEPT": "1"});
        let opening = host.wrapped(on, &[&shell, "-c", "script"]).environment(base);
        host.shim.open_terminal(&opening)?;
        let probe = host.shell.accept("the shell of a terminal")?;
        let number = socket_number(&probe)?;
        let mut entries: Vec<String> = probe
            .report
            .environment
            .iter()
            .map(|entry| String::from_utf8_lossy(entry).into_owned())
            .filter(|entry| *entry != format!("BASH_EXEC_WRAPPER={WRAPPER}"))
            .collect();
        entries.sort();
        let expected = vec![
            format!("CODEX_ESCALATE_SOCKET={number}"),
            format!("EXEC_WRAPPER={WRAPPER}"),
            "KEPT=1".to_owned(),
        ];
        expect::equal("environment of the shell, sorted", expected, entries)
    })?;
    host.finish()
}

/// Under the overlay's number, from the first instruction on, is an AF_UNIX datagram socket.
fn a_datagram_socket(context: &mut Context) -> Verdict {
    use nix::sys::socket::{
        AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
    };
    let mut host = Host::new(context)?;
    on_both(|on| {
        let terminal = host.open_shell(context, on)?;
        let number = socket_number(&terminal.probe)?;
        expect::that(
            terminal.probe.report.descriptor(number).is_some(),
            format_args!("the shell has descriptor {number} at its start"),
            format_args!("it has {:?}", terminal.probe.report.descriptor_numbers()),
        )?;
        let socket = terminal.socket.descriptor();
        let kind = getsockopt(socket, sockopt::SockType).ok();
        expect::equal("type of the escalation socket", Some(SockType::Datagram), kind)?;
        let family = getsockname::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(socket))
            .ok()
            .and_then(|address| address.family());
        expect::equal(
            "family of the escalation socket",
            Some(AddressFamily::Unix),
            family,
        )
    })?;
    host.finish()
}

/// A request of the shell is asked about under the terminal's session, and answered.
fn a_handshake_is_served(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let mut terminal = host.open_shell(context, on)?;
        let request = RequestMessage::new("/bin/sh", &["asked"], "/");
        let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
        decision.answer(&Answer::Run)?;
        requester.expect_action(&json!("Run"))
    })?;
    host.finish()
}

/// Each of several terminals has its own socket, and its requests are its own session's.
fn sessions_of_their_own(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let mut terminals = (0..3)
            .map(|_| host.open_shell(context, on))
            .collect::<Result<Vec<_>, _>>()?;
        for number in [2, 0, 1] {
            let request = RequestMessage::new("/bin/sh", &["asked", &number.to_string()], "/");
            let (mut requester, decision) = terminals[number].ask(&host.shim, &request)?;
            decision.answer(&Answer::Deny(Some(format!("no {number}"))))?;
            requester.expect_action(&json!({"Deny": {"reason": format!("no {number}")}}))?;
        }
        Ok(())
    })?;
    host.finish()
}
