//! wrapper.escalate.more-fds: other inheritable descriptors travel under their numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use proptest::collection::btree_map;

use crate::case::context::Context;
use crate::case::{Table, case, expect, property};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{
    any_call, escalated, escalated_or_refused, expect_same_description, handed_over,
};
use crate::system::launch::pipe;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.more-fds/sixteen", sixteen),
    case("wrapper.escalate.more-fds/not-the-escalation-socket", not_the_socket),
    case("wrapper.escalate.more-fds/of-any-kind", of_any_kind),
    case("wrapper.escalate.more-fds/more-than-sixteen", more_than_sixteen),
    case("wrapper.escalate.more-fds/any-set", any_set).within_seconds(60),
]);

/// Sixteen descriptors fit.
fn sixteen(context: &mut Context) -> Verdict {
    handed_over(
        context,
        |call| {
            let mut files = Vec::new();
            for number in 3..16 {
                files.push((number, File::open("/dev/null")?));
            }
            Ok(call.launched(|launch| {
                files
                    .into_iter()
                    .fold(launch, |launch, (number, file)| launch.descriptor(number, file))
            }))
        },
        |escalation| {
            expect::equal(
                "numbers",
                (0..16).collect::<Vec<_>>(),
                escalation.sorted_numbers(),
            )
        },
    )
}

/// The escalation socket is never among them.
fn not_the_socket(context: &mut Context) -> Verdict {
    handed_over(
        context,
        |call| Ok(call.socket_number(3)),
        |escalation| expect::equal("numbers", vec![0, 1, 2], escalation.sorted_numbers()),
    )?;
    handed_over(context, Ok, |escalation| {
        let among = escalation.numbers.contains(&i64::from(ESCALATION_DESCRIPTOR));
        expect::that(
            !among,
            "the escalation socket is not sent",
            format_args!("{:?}", escalation.numbers),
        )
    })
}

/// Files, a pipe and a socket under low and high numbers, each the description that it was.
fn of_any_kind(context: &mut Context) -> Verdict {
    let (reader, writer) = pipe()?;
    let (near, _far) = UnixStream::pair()?;
    let file = File::open(context.write_file("data", b"text", 0o644)?)?;
    let log = File::create_new(context.path("log"))?;
    let ours: [(i32, OwnedFd); 5] = [
        (3, file.into()),
        (7, reader.into()),
        (9, log.into()),
        (63, near.into()),
        (200, writer.into()),
    ];
    let mut call = any_call(context)?;
    for (number, descriptor) in &ours {
        let copy = descriptor.try_clone()?;
        call = call.launched(|launch| launch.descriptor(*number, copy));
    }
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    expect::equal(
        "numbers",
        vec![0, 1, 2, 3, 7, 9, 63, 200],
        escalation.sorted_numbers(),
    )?;
    for (number, descriptor) in &ours {
        expect_same_description(&escalation, *number, descriptor)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// More than 16: the wrapper refuses and says so, or sends 16 with 0, 1 and 2 among them.
fn more_than_sixteen(context: &mut Context) -> Verdict {
    for others in [14, 20, 300] {
        let program = Program::new(context, &format!("program-{others}"), [])?;
        let mut call = WrapperCall::new(context, &program.path, ["program"])?;
        for number in (3..)
            .filter(|number| *number != ESCALATION_DESCRIPTOR)
            .take(others)
        {
            let file = File::open("/dev/null")?;
            call = call.launched(|launch| launch.descriptor(number, file));
        }
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        if let Some(escalation) = escalated_or_refused(&mut stream)? {
            let numbers = escalation.sorted_numbers();
            let right = numbers.len() == 16 && numbers.starts_with(&[0, 1, 2]);
            expect::that(
                right,
                "16 descriptors, 0, 1 and 2 among them",
                format_args!("{numbers:?}"),
            )?;
            stream.result(4)?;
            wrapper.finish()?.expect_status(4)?;
        } else {
            wrapper.finish()?.expect_refused()?;
        }
        program.expect_not_started()?;
    }
    Ok(())
}

/// Property: any set of up to 13 others and any closed standard streams; the numbers are exactly those, each with its
/// description, and nothing of the wrapper's own is among them.
fn any_set(context: &mut Context) -> Verdict {
    let context = &*context;
    let kinds = btree_map(0..120_i32, 0..4_u8, 0..13);
    let closed = |numbers: &[i32]| numbers.iter().map(|number| (*number, 0)).collect();
    let decisive: [BTreeMap<i32, u8>; 7] = [
        closed(&[]),
        closed(&[0]),
        closed(&[1]),
        closed(&[2]),
        closed(&[0, 1, 2]),
        (3..16).map(|number| (number, 1 + number as u8 % 3)).collect(),
        BTreeMap::from([(0, 0), (2, 0), (3, 2), (63, 3), (119, 1)]),
    ];
    property::holds_of_these_and(context, decisive, &kinds, |mut kinds| {
        kinds.remove(&ESCALATION_DESCRIPTOR);
        let mut call = any_call(context)?;
        let mut ours = Vec::new();
        let mut open: Vec<i64> = (0..3).collect();
        for (number, kind) in &kinds {
            if *kind == 0 {
                open.retain(|other| *other != i64::from(*number));
                call = call.launched(|launch| launch.closed(*number));
                continue;
            }
            let descriptor: OwnedFd = match kind {
                1 => File::open("/dev/null")?.into(),
                2 => pipe()?.0.into(),
                _ => UnixStream::pair()?.0.into(),
            };
            ours.push((*number, descriptor.try_clone()?));
            open.push(i64::from(*number));
            call = call.launched(|launch| launch.descriptor(*number, descriptor));
        }
        open.sort_unstable();
        open.dedup();
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        expect::equal("numbers", open, escalation.sorted_numbers())?;
        for (number, descriptor) in &ours {
            expect_same_description(&escalation, *number, descriptor)?;
        }
        stream.result(3)?;
        wrapper.finish()?.expect_status(3)
    })
}
