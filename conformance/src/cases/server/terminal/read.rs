//! When a read returns: at a pause of the output, at the end, and at its time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, on_both};
use crate::system::clock::Moment;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.read/returns-at-a-pause", returns_at_a_pause),
    case("terminal.read/returns-at-the-end", returns_at_the_end),
    case("terminal.read/waits-its-time", waits_its_time),
    case("terminal.read/without-waiting", without_waiting),
    case("terminal.read/output-without-a-pause", output_without_a_pause),
    case("terminal.read/others-are-served-meanwhile", others_are_served_meanwhile),
]);

/// A waiting time that no case waits for.
const LONG: Duration = Duration::from_secs(600);

/// A read that waits returns soon after the output has come, long before its time.
fn returns_at_a_pause(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        for word in ["one", "two", "three"] {
            let call = host.shim.send_read(&id, LONG, None)?;
            probe.must(&Order::Write(1, word.as_bytes().to_vec()))?;
            let reading = host.shim.reading(call, host.patience)?;
            expect::equal("output", word, &*String::from_utf8_lossy(&reading.data))?;
            expect::equal("end of a process that runs", None, reading.ended)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// A read that waits returns when the process ends, with or without output.
fn returns_at_the_end(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let call = host.shim.send_read(&id, LONG, None)?;
        probe.send(&Order::Exit(7))?;
        let reading = host.shim.reading(call, host.patience)?;
        expect::equal("end of the process", Some(Ended::Exited(7)), reading.ended)?;
        let again = host.shim.send_read(&id, LONG, None)?;
        host.shim.reading(again, host.patience).map(drop)
    })?;
    host.finish()
}

/// Without output a read returns after its time and not before.
fn waits_its_time(context: &mut Context) -> Verdict {
    const TIME: Duration = Duration::from_millis(700);
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, _probe) = host.open_probe(on)?;
        let started = Instant::now();
        let reading = host.shim.read_terminal(&id, TIME, None)?;
        let took = started.elapsed();
        expect::equal("output of a silent process", Vec::<u8>::new(), reading.data)?;
        expect::that(
            took >= TIME,
            format_args!("a read without output waits for {TIME:?}"),
            format_args!("it returned after {took:?}"),
        )
    })?;
    host.finish()
}

/// A waiting time of 0 gives what is there, or nothing.
fn without_waiting(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let reading = host.shim.read_terminal(&id, Duration::ZERO, None)?;
        expect::equal("output of a silent process", Vec::<u8>::new(), reading.data)?;
        probe.must(&Order::Write(1, b"there".to_vec()))?;
        let mut seen = Vec::new();
        let deadline = Moment::now() + host.patience;
        while seen.len() < 5 && !deadline.is_over() {
            seen.extend(host.shim.read_terminal(&id, Duration::ZERO, None)?.data);
        }
        expect::equal("output", "there", &*String::from_utf8_lossy(&seen))
    })?;
    host.finish()
}

/// Output that never pauses is given at the read's time.
fn output_without_a_pause(context: &mut Context) -> Verdict {
    const TIME: Duration = Duration::from_millis(500);
    let mut host = Host::new(context)?;
    on_both(|on| {
        let id = host.open_direct(on, &["/bin/sh", "-c", "while :; do echo x; done"])?;
        for _ in 0..2 {
            let reading = host.shim.read_terminal(&id, TIME, None)?;
            expect::that(!reading.data.is_empty(), "output", "none")?;
            expect::equal("end of a process that runs", None, reading.ended)?;
        }
        host.shim.close_terminal(&id)
    })?;
    host.finish()
}

/// While a read waits, the same terminal can be written to, and other terminals and requests are served.
fn others_are_served_meanwhile(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Pipes)?;
    let (other, mut another) = host.open_probe(On::Pipes)?;
    let waiting = host.shim.send_read(&id, LONG, None)?;
    host.shim.write_terminal(&id, b"x")?;
    host.shim.call(
        "terminal/signal",
        json!({"terminal": id, "signal": libc::SIGCONT}),
    )?;
    another.must(&Order::Write(1, b"other".to_vec()))?;
    host.read_until(&other, "other")?;
    let unrelated = ConnectedProgram::new(context, "unrelated")?;
    let params = json!({"argv": [unrelated.text()], "cwd": host.directory, "env": {}});
    if context.has_capability("unrelated") {
        host.shim.call("process/spawn", params)?;
        unrelated.accept("an unrelated process")?.send(&Order::Exit(0))?;
    }
    probe.must(&Order::Write(1, b"at last".to_vec()))?;
    let reading = host.shim.reading(waiting, host.patience)?;
    expect::equal("output", "at last", &*String::from_utf8_lossy(&reading.data))?;
    host.finish()
}
