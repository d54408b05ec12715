//! The descriptors of an escalated child: each under its number, and none beside them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::property;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, Requester};
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::frame;
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{Placements, null};
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::verdict::{CaseError, Verdict};

/// The limit of open files under which these shims run, where high numbers are mapped.
const OPEN_FILES: u64 = 1024;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.fd-map/permutations", permutations),
    case("server.escalate.fd-map/overlap-sweep", overlap_sweep).within_seconds(60),
    case("server.escalate.fd-map/identities", identities).within_seconds(60),
    case("server.escalate.fd-map/high-and-gaps", high_and_gaps),
    case("server.escalate.fd-map/over-internal-numbers", over_internal_numbers).within_seconds(60),
    case("server.escalate.fd-map/same-description", same_description),
    case("server.escalate.fd-map/one-file-twice", one_file_twice),
    case("server.escalate.fd-map/kinds", kinds),
    case("server.escalate.fd-map/random", random).within_seconds(90),
    case("server.escalate.fds-only/exact-list", exact_list),
    case("server.escalate.fds-only/nothing-mapped", nothing_mapped),
    case("server.escalate.fds-only/only-standard-output", only_standard_output),
    case("server.escalate.fds-only/only-a-high-number", only_a_high_number),
    case("server.escalate.fds-only/among-sixteen-others", among_sixteen_others).within_seconds(90),
    case("server.escalate.fds-only/beside-half-messages", beside_half_messages),
    case("server.escalate.fds-only/beside-other-sessions", beside_other_sessions),
]);

/// Distinct files, to be told apart by inode.
struct Files {
    files: Vec<File>,
}

impl Files {
    fn new(context: &Context, count: usize) -> Result<Files, CaseError> {
        let files = (0..count)
            .map(|index| {
                let path = context.path(&format!("file-{}-{index}", context.next_number()));
                Ok(File::options()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(path)?)
            })
            .collect::<Result<_, CaseError>>()?;
        Ok(Files { files })
    }

    /// File `index` under `numbers[index]`.
    fn at<'a>(&'a self, numbers: &[i64]) -> Vec<(i64, &'a dyn AsFdObject)> {
        numbers
            .iter()
            .copied()
            .zip(self.files.iter().map(|file| file as &dyn AsFdObject))
            .collect()
    }

    /// Demands that the program was started once, with just these files under just these numbers.
    fn expect(&self, numbers: &[i64], report: &Report) -> Verdict {
        let mut wanted = numbers
            .iter()
            .copied()
            .zip(&self.files)
            .map(|(number, file)| {
                let metadata = file.metadata()?;
                Ok((number, (metadata.dev(), metadata.ino())))
            })
            .collect::<Result<Vec<_>, CaseError>>()?;
        wanted.sort_unstable();
        let seen: Vec<_> = report
            .descriptors
            .iter()
            .map(|descriptor| (i64::from(descriptor.number), descriptor.identity))
            .collect();
        expect::equal(
            &format!("the child's descriptors for fds {numbers:?}, number and (device, inode)"),
            wanted,
            seen,
        )
    }
}

/// Maps as many files to `numbers`, and demands that the child has just these.
fn expect_map(context: &Context, stage: &mut Stage, numbers: &[i64]) -> Verdict {
    let files = Files::new(context, numbers.len())?;
    let program = Program::new(
        context,
        &format!("program-{}", context.next_number()),
        [Act::Exit(5)],
    )?;
    let request = stage.request_for(program.text());
    let result = stage.result_of(&request, &files.at(numbers))?;
    expect::equal("exit_code", Some(5), result["exit_code"].as_i64())?;
    files.expect(numbers, &program.only_start()?)
}

/// 0, 1 and 2 in all six orders.
fn permutations(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for numbers in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        expect_map(context, &mut stage, &numbers)?;
    }
    stage.finish()
}

/// Four neighbouring numbers in a cycle, at every place where a server may have received them.
fn overlap_sweep(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for first in 3..=40 {
        expect_map(context, &mut stage, &[first + 1, first + 2, first + 3, first])?;
        expect_map(context, &mut stage, &[first + 3, first + 2, first + 1, first])?;
    }
    stage.finish()
}

/// One descriptor at every low number: one of them is the number at which the server has received it.
fn identities(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for number in 0..=60 {
        expect_map(context, &mut stage, &[number])?;
    }
    stage.finish()
}

/// Numbers far apart, up to the last below the limit of open files; those between are closed.
fn high_and_gaps(context: &mut Context) -> Verdict {
    let mut stage = Stage::on(context, |launch| launch.limit(libc::RLIMIT_NOFILE, OPEN_FILES))?;
    let last = i64::try_from(OPEN_FILES).unwrap_or(i64::MAX) - 1;
    expect_map(context, &mut stage, &[0, 5, 100, 255])?;
    expect_map(context, &mut stage, &[last])?;
    expect_map(context, &mut stage, &[last, 0, last - 1, 2, 255, 256, 63])?;
    let highest: Vec<i64> = (0..16).map(|offset| last - offset).collect();
    expect_map(context, &mut stage, &highest)?;
    let halves: Vec<i64> = (0..16)
        .map(|index| if index % 2 == 0 { index } else { last - index })
        .collect();
    expect_map(context, &mut stage, &halves)?;
    stage.finish()
}

/// All numbers of a window at once, so that whatever the server keeps there for itself (a pipe that reports
/// exec errors, say) is in the way: with a program that starts, and with one that doesn't.
fn over_internal_numbers(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let missing = context.path("bin/missing").to_string_lossy().into_owned();
    for first in (3..64).step_by(13) {
        let numbers: Vec<i64> = (first..first + 16).collect();
        expect_map(context, &mut stage, &numbers)?;
        let files = Files::new(context, numbers.len())?;
        let request = stage.request_for(&missing);
        let result = stage.result_of(&request, &files.at(&numbers))?;
        expect::equal(
            "exit_code of a missing program",
            Some(127),
            result["exit_code"].as_i64(),
        )?;
        for mut file in files.files {
            let mut text = String::new();
            file.rewind()?;
            file.read_to_string(&mut text)?;
            expect::equal("what was written to a mapped file", "", text.as_str())?;
        }
    }
    stage.finish()
}

/// What the child has is not only the same file but the same open file description: offset and flags.
fn same_description(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "program")?;
    let mut files = Files::new(context, 1)?;
    let (reader, writer) = pipe()?;
    set_status_flags(&writer, libc::O_NONBLOCK)?;
    let before = status_flags(&writer)?;
    let mut escalated = stage.escalate(&program, &[(1, &files.files[0]), (9, &writer)])?;
    escalated.child.must(&Order::Write(1, b"12345".to_vec()))?;
    expect::equal(
        "the offset of the file after the child wrote 5 bytes",
        5,
        files.files[0].stream_position()?,
    )?;
    files.files[0].seek(SeekFrom::Start(100))?;
    escalated.child.must(&Order::Write(1, b"6".to_vec()))?;
    expect::equal(
        "the offset after moving it to 100 and one more byte",
        101,
        files.files[0].stream_position()?,
    )?;
    let seen = escalated
        .child
        .report
        .descriptor(9)
        .map(|descriptor| descriptor.status_flags);
    expect::equal("the status flags of descriptor 9", Some(before), seen)?;
    expect::equal("the status flags afterwards", before, status_flags(&writer)?)?;
    drop(reader);
    escalated.exit(0)?;
    stage.finish()
}

fn status_flags(file: &File) -> Result<i32, CaseError> {
    Ok(nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETFL)?)
}

fn set_status_flags(file: &File, flags: i32) -> Verdict {
    let flags = nix::fcntl::OFlag::from_bits_retain(status_flags(file)? | flags);
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// One descriptor sent twice, for two numbers (`2>&1`).
fn one_file_twice(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(
        context,
        "program",
        [
            Act::Output(b"out ".to_vec()),
            Act::Error(b"err ".to_vec()),
            Act::Output(b"out".to_vec()),
        ],
    )?;
    let mut files = Files::new(context, 1)?;
    let request = stage.request_for(program.text());
    let file = &files.files[0];
    let result = stage.result_of(&request, &[(1, file), (2, file), (30, file)])?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    expect::equal(
        "the child's descriptors",
        vec![1, 2, 30],
        program.only_start()?.descriptor_numbers(),
    )?;
    let mut text = String::new();
    files.files[0].rewind()?;
    files.files[0].read_to_string(&mut text)?;
    // Which stream flushes first is the program's affair; that nothing is overwritten is not.
    expect::equal("bytes in the file", 11, text.len())?;
    stage.finish()
}

/// Files of every kind keep being what they are: a directory, a pipe's ends, sockets, an event counter.
fn kinds(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let directory = File::open(context.work_directory())?;
    let (reader, writer) = pipe()?;
    let (stream, _other) = std::os::unix::net::UnixStream::pair()?;
    let datagram = std::os::unix::net::UnixDatagram::unbound()?;
    let counter = nix::sys::eventfd::EventFd::new()?;
    let path_only: OwnedFd = File::from(nix::fcntl::open(
        &context.work_directory(),
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?)
    .into();
    let placements: [(i64, &dyn AsFdObject); 7] = [
        (3, &directory),
        (4, &reader),
        (0, &writer),
        (17, &stream),
        (18, &datagram),
        (2, &counter),
        (11, &path_only),
    ];
    let program = Program::new(context, "program", [])?;
    let request = stage.request_for(program.text());
    let result = stage.result_of(&request, &placements)?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    let report = program.only_start()?;
    expect::equal(
        "the child's descriptors",
        vec![0, 2, 3, 4, 11, 17, 18],
        report.descriptor_numbers(),
    )?;
    for (number, descriptor) in placements {
        let wanted = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.number()))?;
        let seen = i32::try_from(number)
            .ok()
            .and_then(|number| report.descriptor(number))
            .map(|descriptor| String::from_utf8_lossy(&descriptor.target).into_owned());
        expect::equal(
            &format!("descriptor {number} of the child"),
            Some(wanted.to_string_lossy().into_owned()),
            seen,
        )?;
    }
    stage.finish()
}

/// Property: any 1 to 16 distinct numbers, in any order.
fn random(context: &mut Context) -> Verdict {
    use proptest::prelude::*;
    let stage = std::cell::RefCell::new(Stage::on(context, |launch| {
        launch.limit(libc::RLIMIT_NOFILE, OPEN_FILES)
    })?);
    let number = prop_oneof![
        3 => 0_i64..20,
        2 => 0_i64..80,
        1 => 0_i64..i64::try_from(OPEN_FILES).unwrap_or(i64::MAX),
    ];
    let numbers = prop::collection::btree_set(number, 1..=16)
        .prop_map(|set: BTreeSet<i64>| set.into_iter().collect::<Vec<_>>())
        .prop_shuffle();
    property::holds(context, &numbers, |numbers| {
        expect_map(context, &mut stage.borrow_mut(), &numbers)
    })?;
    stage.into_inner().finish()
}

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

/// Sixteen children that start at the same time, with pipes: none holds what is another's. Twenty rounds.
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

/// With other sessions, idle streams, half requests and pending decisions around, the list is as exact.
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
