//! How the end of a terminal's process is told, and when.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::ending::expect_reaped;
use crate::stage::processes::{Kin, fork};
use crate::stage::terminal::{Host, numbered, on_both};
use crate::system::clock::Moment;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.end/exit-codes", exit_codes),
    case("terminal.end/signals", signals),
    case("terminal.end/after-all-output", after_all_output),
    case("terminal.end/told-again", told_again),
    case("terminal.end/output-held-open", output_held_open),
    case("terminal.end/reaped", reaped),
]);

/// Exit codes from 0 to 255.
fn exit_codes(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        for code in [0, 1, 2, 42, 126, 127, 128, 129, 143, 255] {
            let id = host.open_direct(on, &["/bin/sh", "-c", &format!("exit {code}")])?;
            expect::equal(
                "end of the process",
                Some(Ended::Exited(code)),
                host.read_to_end(&id)?.ended,
            )?;
            host.shim.close_terminal(&id)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// Death by a signal is told as that.
fn signals(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        for signal in [
            libc::SIGTERM,
            libc::SIGKILL,
            libc::SIGINT,
            libc::SIGPIPE,
            libc::SIGHUP,
            libc::SIGUSR1,
        ] {
            let (id, mut probe) = host.open_probe(on)?;
            probe.send(&Order::Die(signal))?;
            expect::equal(
                "end of the process",
                Some(Ended::Killed(signal)),
                host.read_to_end(&id)?.ended,
            )?;
            host.shim.close_terminal(&id)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// The last words come before the end, however fast both are, and however small the reads.
fn after_all_output(context: &mut Context) -> Verdict {
    let written = numbered(50_000);
    let program = Program::new(context, "program", [Act::Output(written.clone()), Act::Exit(9)])?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        for limit in [None, Some(7_000)] {
            for _ in 0..10 {
                let id = host.open_direct(on, &[program.text()])?;
                let whole = host.read_to_end_by(&id, limit)?;
                expect::equal("end of the process", Some(Ended::Exited(9)), whole.ended)?;
                whole.expect_all_of(&written)?;
                host.shim.close_terminal(&id)?;
            }
        }
        Ok(())
    })?;
    host.finish()
}

/// Each later read tells the end again.
fn told_again(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let id = host.open_direct(on, &["/bin/sh", "-c", "exit 11"])?;
        host.read_to_end(&id)?;
        for _ in 0..3 {
            let reading = host.shim.read_terminal(&id, Duration::ZERO, None)?;
            expect::equal("end of the process", Some(Ended::Exited(11)), reading.ended)?;
            expect::equal("more output", Vec::<u8>::new(), reading.data)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// A process in the background that has the output open doesn't delay the end, and what it writes can be read.
fn output_held_open(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let mut holder = fork(&mut probe, &host.shell, Kin::OwnGroup)?;
        holder.must(&Order::Ignore(libc::SIGTTOU))?;
        probe.must(&Order::Write(1, b"before".to_vec()))?;
        probe.send(&Order::Exit(4))?;
        let whole = host.read_to_end(&id)?;
        expect::equal("end of the process", Some(Ended::Exited(4)), whole.ended)?;
        expect::equal(
            "output before the end",
            "before",
            &*String::from_utf8_lossy(&whole.data),
        )?;
        host.shim.close_terminal(&id)?;
        holder.expect_gone("a process of a closed terminal")
    })?;
    host.finish()
}

/// A process that has ended is reaped, while the terminal is there.
fn reaped(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let pid = probe.report.pid;
        probe.send(&Order::Exit(0))?;
        let deadline = Moment::now() + host.patience;
        host.read_to_end(&id)?;
        expect_reaped(pid, deadline.left())
    })?;
    host.finish()
}
