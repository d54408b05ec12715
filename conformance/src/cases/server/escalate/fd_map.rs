//! The descriptors of an escalated child: each under the number that the wrapper gave it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::property;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::AsFdObject;
use crate::peer::program::{ConnectedProgram, Program};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::verdict::{CaseError, Verdict};

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
]);

/// The limit of open files under which these shims run, where high numbers are mapped.
const OPEN_FILES: u64 = 1024;

/// Distinct files, identified by inode.
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
    let (waiting_reader, waiting_writer) = pipe()?;
    let (socket, _other) = UnixStream::pair()?;
    let (waiting_socket, _waiting_other) = UnixStream::pair()?;
    socket.set_nonblocking(true)?;
    let streams: [(i32, &dyn AsFdObject); 5] = [
        (9, &writer),
        (10, &waiting_reader),
        (11, &waiting_writer),
        (12, &socket),
        (13, &waiting_socket),
    ];
    let before = streams
        .iter()
        .map(|(_, stream)| status_flags(*stream))
        .collect::<Result<Vec<_>, _>>()?;
    let mut placements: Vec<(i64, &dyn AsFdObject)> = vec![(1, &files.files[0])];
    placements.extend(
        streams
            .iter()
            .map(|(number, stream)| (i64::from(*number), *stream)),
    );
    let mut escalated = stage.escalate(&program, &placements)?;
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
    for ((number, stream), before) in streams.into_iter().zip(before) {
        let seen = escalated
            .child
            .report
            .descriptor(number)
            .map(|descriptor| descriptor.status_flags);
        for (what, flags) in [
            ("at its start", seen),
            ("afterwards", Some(status_flags(stream)?)),
        ] {
            let is_non_blocking = |flags: i32| flags & libc::O_NONBLOCK != 0;
            expect::equal(
                &format!("descriptor {number} is non-blocking {what}"),
                Some(is_non_blocking(before)),
                flags.map(is_non_blocking),
            )?;
            expect::equal(
                &format!("the status flags of descriptor {number} {what}"),
                Some(before),
                flags,
            )?;
        }
    }
    drop(reader);
    escalated.exit(0)?;
    stage.finish()
}

fn status_flags(file: &dyn AsFdObject) -> Result<i32, CaseError> {
    // SAFETY: F_GETFL takes no memory, and the number is of a descriptor that `file` holds open.
    let flags = unsafe { libc::fcntl(file.number(), libc::F_GETFL) };
    Ok(nix::errno::Errno::result(flags)?)
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
    // The program may flush either stream first, but nothing may be overwritten.
    expect::equal("bytes in the file", 11, text.len())?;
    stage.finish()
}

/// Files of every kind arrive as what they are: a directory, a pipe's ends, sockets, an event counter.
fn kinds(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let directory = File::open(context.work_directory())?;
    let (reader, writer) = pipe()?;
    let (stream, _other) = UnixStream::pair()?;
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
