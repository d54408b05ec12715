//! Descriptor messages whose numbers and descriptors do not fit: no child, and nothing that came is kept.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::Received;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{file, watched_pipes};
use crate::stage::holdings::Holdings;
use crate::stage::server::{Escalated, Stage};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.fds.invalid/more-numbers-than-descriptors", more_numbers_than_descriptors),
    case("server.fds.invalid/fewer-numbers-than-descriptors", fewer_numbers_than_descriptors),
    case("server.fds.invalid/the-same-number-twice", the_same_number_twice),
    case("server.fds.invalid/negative-number", negative_number),
    case("server.fds.invalid/beyond-32-bits", beyond_32_bits),
    case("server.fds.invalid/from-the-limit-up", from_the_limit_up),
    case("server.fds.invalid/more-than-sixteen", more_than_sixteen),
    case("server.fds.invalid/beside-running-children", beside_running_children),
    case("server.fds.invalid/again-and-again", again_and_again).within_seconds(60),
]);

/// What is refused: numbers as JSON, and how many descriptors come along.
type Mismatch<'a> = (&'a str, usize);

/// Asks for `program`, gets Escalate, and sends these numbers with these descriptors.
fn send_numbers(
    stage: &mut Stage,
    program: &Program,
    numbers: &str,
    descriptors: &[OwnedFd],
) -> Result<Requester, CaseError> {
    let request = stage.request(program.text(), &["never"]);
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let payload = format!("{{\"fds\":{numbers}}}");
    let sent: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    requester.frames.send(payload.as_bytes(), &sent)?;
    Ok(requester)
}

/// Demands that these are refused: the stream and all that came with the message are closed, no child starts.
fn expect_refused(stage: &mut Stage, program: &Program, (numbers, count): Mismatch<'_>) -> Verdict {
    let (watch, pipes) = watched_pipes(count)?;
    let mut requester = send_numbers(stage, program, numbers, &pipes)?;
    drop(pipes);
    let why = format!("fds {numbers} with {count} descriptors");
    requester.expect_no_success(&why)?;
    stage.shim.expect_no_decision()?;
    stage.sentinel()?;
    watch.expect_closed(&format!("the server, after {why},"), stage.patience())?;
    program.expect_not_started()
}

fn expect_each_refused(context: &Context, stage: &mut Stage, table: &[Mismatch<'_>]) -> Verdict {
    let program = Program::new(context, "never", [])?;
    for mismatch in table {
        expect_refused(stage, &program, *mismatch)?;
    }
    Ok(())
}

/// Numbers without a descriptor.
fn more_numbers_than_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let sixteen = json!((0..16).collect::<Vec<_>>()).to_string();
    let table = [
        ("[0]", 0),
        ("[0,1,2]", 0),
        ("[0,1,2]", 1),
        ("[0,1,2]", 2),
        ("[2,1]", 1),
        (&*sixteen, 15),
    ];
    expect_each_refused(context, &mut stage, &table)?;
    stage.finish()
}

/// Descriptors without a number.
fn fewer_numbers_than_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let table = [
        ("[]", 1),
        ("[]", 16),
        ("[0]", 2),
        ("[0,1]", 3),
        ("[0,1,2]", 4),
        ("[0,1,2]", 16),
    ];
    expect_each_refused(context, &mut stage, &table)?;
    stage.finish()
}

/// Two descriptors for one place.
fn the_same_number_twice(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let same = json!(vec![3; 16]).to_string();
    let table = [
        ("[0,0]", 2),
        ("[0,1,1]", 3),
        ("[0,1,2,0]", 4),
        ("[9,0,1,9]", 4),
        (&*same, 16),
    ];
    expect_each_refused(context, &mut stage, &table)?;
    stage.finish()
}

/// -1 is the result of a failed call, and AT_FDCWD is negative too.
fn negative_number(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let table = [
        ("[-1]", 1),
        ("[0,1,-1]", 3),
        ("[-1,0,1]", 3),
        ("[0,1,-100]", 3),
        ("[-2147483648,1,2]", 3),
        ("[0,1,2,-9223372036854775808]", 4),
    ];
    expect_each_refused(context, &mut stage, &table)?;
    stage.finish()
}

/// Numbers that would be valid if they were truncated to 32 or 64 bits.
fn beyond_32_bits(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let table = [
        ("[0,1,2147483648]", 3),
        ("[0,1,4294967295]", 3),
        ("[4294967296,1,2]", 3),
        ("[0,1,4294967298]", 3),
        ("[0,1,9223372036854775808]", 3),
        ("[18446744073709551616,1,2]", 3),
        ("[0,1,100000000000000000000000000000002]", 3),
    ];
    expect_each_refused(context, &mut stage, &table)?;
    stage.finish()
}

/// The limit of open files is one more than the highest number that a descriptor can have.
fn from_the_limit_up(context: &mut Context) -> Verdict {
    const LIMIT: u64 = 512;
    let mut stage = Stage::on(context, |launch| launch.limit(libc::RLIMIT_NOFILE, LIMIT))?.decide_by_hand();
    let table = [
        ("[512]", 1),
        ("[0,1,2,512]", 4),
        ("[0,1,2,513]", 4),
        ("[1048576,1,2]", 3),
        ("[0,1,2147483647]", 3),
    ];
    expect_each_refused(context, &mut stage, &table)?;
    stage.finish()
}

/// Of more than 16 descriptors the child has all, each at its number, or no child starts.
fn more_than_sixteen(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for count in [17, 64, 253] {
        let program = Program::new(context, &format!("program-{count}"), [])?;
        let files = (0..count)
            .map(|index| file(context, &format!("files-{count}/{index}"), "").map(OwnedFd::from))
            .collect::<Result<Vec<_>, _>>()?;
        let numbers = json!((0..count).collect::<Vec<_>>()).to_string();
        let mut requester = send_numbers(&mut stage, &program, &numbers, &files)?;
        match requester.frames.receive()? {
            Received::End { bytes: 0 } => {
                stage.sentinel()?;
                program.expect_not_started()?;
            }
            Received::Frame(frame) => {
                let exit_code = frame.json()?["exit_code"].as_i64();
                if exit_code.is_some_and(|code| code != 0) {
                    requester
                        .frames
                        .expect_end(&format!("{count} descriptors were refused"))?;
                    stage.sentinel()?;
                    program.expect_not_started()?;
                    continue;
                }
                expect::equal("exit_code", Some(0), exit_code)?;
                let report = program.only_start()?;
                for (number, file) in (0..).zip(&files) {
                    let metadata = std::fs::File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
                    expect::equal(
                        &format!("device and inode of descriptor {number} of {count} in the child"),
                        Some((metadata.dev(), metadata.ino())),
                        report.descriptor(number).map(|held| held.identity),
                    )?;
                }
            }
            other => {
                return Err(violation("a result, or the end of the stream", shown(&other)));
            }
        }
    }
    stage.finish()
}

/// A refused message concerns its own request only.
fn beside_running_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let running = ConnectedProgram::new(context, "running")?;
    let Escalated {
        mut requester,
        mut child,
    } = stage.start(&running)?;
    expect_each_refused(context, &mut stage, &[("[0,1,2]", 2), ("[0,0]", 2), ("[-1]", 1)])?;
    stage.expect_nothing_yet(&requester, "its child runs")?;
    child.send(&Order::Exit(31))?;
    requester.expect_exit_code(31)?;
    stage.finish()
}

/// Many refusals leave nothing behind.
fn again_and_again(context: &mut Context) -> Verdict {
    const TIMES: usize = 60;
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "never", [])?;
    let shell = [stage.session.probe.report.pid];
    expect_refused(&mut stage, &program, ("[0,1]", 3))?;
    let before = Holdings::at_rest(&stage.shim, &shell, context.patience());
    for index in 0..TIMES {
        let mismatch = [("[0,1]", 16), ("[3,3]", 2), ("[-1,0]", 2), ("[0,1]", 1)][index % 4];
        expect_refused(&mut stage, &program, mismatch)?;
    }
    let what = format!("{TIMES} refused descriptor messages");
    Holdings::expect_returned(&stage.shim, &shell, &before, &what, context.patience())?;
    stage.finish()
}
