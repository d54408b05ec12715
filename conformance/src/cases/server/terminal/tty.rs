//! A pseudo-terminal is the terminal of its process.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Opening;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, window};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.tty/controlling-terminal", controlling_terminal),
    case("terminal.tty/standard-streams", standard_streams),
    case("terminal.tty/size-from-the-start", size_from_the_start),
    case("terminal.tty/dev-tty", dev_tty),
    case("terminal.tty/none-on-pipes", none_on_pipes),
]);

/// The process's group is the foreground group of its controlling terminal, in a session that isn't the host's.
fn controlling_terminal(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let session = nix::unistd::getsid(Some(host.shim.process.pid))?.as_raw();
    for _ in 0..5 {
        let (_, probe) = host.open_probe(On::Tty)?;
        let report = &probe.report;
        expect::equal(
            "foreground group of /dev/tty",
            Some(report.group),
            report.foreground_group,
        )?;
        expect::that(
            report.session != session,
            "the process isn't in the host's session",
            format_args!("both are in {session}"),
        )?;
    }
    host.finish()
}

/// All three are one pseudo-terminal, and two terminals have two of them.
fn standard_streams(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut identities = Vec::new();
    let mut probes = Vec::new();
    for _ in 0..2 {
        let (_, probe) = host.open_probe(On::Tty)?;
        let streams: Vec<_> = (0..=2)
            .map(|number| probe.report.descriptor(number).map(|found| found.identity))
            .collect();
        let [Some(first), second, third] = streams[..] else {
            return Err(violation("descriptor 0 of the process", "none"));
        };
        expect::equal(
            "identities of 1 and 2",
            (Some(first), Some(first)),
            (second, third),
        )?;
        expect::that(
            !identities.contains(&first),
            "a pseudo-terminal of its own",
            "another terminal's",
        )?;
        identities.push(first);
        probes.push(probe);
    }
    host.finish()
}

/// Sizes, the smallest too, are there when the process starts.
fn size_from_the_start(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    for size in [(24, 80), (1, 1), (50, 132), (999, 7)] {
        let program = host.shell.text().to_owned();
        let session = host.next_session();
        let opening = Opening::new(&session, &[&program], &host.directory).on_tty(size.0, size.1);
        host.shim.open_terminal(&opening)?;
        let mut probe = host.shell.accept("the process of a terminal")?;
        let terminal = probe.take_descriptor(0)?;
        expect::equal("rows and columns", size, window(&terminal)?)?;
        probe.send(&Order::Exit(0))?;
    }
    // By a program that looks once, at its start.
    let opening = Opening::new("stty", &["/bin/sh", "-c", "stty size"], &host.directory).on_tty(31, 77);
    let id = host.shim.open_terminal(&opening)?.id;
    let whole = host.read_to_end(&id)?;
    expect::equal(
        "what stty says",
        "31 77\r\n",
        &*String::from_utf8_lossy(&whole.data),
    )?;
    host.finish()
}

/// What is written to /dev/tty appears in the terminal's output.
fn dev_tty(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let id = host.open_direct(On::Tty, &["/bin/sh", "-c", "printf written >/dev/tty"])?;
    let whole = host.read_to_end(&id)?;
    expect::equal("output", "written", &*String::from_utf8_lossy(&whole.data))?;
    host.finish()
}

/// On pipes none of the streams is a terminal.
fn none_on_pipes(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let script = "for n in 0 1 2; do test -t $n && printf \"$n \"; done; printf none";
    let id = host.open_direct(On::Pipes, &["/bin/sh", "-c", script])?;
    let whole = host.read_to_end(&id)?;
    expect::equal(
        "streams that are terminals",
        "none",
        &*String::from_utf8_lossy(&whole.data),
    )?;
    host.finish()
}
