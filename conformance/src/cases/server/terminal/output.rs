//! What a terminal's process writes can be read: all of it, in order, once; and of very much its beginning and its end.

use nix::unistd::Pid;
use serde_json::Value;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, numbered, on_both};
use crate::system::process::{self, Ended, ProcessHandle};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.output/every-byte", every_byte),
    case("terminal.output/cut-characters", cut_characters),
    case("terminal.output/by-limited-reads", by_limited_reads),
    case("terminal.output/both-streams", both_streams),
    case("terminal.output/each-byte-once", each_byte_once),
    case("terminal.output.limit/a-mebibyte-whole", a_mebibyte_whole),
    case("terminal.output.limit/beginning-and-end", beginning_and_end),
    case("terminal.output.limit/by-limited-reads", beginning_and_end_by_limited_reads),
    case("terminal.output.limit/never-read", never_read),
    case("terminal.output.limit/again-after-a-gap", again_after_a_gap),
]);

/// More than any host need keep.
const MUCH: usize = 3 << 20;

/// What one must keep at least.
const MEBIBYTE: usize = 1 << 20;

/// Every value of a byte, in every neighbourhood; a pseudo-terminal puts a return before a newline.
fn every_byte(context: &mut Context) -> Verdict {
    let written: Vec<u8> = (0..=255)
        .chain((0..=255).rev())
        .chain([0, 0, 255, 255, 0xc3])
        .collect();
    let program = Program::new(context, "program", [Act::Output(written.clone())])?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        let id = host.open_direct(on, &[program.text()])?;
        let whole = host.read_to_end(&id)?;
        let mut expected = written.clone();
        if on == On::Tty {
            expected = expected
                .into_iter()
                .flat_map(|byte| {
                    if byte == b'\n' {
                        vec![b'\r', b'\n']
                    } else {
                        vec![byte]
                    }
                })
                .collect();
        }
        whole.expect_all_of(&expected)
    })?;
    host.finish()
}

/// A character whose bytes come one by one, each in a read of its own.
fn cut_characters(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        let mut seen = Vec::new();
        for byte in "ü😀".bytes() {
            probe.must(&Order::Write(1, vec![byte]))?;
            seen.extend(host.shim.read_terminal(&id, host.patience, None)?.data);
        }
        expect::equal("bytes of all reads", "ü😀".as_bytes().to_vec(), seen)
    })?;
    host.finish()
}

/// A read gives no more than its limit, and the next one goes on from there.
fn by_limited_reads(context: &mut Context) -> Verdict {
    let written = numbered(40_000);
    let program = Program::new(context, "program", [Act::Output(written.clone())])?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        let id = host.open_direct(on, &[program.text()])?;
        host.read_to_end_by(&id, Some(999))?.expect_all_of(&written)
    })?;
    host.finish()
}

/// Standard output and standard error come as one output; what is written after the other one was read comes after it.
fn both_streams(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        for (stream, word) in [(1, "one"), (2, "two"), (1, "three"), (2, "four")] {
            probe.must(&Order::Write(stream, word.as_bytes().to_vec()))?;
            let seen = host.read_until(&id, word)?;
            expect::equal("output", word, &*String::from_utf8_lossy(&seen))?;
        }
        Ok(())
    })?;
    host.finish()
}

/// What has been read doesn't come again.
fn each_byte_once(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (id, mut probe) = host.open_probe(on)?;
        probe.must(&Order::Write(1, b"first".to_vec()))?;
        host.read_until(&id, "first")?;
        probe.must(&Order::Write(1, b"second".to_vec()))?;
        let seen = host.read_until(&id, "second")?;
        expect::equal(
            "output since the read before",
            "second",
            &*String::from_utf8_lossy(&seen),
        )
    })?;
    host.finish()
}

/// A mebibyte that isn't read before the process has ended is there whole.
fn a_mebibyte_whole(context: &mut Context) -> Verdict {
    let written = numbered(MEBIBYTE);
    let program = Program::new(context, "program", [Act::Output(written.clone()), Act::Exit(5)])?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        let id = open_unread(&mut host, on, &program)?;
        let whole = host.read_to_end(&id)?;
        expect::equal("end of the process", Some(Ended::Exited(5)), whole.ended)?;
        whole.expect_all_of(&written)
    })?;
    host.finish()
}

/// Opens a terminal and waits until its process, which starts once, has ended without being read.
fn open_unread(host: &mut Host, on: On, program: &Program) -> Result<Value, CaseError> {
    let id = host.open_direct(on, &[program.text()])?;
    let mut reports = Vec::new();
    let started = process::eventually(host.patience, || {
        reports = program.starts().unwrap_or_default();
        !reports.is_empty()
    });
    expect::that(started, "the program of a terminal starts", "it doesn't")?;
    for report in reports {
        if let Some(handle) = ProcessHandle::open(Pid::from_raw(report.pid))? {
            handle.expect_end("a process whose output isn't read", host.patience)?;
        }
    }
    program.forget_starts()?;
    Ok(id)
}

/// Writes much without a reader, and demands its beginning and its end.
fn much(context: &mut Context, limit: Option<usize>) -> Verdict {
    let written = numbered(MUCH);
    let program = Program::new(context, "program", [Act::Output(written.clone())])?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        let id = open_unread(&mut host, on, &program)?;
        let whole = host.read_to_end_by(&id, limit)?;
        whole.expect_parts_of(&written)?;
        let Some((place, _)) = whole.gaps.first().copied() else {
            // A host that keeps more.
            return Ok(());
        };
        expect::equal("gaps in one output", 1, whole.gaps.len())?;
        let kept = whole.data.len();
        expect::that(
            kept >= MEBIBYTE && place >= kept / 4 && kept - place >= kept / 4,
            "at least a mebibyte is kept, a quarter of it or more from the beginning and from the end",
            format_args!("{place} bytes of the beginning, {} of the end", kept - place),
        )
    })?;
    host.finish()
}

/// Three times as much as need be kept.
fn beginning_and_end(context: &mut Context) -> Verdict {
    much(context, None)
}

/// The same where reads are small: the gap comes at its place.
fn beginning_and_end_by_limited_reads(context: &mut Context) -> Verdict {
    much(context, Some(100_000))
}

/// A process never waits for a reader, and neither do others.
fn never_read(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let (_, mut busy) = host.open_probe(on)?;
        let (other, mut probe) = host.open_probe(on)?;
        let piece = numbered(1 << 18);
        for _ in 0..8 {
            busy.must(&Order::Write(1, piece.clone()))?;
        }
        probe.must(&Order::Write(1, b"meanwhile".to_vec()))?;
        host.read_until(&other, "meanwhile").map(drop)
    })?;
    host.finish()
}

/// After a gap has been read, a mebibyte is kept whole again.
fn again_after_a_gap(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Pipes)?;
    let piece = numbered(1 << 18);
    for _ in 0..10 {
        probe.must(&Order::Write(1, piece.clone()))?;
    }
    probe.must(&Order::Write(1, b"<end>".to_vec()))?;
    host.read_until(&id, "<end>")?;
    for _ in 0..4 {
        probe.must(&Order::Write(1, piece.clone()))?;
    }
    probe.send(&Order::Exit(0))?;
    host.read_to_end(&id)?.expect_all_of(&piece.repeat(4))?;
    host.finish()
}
