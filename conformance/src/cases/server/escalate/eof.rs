//! While an escalated child runs, no other process keeps its descriptors open.

use std::fs::File;
use std::os::unix::net::UnixStream;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::read_whole;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::processes::expect_alive;
use crate::stage::server::{Escalated, Stage};
use crate::system::clock::Moment;
use crate::system::holders::still_open;
use crate::system::launch::pipe;
use crate::system::poll::broken_until;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.eof/child-closes-stdout", child_closes_stdout),
    case("server.escalate.eof/child-closes-stdin", child_closes_stdin),
    case("server.escalate.eof/child-closes-a-high-number", child_closes_a_high_number),
    case("server.escalate.eof/child-closes-stderr", child_closes_stderr),
    case("server.escalate.eof/socket", socket),
    case("server.escalate.eof/many", many),
    case("server.escalate.eof/one-mapped-twice", one_mapped_twice),
]);

/// Demands the end of file on `reader`, of which the child held the only writing end, while the child lives.
fn expect_end_while_alive(context: &Context, reader: File, escalated: &mut Escalated, what: &str) -> Verdict {
    let handle = escalated.child.process()?;
    let what = format!("the end of file on the pipe when the child has closed {what}");
    let bytes = read_whole(reader, what, context.patience())?;
    expect::equal("bytes on the pipe before its end", b"said".to_vec(), bytes)?;
    expect_alive(&handle, "the child")
}

/// Lets a child write to a pipe under `number` and close it.
fn child_closes(context: &Context, number: i32) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let (reader, writer) = pipe()?;
    let null = null()?;
    let mut escalated = {
        let mut placements: Vec<(i64, &dyn crate::peer::fake_wrapper::AsFdObject)> =
            vec![(0, &null), (1, &null), (2, &null)];
        placements.retain(|(taken, _)| *taken != i64::from(number));
        placements.push((number.into(), &writer));
        stage.escalate(&program, &placements)?
    };
    drop(writer);
    escalated.child.must(&Order::Write(number, b"said".to_vec()))?;
    escalated.child.must(&Order::Close(number))?;
    expect_end_while_alive(context, reader, &mut escalated, &format!("descriptor {number}"))?;
    escalated.exit(3)?;
    stage.finish()
}

/// A child that closes its standard output ends the pipe.
fn child_closes_stdout(context: &mut Context) -> Verdict {
    child_closes(context, 1)
}

/// A child that closes its standard error ends the pipe.
fn child_closes_stderr(context: &mut Context) -> Verdict {
    child_closes(context, 2)
}

/// The same for a number that process substitution uses.
fn child_closes_a_high_number(context: &mut Context) -> Verdict {
    child_closes(context, 63)
}

/// A child that closes its standard input lets the writer see that there is no reader any more.
fn child_closes_stdin(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let (reader, writer) = pipe()?;
    let mut escalated = stage.escalate(&program, &[(0, &reader)])?;
    drop(reader);
    let handle = escalated.child.process()?;
    escalated.child.must(&Order::Close(0))?;
    expect::that(
        broken_until(&writer, Moment::now() + context.patience())?,
        "the pipe has no reader when the child has closed its standard input",
        still_open(&writer, context.patience()),
    )?;
    expect_alive(&handle, "the child")?;
    escalated.exit(0)?;
    stage.finish()
}

/// A socket in place of a pipe comes to its end of file as well.
fn socket(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut escalated = stage.escalate(&program, &[(1, &theirs)])?;
    drop(theirs);
    escalated.child.must(&Order::Write(1, b"said".to_vec()))?;
    escalated.child.must(&Order::Close(1))?;
    let ours = File::from(std::os::fd::OwnedFd::from(ours));
    expect_end_while_alive(context, ours, &mut escalated, "its end of the socket")?;
    escalated.exit(0)?;
    stage.finish()
}

/// A pipe that the child holds under two numbers ends with the second close.
fn one_mapped_twice(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let (reader, writer) = pipe()?;
    let mut escalated = stage.escalate(&program, &[(1, &writer), (2, &writer)])?;
    drop(writer);
    escalated.child.must(&Order::Close(1))?;
    escalated.child.must(&Order::Write(2, b"said".to_vec()))?;
    escalated.child.must(&Order::Close(2))?;
    expect_end_while_alive(context, reader, &mut escalated, "both numbers")?;
    escalated.exit(0)?;
    stage.finish()
}

/// Eight children that run at once: each pipe ends when its own child closes it, in any order.
fn many(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut children = Vec::new();
    for _ in 0..8 {
        let (reader, writer) = pipe()?;
        let escalated = stage.escalate(&program, &[(1, &writer)])?;
        drop(writer);
        children.push((escalated, reader));
    }
    // From both ends towards the middle, so that neither the order of the starts nor its reverse is favoured.
    let mut ended = Vec::new();
    while !children.is_empty() {
        let index = if ended.len() % 2 == 0 {
            0
        } else {
            children.len() - 1
        };
        let (mut escalated, reader) = children.remove(index);
        escalated.child.must(&Order::Write(1, b"said".to_vec()))?;
        escalated.child.must(&Order::Close(1))?;
        expect_end_while_alive(context, reader, &mut escalated, "its standard output")?;
        ended.push(escalated);
    }
    for escalated in ended {
        escalated.exit(0)?;
    }
    stage.finish()
}
