//! Signals that are sent to a terminal, and characters that signal.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, expect_alive, fork};
use crate::stage::signals::stopped_within;
use crate::stage::terminal::{Host, On, on_both};
use crate::system::process::Ended;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.signal/every-signal", every_signal),
    case("terminal.signal/whole-group", whole_group),
    case("terminal.signal/foreground-group", foreground_group),
    case("terminal.signal/typed-characters", typed_characters),
    case("terminal.signal/kills", kills),
    case("terminal.signal/no-signal", no_signal),
    case("terminal.signal/after-the-end", after_the_end),
]);

fn send(host: &mut Host, terminal: &serde_json::Value, signal: i64) -> Verdict {
    host.shim
        .call("terminal/signal", json!({"terminal": terminal, "signal": signal}))
        .map(drop)
}

/// All but SIGKILL and SIGSTOP reach the process as what they are, real-time signals included.
fn every_signal(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let signals: Vec<i32> = (1..=64)
        .filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCONT, 32, 33].contains(signal))
        .collect();
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        probe.must(&Order::Watch(signals.clone()))?;
        for signal in &signals {
            send(&mut host, &id, i64::from(*signal))?;
            expect::equal("signal", *signal, probe.next_signal(&format!("signal {signal}"))?)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// A signal reaches each process of the group, and no process of another terminal.
fn whole_group(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let (_, mut other) = host.open_probe(on)?;
        let mut forked = fork(&mut probe, &host.shell, Kin::Child)?;
        for watching in [&mut probe, &mut forked, &mut other] {
            watching.must(&Order::Watch(vec![libc::SIGUSR1, libc::SIGUSR2]))?;
        }
        send(&mut host, &id, libc::SIGUSR1.into())?;
        expect::equal("signal", libc::SIGUSR1, probe.next_signal("SIGUSR1")?)?;
        expect::equal("signal", libc::SIGUSR1, forked.next_signal("SIGUSR1")?)?;
        // What reached it before this would come before this.
        other.must(&Order::Kill(other.report.pid, libc::SIGUSR2))?;
        expect::equal(
            "first signal of another terminal",
            libc::SIGUSR2,
            other.next_signal("SIGUSR2")?,
        )
    })?;
    host.finish()
}

/// On a pseudo-terminal it is the group in the foreground, whichever that is.
fn foreground_group(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Tty)?;
    let mut job = fork(&mut probe, &host.shell, Kin::OwnGroup)?;
    for watching in [&mut probe, &mut job] {
        watching.must(&Order::Watch(vec![libc::SIGUSR1, libc::SIGUSR2]))?;
    }
    probe.must(&Order::Foreground(job.report.pid))?;
    send(&mut host, &id, libc::SIGUSR1.into())?;
    expect::equal("signal of the job", libc::SIGUSR1, job.next_signal("SIGUSR1")?)?;
    probe.must(&Order::Kill(probe.report.pid, libc::SIGUSR2))?;
    expect::equal(
        "first signal of the shell",
        libc::SIGUSR2,
        probe.next_signal("SIGUSR2")?,
    )?;
    host.finish()
}

/// Ctrl-C, Ctrl-\ and Ctrl-Z are typed.
fn typed_characters(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    for (character, signal) in [(0x03, libc::SIGINT), (0x1c, libc::SIGQUIT)] {
        let (id, mut probe) = host.open_probe(On::Tty)?;
        probe.must(&Order::Watch(vec![signal]))?;
        host.shim.write_terminal(&id, &[character])?;
        expect::equal(
            "signal",
            signal,
            probe.next_signal("the signal of the character")?,
        )?;
    }
    let (id, _probe) = host.open_probe(On::Tty)?;
    host.shim.write_terminal(&id, &[0x03])?;
    expect::equal(
        "end of the process",
        Some(Ended::Killed(libc::SIGINT)),
        host.read_to_end(&id)?.ended,
    )?;
    // The group of the terminal's process has no parent in the terminal's session, and such a group isn't stopped by the
    // terminal: a job is.
    let (id, mut probe) = host.open_probe(On::Tty)?;
    let job = fork(&mut probe, &host.shell, Kin::OwnGroup)?;
    probe.must(&Order::Foreground(job.report.pid))?;
    host.shim.write_terminal(&id, &[0x1a])?;
    expect::that(
        stopped_within(job.report.pid, host.patience),
        "Ctrl-Z stops the job in the foreground",
        crate::system::process::describe(nix::unistd::Pid::from_raw(job.report.pid)),
    )?;
    host.finish()
}

/// SIGKILL ends the process, and SIGSTOP and SIGCONT stop and continue it.
fn kills(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        send(&mut host, &id, libc::SIGSTOP.into())?;
        expect::that(
            stopped_within(probe.report.pid, host.patience),
            "SIGSTOP stops the process",
            "it runs",
        )?;
        send(&mut host, &id, libc::SIGCONT.into())?;
        probe.must(&Order::Report)?;
        send(&mut host, &id, libc::SIGKILL.into())?;
        expect::equal(
            "end of the process",
            Some(Ended::Killed(libc::SIGKILL)),
            host.read_to_end(&id)?.ended,
        )
    })?;
    host.finish()
}

/// Numbers that aren't signals are errors, and the process goes on.
fn no_signal(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        for number in [0, -1, 65, 128, 1 << 20] {
            let call = host
                .shim
                .send("terminal/signal", json!({"terminal": id, "signal": number}))?;
            if let Ok(result) = host.shim.answer_to(call, "terminal/signal")? {
                return Err(violation(
                    format_args!("an error of terminal/signal for {number}"),
                    result,
                ));
            }
        }
        probe.must(&Order::Report)
    })?;
    host.finish()
}

/// To a terminal that has ended nothing is sent, not even to what it left in the background.
fn after_the_end(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let sentinel = ConnectedProgram::new(context, "sentinel")?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let left: Probe = fork(&mut probe, &host.shell, Kin::OwnSession)?;
        probe.send(&Order::Exit(0))?;
        host.read_to_end(&id)?;
        let call = host.shim.send(
            "terminal/signal",
            json!({"terminal": id, "signal": libc::SIGKILL}),
        )?;
        // Done without effect, or an error.
        let _ = host.shim.answer_to(call, "terminal/signal")?;
        host.open_direct(on, &[sentinel.text()])?;
        sentinel
            .accept("the process of a later terminal")?
            .send(&Order::Exit(0))?;
        expect_alive(&left.process()?, "what an ended terminal left in the background")
    })?;
    host.finish()
}
