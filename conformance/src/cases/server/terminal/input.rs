//! What is written to a terminal reaches its process.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Probe;
use crate::probe::remote::{Answer, Order};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, numbered, on_both};
use crate::verdict::{CaseError, Verdict, harness};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.input/every-byte", every_byte),
    case("terminal.input/much-at-once", much_at_once),
    case("terminal.input/line-by-line", line_by_line),
    case("terminal.input/unread", unread),
    case("terminal.input/echoed-by-a-pseudo-terminal", echoed),
]);

/// Reads so many bytes of the probe's standard input.
fn input(probe: &mut Probe, length: usize) -> Result<Vec<u8>, CaseError> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        match probe.order(&Order::Read(0, length - bytes.len()))? {
            Answer::Bytes(read) if read.is_empty() => break,
            Answer::Bytes(read) => bytes.extend(read),
            other => return Err(harness(format_args!("a probe answered {other:?} to Read"))),
        }
    }
    Ok(bytes)
}

/// All 256 values, unchanged; on a pseudo-terminal those that its line discipline leaves alone.
fn every_byte(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Pipes)?;
    let bytes: Vec<u8> = (0..=255).collect();
    host.shim.write_terminal(&id, &bytes)?;
    expect::equal("standard input of the process", bytes, input(&mut probe, 256)?)?;
    host.shim.close_terminal(&id)?;
    let (id, mut probe) = host.open_probe(On::Tty)?;
    let mut line: Vec<u8> = (0x20..0x7f).chain(0xa0..=0xff).collect();
    line.push(b'\n');
    host.shim.write_terminal(&id, &line)?;
    let length = line.len();
    expect::equal("line that the process reads", line, input(&mut probe, length)?)?;
    host.finish()
}

/// More than a pipe holds, in one write, arrives whole while the process reads.
fn much_at_once(context: &mut Context) -> Verdict {
    const LENGTH: usize = 300 << 10;
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Pipes)?;
    let bytes = numbered(LENGTH);
    let call = host.shim.send_write(&id, &bytes)?;
    let read = input(&mut probe, LENGTH)?;
    expect::that(
        read == bytes,
        format_args!("the {LENGTH} bytes that were written"),
        format_args!("{} bytes, which differ", read.len()),
    )?;
    host.shim
        .answer_to(call, "terminal/write")?
        .map_err(|error| harness(format_args!("terminal/write: {}", shown(&error))))?;
    host.finish()
}

/// Each write comes by itself, with nothing added, in order.
fn line_by_line(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        for number in 0..20 {
            let line = format!("line {number}\n");
            host.shim.write_terminal(&id, line.as_bytes())?;
            let read = input(&mut probe, line.len())?;
            expect::equal(
                "standard input",
                line,
                String::from_utf8_lossy(&read).into_owned(),
            )?;
        }
        Ok(())
    })?;
    host.finish()
}

/// A write to a process that doesn't read delays nothing else, and goes with its terminal.
fn unread(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Pipes)?;
    let call = host.shim.send_write(&id, &numbered(300 << 10))?;
    let (other, mut another) = host.open_probe(On::Pipes)?;
    host.shim.write_terminal(&other, b"served")?;
    expect::equal(
        "input of another process",
        b"served".to_vec(),
        input(&mut another, 6)?,
    )?;
    probe.must(&Order::Write(1, b"said".to_vec()))?;
    let seen = host.read_until(&id, "said")?;
    expect::equal("output of the process that doesn't read", b"said".to_vec(), seen)?;
    host.shim.close_terminal(&id)?;
    // Answered, whichever way.
    let _ = host.shim.answer_to(call, "terminal/write")?;
    probe.expect_gone("the process of a closed terminal")?;
    host.finish()
}

/// What is typed appears in the output, as the line discipline has it.
fn echoed(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, _probe) = host.open_probe(On::Tty)?;
    host.shim.write_terminal(&id, b"typed\n")?;
    let seen = host.read_until(&id, "\n")?;
    expect::equal("output", "typed\r\n", &*String::from_utf8_lossy(&seen))?;
    let more = host.shim.read_terminal(&id, Duration::from_millis(100), None)?;
    expect::equal("more output", Vec::<u8>::new(), more.data)?;
    host.finish()
}
