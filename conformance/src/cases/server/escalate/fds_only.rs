//! The descriptors of an escalated child: none beside those that its wrapper mapped.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::frame;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{Placements, null};
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.fds-only/exact-list", exact_list),
    case("server.escalate.fds-only/nothing-mapped", nothing_mapped),
    case("server.escalate.fds-only/only-standard-output", only_standard_output),
    case("server.escalate.fds-only/only-a-high-number", only_a_high_number),
    case("server.escalate.fds-only/among-sixteen-others", among_sixteen_others).within_seconds(90),
    case("server.escalate.fds-only/beside-half-messages", beside_half_messages),
    case("server.escalate.fds-only/beside-other-sessions", beside_other_sessions),
]);

/// Runs `program` with `placements` and demands that it had just the numbers of these.
fn expect_only(stage: &mut Stage, program: &Program, placements: &Placements<'_>) -> Verdict {
    let request = stage.request_for(program.text());
    let result = stage.result_of(&request, placements)?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    let mut numbers: Vec<i32> = placements
        .iter()
        .map(|(number, _)| i32::try_from(*number).unwrap_or(i32::MAX))
        .collect();
    numbers.sort_unstable();
    let report = program.only_start()?;
    expect_numbers(&numbers, &report)
}

fn expect_numbers(numbers: &[i32], report: &Report) -> Verdict {
    expect::that(
        report.descriptor_numbers() == numbers,
        format_args!("the child holds the descriptors {numbers:?} and no other"),
        format_args!("it holds {}", in_words(report)),
    )
}

fn in_words(report: &Report) -> String {
    report
        .descriptors
        .iter()
        .map(|descriptor| {
            format!(
                "{} → {}",
                descriptor.number,
                String::from_utf8_lossy(&descriptor.target)
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// With 0, 1 and 2 mapped the child has 0, 1 and 2.
fn exact_list(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let null = null()?;
    expect_only(&mut stage, &program, &[(0, &null), (1, &null), (2, &null)])?;
    stage.finish()
}

/// With nothing mapped the child has nothing, and lives.
fn nothing_mapped(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let escalated = stage.escalate(&program, &[])?;
    expect_numbers(&[], &escalated.child.report)?;
    escalated.exit(9)?;
    stage.finish()
}

/// With 1 mapped alone, 0 and 2 are closed.
fn only_standard_output(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let null = null()?;
    expect_only(&mut stage, &program, &[(1, &null)])?;
    stage.finish()
}

/// With one high number mapped, the standard streams are closed.
fn only_a_high_number(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let null = null()?;
    expect_only(&mut stage, &program, &[(200, &null)])?;
    stage.finish()
}

/// Sixteen children that start at the same time, with pipes: none holds another's descriptors. Twenty rounds.
fn among_sixteen_others(context: &mut Context) -> Verdict {
    const ROUNDS: usize = 20;
    const CHILDREN: usize = 16;
    let mut stage = Stage::new(context)?;
    for round in 0..ROUNDS {
        let program = Program::new(context, &format!("program-{round}"), [])?;
        let mut started: Vec<(Requester, [File; 4])> = Vec::new();
        for child in 0..CHILDREN {
            let request = stage
                .request_for(program.text())
                .member("argv", json!([program.text(), child.to_string()]));
            let requester = stage.granted(&request)?;
            let (reader, writer) = pipe()?;
            let (other_reader, other_writer) = pipe()?;
            started.push((requester, [reader, writer, other_reader, other_writer]));
        }
        for (requester, [reader, writer, other_reader, other_writer]) in &mut started {
            requester.send_descriptors(&[(0, reader), (1, writer), (7, other_reader), (8, other_writer)])?;
        }
        for (requester, _) in &mut started {
            requester.expect_exit_code(0)?;
        }
        let reports = program.starts()?;
        expect::equal("starts of the program", CHILDREN, reports.len())?;
        for report in &reports {
            expect_numbers(&[0, 1, 7, 8], report)?;
            let child = report
                .argument_text()
                .get(1)
                .and_then(|text| text.parse::<usize>().ok());
            let pipes = child.and_then(|child| started.get(child)).map(|(_, pipes)| pipes);
            expect::that(
                pipes.is_some(),
                "each child has its own arguments",
                format_args!("{:?}", report.argument_text()),
            )?;
            for (number, pipe) in [0, 1, 7, 8].into_iter().zip(pipes.into_iter().flatten()) {
                let metadata = pipe.metadata()?;
                let identity = report.descriptor(number).map(|descriptor| descriptor.identity);
                expect::equal(
                    &format!("device and inode of descriptor {number} of child {child:?}"),
                    Some((metadata.dev(), metadata.ino())),
                    identity,
                )?;
            }
        }
    }
    stage.finish()
}

/// While descriptors of other requests have arrived with half a message, a child gets none of them.
fn beside_half_messages(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let waiting = Program::new(context, "waiting", [])?;
    let null = null()?;
    let mut half = Vec::new();
    for _ in 0..4 {
        let request = stage.request_for(waiting.text());
        let mut requester = stage.granted(&request)?;
        let (reader, writer) = pipe()?;
        let bytes = frame(b"{\"fds\":[0,1]}");
        requester
            .frames
            .send_bytes(&bytes[..9], &[reader.as_raw_fd(), writer.as_raw_fd()])?;
        requester.frames.drained()?;
        half.push((requester, bytes, reader, writer));
    }
    expect_only(&mut stage, &program, &[(0, &null), (1, &null), (2, &null)])?;
    for (requester, bytes, ..) in &mut half {
        requester.frames.send_bytes(&bytes[9..], &[])?;
        requester.expect_exit_code(0)?;
    }
    for report in waiting.starts()? {
        expect_numbers(&[0, 1], &report)?;
    }
    stage.finish()
}

/// With other sessions, idle streams, half requests and pending decisions around, the list is just as exact.
fn beside_other_sessions(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let null = null()?;
    let mut others = Vec::new();
    for name in ["second", "third"] {
        others.push(stage.shim.probe_session(context, name)?);
    }
    let lasting = ConnectedProgram::new(context, "lasting")?;
    let beside = stage.escalate(&lasting, &[(0, &null), (40, &null)])?;
    let mut streams = Vec::new();
    for session in &mut others {
        let idle = session.socket.open()?;
        let mut half = session.socket.open()?;
        half.frames.send_bytes(&[40, 0, 0, 0, b'{'], &[])?;
        half.frames.drained()?;
        streams.extend([idle, half]);
    }
    stage.shim.decide_by_hand();
    let pending_program = Program::new(context, "pending", [])?;
    let mut pending = stage.session.socket.open()?;
    pending.request(&stage.request_for(pending_program.text()))?;
    let decision = stage.shim.next_decision()?;
    stage.shim.decide_by(|_| crate::peer::harness::Answer::Escalate);
    let program = Program::new(context, "program", [])?;
    expect_only(
        &mut stage,
        &program,
        &[(0, &null), (1, &null), (2, &null), (3, &null)],
    )?;
    decision.answer(&crate::peer::harness::Answer::Run)?;
    pending.expect_action(&json!("Run"))?;
    beside.exit(0)?;
    stage.finish()
}
