//! wrapper.run.fds: the command has the descriptors that the wrapper was started with.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use proptest::collection::btree_map;
use proptest::prelude::*;

use crate::case::context::Context;
use crate::case::{Table, case, expect, property};
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::remote::Order;
use crate::probe::report::{DescriptorReport, Report};
use crate::shown::Shown;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{run_directly, run_under, same_description};
use crate::system::launch::{Launch, pipe};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.fds/none-added", descriptors_none_added),
    case("wrapper.run.fds/others-kept", descriptors_kept),
    case("wrapper.run.fds/flags-unchanged", flags_unchanged),
    case("wrapper.run.fds/any-set", any_descriptors).within_seconds(120),
    case("wrapper.run.fds/flags-while-it-waits", flags_while_it_waits),
    case("wrapper.run.fds/same-descriptions", same_descriptions),
    case("wrapper.run.fds/socket-under-its-number", socket_under_its_number),
    case("wrapper.run.fds/any-flags", any_flags).within_seconds(120),
]);

/// The command has 0, 1, 2 and the escalation socket: nothing that the wrapper opened.
fn descriptors_none_added(context: &mut Context) -> Verdict {
    let report = run_under(context, |launch| launch)?;
    let number = ESCALATION_DESCRIPTOR;
    expect::equal(
        "the command's descriptors",
        vec![0, 1, 2, number],
        report.descriptor_numbers(),
    )
}

/// Other descriptors are kept, with what is behind them and their offsets.
fn descriptors_kept(context: &mut Context) -> Verdict {
    let path = context.write_file("data", b"0123456789", 0o644)?;
    let mut file = File::open(path)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4))?;
    let (reader, writer) = pipe()?;
    let report = run_under(context, |launch| {
        launch
            .descriptor(3, file)
            .descriptor(8, reader)
            .descriptor(77, writer)
    })?;
    let number = ESCALATION_DESCRIPTOR;
    expect::equal(
        "the command's descriptors",
        vec![0, 1, 2, 3, 8, number, 77],
        report.descriptor_numbers(),
    )?;
    expect::equal(
        "offset of 3",
        Some(Some(4)),
        report.descriptor(3).map(|descriptor| descriptor.offset),
    )?;
    expect::equal(
        "close-on-exec of 3",
        Some(0),
        report.descriptor(3).map(|descriptor| descriptor.descriptor_flags),
    )
}

/// File status flags are shared with others: O_NONBLOCK and O_APPEND stay as they were, on the socket too.
fn flags_unchanged(context: &mut Context) -> Verdict {
    for nonblocking in [false, true] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let (reader, _writer) = pipe()?;
        let (_reader, writer) = pipe()?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        for descriptor in [
            reader.as_raw_fd(),
            writer.as_raw_fd(),
            call.client_end_ref().map_or(-1, AsRawFd::as_raw_fd),
        ] {
            set_nonblocking(descriptor, nonblocking)?;
        }
        let mut wrapper = call
            .launched(|launch| launch.descriptor(0, reader).descriptor(5, writer))
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        let report = program.only_start()?;
        for number in [0, 5, ESCALATION_DESCRIPTOR] {
            let flags = report
                .descriptor(number)
                .map(|descriptor| descriptor.status_flags & libc::O_NONBLOCK != 0);
            expect::equal(&format!("O_NONBLOCK of {number}"), Some(nonblocking), flags)?;
        }
    }
    Ok(())
}

fn set_nonblocking(number: i32, nonblocking: bool) -> Verdict {
    // SAFETY: the caller guarantees that the number stays open for as long as this borrow lives.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = if nonblocking {
        OFlag::O_NONBLOCK
    } else {
        OFlag::empty()
    };
    fcntl(descriptor, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Property: any set of open and closed descriptors is the same with and without a wrapper.
fn any_descriptors(context: &mut Context) -> Verdict {
    let context = &*context;
    let kinds = btree_map(0..40_i32, 0..3_u8, 0..8);
    // Each standard stream closed, open, and another file; all of them closed; and the lowest and the highest numbers.
    let one = (0..3).flat_map(|number| (0..3).map(move |kind| BTreeMap::from([(number, kind)])));
    let decisive = one.chain([
        BTreeMap::from([(0, 0), (1, 0), (2, 0)]),
        BTreeMap::from([(0, 0), (1, 0), (2, 0), (3, 1), (39, 2)]),
    ]);
    property::holds_of_these_and(context, decisive, &kinds, |mut kinds| {
        // The escalation socket has its own number.
        kinds.remove(&ESCALATION_DESCRIPTOR);
        let place = |mut launch: Launch| {
            for (number, kind) in &kinds {
                launch = match kind {
                    0 => launch.closed(*number),
                    1 => launch.descriptor(*number, File::open("/dev/null").expect("/dev/null opens")),
                    _ => launch.descriptor(*number, File::open("/etc/passwd").expect("/etc/passwd opens")),
                };
            }
            launch
        };
        let seen = |report: &Report| {
            let socket = ESCALATION_DESCRIPTOR;
            let named = |number: i32| kinds.contains_key(&number);
            report
                .descriptors
                .iter()
                .filter(|descriptor| descriptor.number != socket)
                .map(|descriptor| {
                    let identity = named(descriptor.number).then_some(descriptor.identity);
                    (descriptor.number, descriptor.descriptor_flags, identity)
                })
                .collect::<Vec<_>>()
        };
        let direct = run_directly(context, place)?;
        let report = run_under(context, place)?;
        expect::equal(
            "the command's descriptors (number, flags, file)",
            seen(&direct),
            seen(&report),
        )
    })
}

fn status_flags(descriptor: &impl AsFd) -> Result<i32, CaseError> {
    Ok(fcntl(descriptor, FcntlArg::F_GETFL)?)
}

/// Status flags of the streams, which others share, do not change during the wait either.
fn flags_while_it_waits(context: &mut Context) -> Verdict {
    for nonblocking in [OFlag::empty(), OFlag::O_NONBLOCK] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let (reader, _other) = pipe()?;
        let (_other, writer) = pipe()?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(context.path("log"))?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let mut ours = vec![reader.try_clone()?, writer.try_clone()?, log.try_clone()?];
        for file in &ours[..2] {
            fcntl(file, FcntlArg::F_SETFL(nonblocking))?;
        }
        if let Some(socket) = call.client_end_ref() {
            ours.push(File::from(socket.try_clone()?));
        }
        let before = ours.iter().map(status_flags).collect::<Result<Vec<_>, _>>()?;
        let mut wrapper = call
            .launched(|launch| {
                launch
                    .descriptor(0, reader)
                    .descriptor(1, writer)
                    .descriptor(2, log)
            })
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        let while_it_waits = ours.iter().map(status_flags).collect::<Result<Vec<_>, _>>()?;
        expect::equal(
            "status flags of 0, 1, 2 and the socket while it waits",
            &before,
            &while_it_waits,
        )?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        let after = ours.iter().map(status_flags).collect::<Result<Vec<_>, _>>()?;
        expect::equal("status flags after Run", &before, &after)?;
    }
    Ok(())
}

/// The command's descriptors are the same open file descriptions: files of their own offset, a pipe, a socket.
fn same_descriptions(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "program")?;
    let data = context.write_file("data", b"0123456789", 0o644)?;
    let file = File::open(data)?;
    let (reader, writer) = pipe()?;
    let (near, _far) = UnixStream::pair()?;
    let ours = [
        (0, file.try_clone()?),
        (5, reader.try_clone()?),
        (9, writer.try_clone()?),
        (63, File::from(OwnedFd::from(near.try_clone()?))),
    ];
    let call = WrapperCall::new(context, program.text(), ["program"])?.launched(|launch| {
        launch
            .descriptor(0, file)
            .descriptor(5, reader)
            .descriptor(9, writer)
            .descriptor(63, near)
    });
    let mut wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let mut probe = program.accept("the command")?;
    for (number, ours) in &ours {
        let theirs = probe.take_descriptor(*number)?;
        expect::that(
            same_description(ours, &theirs)?,
            format_args!("the command's {number} is the description that the wrapper was started with"),
            "it is another one",
        )?;
    }
    let offset = probe.report.descriptor(0).and_then(|found| found.offset);
    expect::equal("offset of 0", Some(0), offset)?;
    probe.send(&Order::Exit(0))?;
    wrapper.finish()?.expect_status(0)
}

/// The escalation socket stays under its number, low or high, and is what it was.
fn socket_under_its_number(context: &mut Context) -> Verdict {
    for number in [0, 3, 57, 200] {
        let program = Program::new(context, &format!("program-{number}"), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?.socket_number(number);
        let inode = call
            .client_end_ref()
            .map(nix::sys::stat::fstat)
            .transpose()?
            .map(|stat| (stat.st_dev, stat.st_ino));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        let report = program.only_start()?;
        let seen = report.descriptor(number).map(|found| found.identity);
        expect::equal(&format!("device and inode of {number}"), inode, seen)?;
        let mut expected = vec![0, 1, 2, number];
        expected.sort_unstable();
        expected.dedup();
        expect::equal("the command's descriptors", expected, report.descriptor_numbers())?;
    }
    Ok(())
}

/// A kind of file and its status flags, as a property case opens it.
#[derive(Clone, Copy, Debug)]
struct Opened {
    kind: u8,
    append: bool,
    nonblocking: bool,
}

/// The last of the kinds.
const DIRECTORY: u8 = 5;

impl Shown for Opened {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KINDS: [&str; DIRECTORY as usize + 1] = [
            "closed",
            "/dev/null",
            "a pipe's end for reading",
            "a pipe's end for writing",
            "a socket",
            "a directory",
        ];
        formatter.write_str(KINDS[usize::from(self.kind.min(DIRECTORY))])?;
        for (set, flag) in [(self.append, "O_APPEND"), (self.nonblocking, "O_NONBLOCK")] {
            if set && (1..DIRECTORY).contains(&self.kind) {
                write!(formatter, " with {flag}")?;
            }
        }
        Ok(())
    }
}

impl Opened {
    fn open(self, launch: Launch, number: i32) -> Result<Launch, CaseError> {
        let flags = |base: OFlag| {
            let mut flags = base;
            flags.set(OFlag::O_APPEND, self.append);
            flags.set(OFlag::O_NONBLOCK, self.nonblocking);
            FcntlArg::F_SETFL(flags)
        };
        Ok(match self.kind {
            0 => launch.closed(number),
            1 => {
                let file = File::options().read(true).write(true).open("/dev/null")?;
                fcntl(&file, flags(OFlag::empty()))?;
                launch.descriptor(number, file)
            }
            2 => {
                let (reader, _) = pipe()?;
                fcntl(&reader, flags(OFlag::empty()))?;
                launch.descriptor(number, reader)
            }
            3 => {
                let (_, writer) = pipe()?;
                fcntl(&writer, flags(OFlag::empty()))?;
                launch.descriptor(number, writer)
            }
            4 => {
                let (socket, _) = UnixDatagram::pair()?;
                fcntl(&socket, flags(OFlag::empty()))?;
                launch.descriptor(number, socket)
            }
            DIRECTORY.. => launch.descriptor(number, File::open("/")?),
        })
    }
}

/// Each standard stream closed, all of them closed, and each kind with each flag under a low, a middle and a high number.
fn decisive_sets() -> Vec<BTreeMap<i32, Opened>> {
    const CLOSED: Opened = Opened {
        kind: 0,
        append: false,
        nonblocking: false,
    };
    let closed = |numbers: &[i32]| numbers.iter().map(|number| (*number, CLOSED)).collect();
    let mut sets: Vec<BTreeMap<i32, Opened>> =
        vec![closed(&[0]), closed(&[1]), closed(&[2]), closed(&[0, 1, 2])];
    for append in [false, true] {
        for nonblocking in [false, true] {
            let opened = |kind| Opened {
                kind,
                append,
                nonblocking,
            };
            for lowest in [0, 3, 190] {
                let numbers = (lowest..).filter(|number| *number != ESCALATION_DESCRIPTOR);
                sets.push(numbers.zip((1..=DIRECTORY).map(opened)).collect());
            }
        }
    }
    sets
}

/// Property: any set of descriptors of any kind, with any status flags, is with a wrapper as it is without one.
fn any_flags(context: &mut Context) -> Verdict {
    let context = &*context;
    let opened =
        (0..=DIRECTORY, any::<bool>(), any::<bool>()).prop_map(|(kind, append, nonblocking)| Opened {
            kind,
            append,
            nonblocking,
        });
    let set = btree_map(0..200_i32, opened, 0..12);
    property::holds_of_these_and(context, decisive_sets(), &set, |mut set| {
        set.remove(&ESCALATION_DESCRIPTOR);
        // Interpreters refuse to start with a directory as standard input, which says nothing about the wrapper.
        set.retain(|number, opened| *number > 2 || opened.kind != DIRECTORY);
        let place = |launch: Launch| {
            set.iter()
                .try_fold(launch, |launch, (number, opened)| opened.open(launch, *number))
        };
        let seen = |report: &Report| {
            let shown = |found: &DescriptorReport| {
                // Where the example says nothing about 0, 1 or 2, the suite's file differs between the two runs.
                let flags = set.contains_key(&found.number).then_some(found.status_flags);
                let target = String::from_utf8_lossy(&found.target).into_owned();
                let kind = target.split(':').next().unwrap_or_default().to_owned();
                (
                    found.number,
                    found.descriptor_flags,
                    flags,
                    set.contains_key(&found.number).then_some(kind),
                )
            };
            let others = |found: &&DescriptorReport| found.number != ESCALATION_DESCRIPTOR;
            report
                .descriptors
                .iter()
                .filter(others)
                .map(shown)
                .collect::<Vec<_>>()
        };
        let empty = Launch::new("/", "/");
        let (first, second) = (place(empty)?, place(Launch::new("/", "/"))?);
        let direct = run_directly(context, |launch| launch.descriptors_of(first))?;
        let report = run_under(context, |launch| launch.descriptors_of(second))?;
        expect::equal(
            "the command's descriptors (number, flags, status flags, kind)",
            seen(&direct),
            seen(&report),
        )
    })
}
