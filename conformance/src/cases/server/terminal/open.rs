//! What a terminal's process is started with.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::processes::expect_no_zombies;
use crate::stage::terminal::{Host, On, on_both};
use crate::system::process::Ended;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.open/arguments", arguments),
    case("terminal.open/environment-and-directory", environment_and_directory),
    case("terminal.open/signals-and-group", signals_and_group),
    case("terminal.open/pipes-or-pseudo-terminal", pipes_or_pseudo_terminal),
    case("terminal.open/missing-program", missing_program),
    case("terminal.open/ids", ids),
]);

/// The argument vector arrives as it was given.
fn arguments(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let program = host.shell.text().to_owned();
        let words = [
            &*program,
            "",
            " two words ",
            "-c",
            "ü\n*",
            "\"$HOME\"",
            "  last  ",
        ];
        host.open_direct(on, &words)?;
        let mut probe = host.shell.accept("the process of a terminal")?;
        let expected: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        expect::equal("argv of the process", expected, probe.report.argument_text())?;
        probe.send(&Order::Exit(0))
    })?;
    host.finish()
}

/// The process has the given environment and directory, and nothing of the host's.
fn environment_and_directory(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let metadata = std::fs::metadata(&host.directory)?;
    on_both(|on| {
        let program = host.shell.text().to_owned();
        for environment in [
            json!({}),
            json!({"ONE": "1", "EMPTY": "", "TERM": "of the caller"}),
        ] {
            let opening = host.direct(on, &[&program]).environment(environment.clone());
            host.shim.open_terminal(&opening)?;
            let mut probe = host.shell.accept("the process of a terminal")?;
            let mut entries: Vec<String> = probe
                .report
                .environment
                .iter()
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect();
            entries.sort();
            let mut expected: Vec<String> = environment
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                .collect();
            expected.sort();
            expect::equal("environment of the process, sorted", expected, entries)?;
            expect::equal(
                "device and inode of its working directory",
                (metadata.dev(), metadata.ino()),
                probe.report.directory_identity,
            )?;
            probe.send(&Order::Exit(0))?;
        }
        Ok(())
    })?;
    host.finish()
}

/// No signal is ignored or blocked, and the group isn't the host's.
fn signals_and_group(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let group = nix::unistd::getpgid(Some(host.shim.process.pid))?.as_raw();
    on_both(|on| {
        let (_, mut probe) = host.open_probe(on)?;
        expect::equal("ignored signals, as a mask", 0, probe.report.ignored)?;
        expect::equal("blocked signals, as a mask", 0, probe.report.blocked)?;
        expect::that(
            probe.report.group != group,
            "the process isn't in the host's process group",
            format_args!("both are in {group}"),
        )?;
        probe.send(&Order::Exit(0))
    })?;
    host.finish()
}

/// Standard input, output and error are what was asked for.
fn pipes_or_pseudo_terminal(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (_, mut probe) = host.open_probe(on)?;
        for number in 0..=2 {
            let stream = probe.take_descriptor(number)?;
            let is_a_terminal = nix::unistd::isatty(&stream).unwrap_or(false);
            expect::equal(
                &format!("whether descriptor {number} is a terminal"),
                on == On::Tty,
                is_a_terminal,
            )?;
        }
        probe.send(&Order::Exit(0))
    })?;
    host.finish()
}

/// A program that is missing or isn't executable is an error, or an end with 127 or 126; the next terminal opens.
fn missing_program(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let text = context.write_file("not-executable", b"x", 0o644)?;
    on_both(|on| {
        for (program, status) in [
            ("/nonexistent/program", 127),
            (text.to_str().unwrap_or_default(), 126),
        ] {
            let opening = host.direct(on, &[program]);
            let id = host.shim.send("terminal/open", opening.params())?;
            if let Ok(opened) = host.shim.answer_to(id, "terminal/open")? {
                let whole = host.read_to_end(&opened["terminal"])?;
                expect::equal("end of the process", Some(Ended::Exited(status)), whole.ended)?;
                host.shim.close_terminal(&opened["terminal"])?;
            }
            host.expect_listed(&[])?;
        }
        let id = host.open_direct(on, &["/bin/sh", "-c", "exit 3"])?;
        expect::equal(
            "end of the process",
            Some(Ended::Exited(3)),
            host.read_to_end(&id)?.ended,
        )?;
        host.shim.close_terminal(&id)
    })?;
    expect_no_zombies(host.shim.process.pid.as_raw(), host.patience)?;
    host.finish()
}

/// Each terminal has its own id, which isn't used again when the terminal is gone.
fn ids(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut ids = Vec::new();
    for round in 0..12 {
        let id = host.open_direct(On::Pipes, &["/bin/sh", "-c", "exit 0"])?;
        if ids.contains(&id) {
            return Err(violation(
                "an id that no other terminal has had",
                format_args!("{id} after {ids:?}"),
            ));
        }
        if round % 2 == 0 {
            host.shim.close_terminal(&id)?;
        }
        ids.push(id);
    }
    host.finish()
}
