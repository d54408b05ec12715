//! Which terminal gives way when there is no room for one more.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.prune/room-for-sixty-four", room_for_sixty_four),
    case("terminal.prune/least-recently-used", least_recently_used),
    case("terminal.prune/ended-before-living", ended_before_living),
    case("terminal.prune/last-eight-are-safe", last_eight_are_safe),
    case("terminal.prune/every-use-counts", every_use_counts),
    case("terminal.prune/goes-as-if-closed", goes_as_if_closed),
]);

/// How many terminals there may be.
const ROOM: usize = 64;

fn open_living(host: &mut Host, count: usize) -> Result<Vec<Value>, CaseError> {
    (0..count)
        .map(|_| host.open_direct(On::Pipes, &["/bin/cat"]))
        .collect()
}

/// Opens one that has ended, and has read that.
fn open_ended(host: &mut Host) -> Result<Value, CaseError> {
    let id = host.open_direct(On::Pipes, &["/bin/sh", "-c", "exit 0"])?;
    host.read_to_end(&id)?;
    Ok(id)
}

/// Opens one more, and demands that of `there` just these are gone.
fn expect_pruned(host: &mut Host, there: &mut Vec<Value>, pruned: &[Value]) -> Verdict {
    there.push(host.open_direct(On::Pipes, &["/bin/cat"])?);
    there.retain(|id| !pruned.contains(id));
    host.expect_listed(there)
}

/// Sixty-four are there at once, and one more costs one.
fn room_for_sixty_four(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut there = open_living(&mut host, ROOM)?;
    host.expect_listed(&there)?;
    for _ in 0..3 {
        let oldest = there[0].clone();
        expect_pruned(&mut host, &mut there, &[oldest])?;
    }
    // Room that was made isn't needed twice.
    let closed = there.remove(5);
    host.shim.close_terminal(&closed)?;
    expect_pruned(&mut host, &mut there, &[])?;
    host.finish()
}

/// The order of use counts, not that of opening.
fn least_recently_used(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut there = open_living(&mut host, ROOM)?;
    for id in [there[0].clone(), there[2].clone()] {
        host.shim.write_terminal(&id, b"x")?;
    }
    for expected in [there[1].clone(), there[3].clone(), there[4].clone()] {
        expect_pruned(&mut host, &mut there, &[expected])?;
    }
    host.finish()
}

/// Those that have ended go first, least recently used first, even if they were used later than living ones.
fn ended_before_living(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut there = open_living(&mut host, 20)?;
    let ended = [open_ended(&mut host)?, open_ended(&mut host)?];
    there.extend(ended.iter().cloned());
    there.extend(open_living(&mut host, ROOM - 22)?);
    // The first of the two is used again.
    host.shim.read_terminal(&ended[0], Duration::ZERO, None)?;
    let more = there[30..46].to_vec();
    for id in &more {
        host.shim.read_terminal(id, Duration::ZERO, None)?;
    }
    let oldest = there[0].clone();
    for expected in [ended[1].clone(), ended[0].clone(), oldest] {
        expect_pruned(&mut host, &mut there, &[expected])?;
    }
    host.finish()
}

/// One of the eight that were used last stays, although it has ended and no other one has.
fn last_eight_are_safe(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut there = open_living(&mut host, ROOM - 8)?;
    for _ in 0..8 {
        there.push(open_ended(&mut host)?);
    }
    let oldest = there[0].clone();
    expect_pruned(&mut host, &mut there, &[oldest])?;
    // By that opening the first of the eight has become the ninth.
    let ninth = there[ROOM - 9].clone();
    expect_pruned(&mut host, &mut there, &[ninth])?;
    host.finish()
}

/// Reading, writing, a signal and a new size are uses; a look at the list is none.
fn every_use_counts(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let on_tty = host.open_direct(On::Tty, &["/bin/cat"])?;
    let mut there = vec![on_tty.clone()];
    there.extend(open_living(&mut host, ROOM - 1)?);
    host.shim.read_terminal(&there[1], Duration::ZERO, None)?;
    host.shim.write_terminal(&there[2], b"x")?;
    host.shim.call(
        "terminal/signal",
        json!({"terminal": there[3], "signal": libc::SIGCONT}),
    )?;
    host.shim.call(
        "terminal/resize",
        json!({"terminal": on_tty, "rows": 10, "columns": 10}),
    )?;
    host.shim.list_terminals()?;
    let expected = there[4].clone();
    expect_pruned(&mut host, &mut there, &[expected])?;
    host.finish()
}

/// What was pruned is gone: its process, and its id; the new one works.
fn goes_as_if_closed(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let (id, mut probe) = host.open_probe(On::Tty)?;
    let waiting = host.shim.send_read(&id, Duration::from_secs(600), None)?;
    let mut there = vec![id.clone()];
    there.extend(open_living(&mut host, ROOM - 1)?);
    // Used after the read that waits, which may have been taken later than it was sent.
    for id in &there[1..] {
        host.shim.read_terminal(id, Duration::ZERO, None)?;
    }
    let (new, mut newest) = host.open_probe(On::Tty)?;
    there.push(new.clone());
    there.remove(0);
    host.expect_listed(&there)?;
    probe.expect_gone("the process of a pruned terminal")?;
    host.expect_unknown(&id)?;
    let _ = host.shim.answer_to(waiting, "terminal/read")?;
    newest.must(&Order::Write(1, b"works".to_vec()))?;
    let seen = host.read_until(&new, "works")?;
    expect::equal(
        "output of the new terminal",
        "works",
        &*String::from_utf8_lossy(&seen),
    )?;
    host.finish()
}
