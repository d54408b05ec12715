//! wire.fds, for a server: descriptors in the order of their numbers.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_wrapper::AsFdObject;
use crate::peer::program::Program;
use crate::spec::requirements::Role;
use crate::stage::descriptors::file;
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.fds/sixteen", sixteen),
    case("wire.fds/order", order),
    case("wire.fds/each-number", each_number),
]);

/// Escalates a program with a file for each number and demands that each number is its own file in the child.
fn expect_placed(context: &Context, scene: &mut Stage, numbers: &[i64]) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let files = numbers
        .iter()
        .map(|number| file(context, &format!("file-{}-{number}", context.next_number()), ""))
        .collect::<Result<Vec<_>, _>>()?;
    let placements: Vec<(i64, &dyn AsFdObject)> = numbers
        .iter()
        .zip(&files)
        .map(|(number, file)| (*number, file as &dyn AsFdObject))
        .collect();
    let request = scene.request(program.text(), &["program"]);
    scene
        .escalate_request(&request, &placements)?
        .expect_exit_code(0)?;
    let report = program.only_start()?;
    for (number, file) in numbers.iter().zip(&files) {
        let metadata = file.metadata()?;
        let held = i32::try_from(*number)
            .ok()
            .and_then(|number| report.descriptor(number))
            .map(|descriptor| descriptor.identity);
        expect::equal(
            &format!("device and inode of descriptor {number} of the child, for fds {numbers:?}"),
            Some((metadata.dev(), metadata.ino())),
            held,
        )?;
    }
    Ok(())
}

/// Sixteen descriptors with one message.
fn sixteen(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let numbers: Vec<i64> = (0..16).collect();
    expect_placed(context, &mut scene, &numbers)?;
    scene.finish()
}

/// The first number is the first descriptor's, whatever the order of the numbers.
fn order(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for numbers in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        expect_placed(context, &mut scene, &numbers)?;
    }
    scene.finish()
}

/// A number is not a position: there may be numbers beyond the standard streams, in any order.
fn each_number(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    for numbers in [&[0, 1, 2, 5][..], &[2, 1, 0, 9, 3]] {
        expect_placed(context, &mut scene, numbers)?;
    }
    scene.finish()
}
