//! wire.fds, for a wrapper: where the descriptors of a descriptor message are.

use std::fs::File;

use serde_json::Value;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::same_description;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.fds/read-byte-by-byte", read_byte_by_byte),
    case("wire.fds/each-under-its-number", each_under_its_number),
]);

/// Read byte by byte, the descriptor message has all its descriptors with the first byte, in one control message.
fn read_byte_by_byte(context: &mut Context) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
    let mut received = Vec::new();
    let mut whole = 4;
    while received.len() < whole {
        let (byte, groups) = stream.frames.receive_bytes(1, "a descriptor message")?;
        let [byte] = byte[..] else {
            return Err(violation(
                format_args!("a descriptor message of {whole} bytes"),
                format_args!("the end after {}", received.len()),
            ));
        };
        let counts: Vec<usize> = groups.iter().map(Vec::len).collect();
        let expected = if received.is_empty() { vec![3] } else { vec![] };
        let what = format!("descriptors with byte {}, by control message", received.len());
        expect::equal(&what, expected, counts)?;
        received.push(byte);
        if let Ok(length) = <[u8; 4]>::try_from(&received[..]) {
            whole += u32::from_le_bytes(length) as usize;
        }
    }
    let message: Value = serde_json::from_slice(&received[4..])
        .map_err(|error| violation("a payload that is one JSON value", error))?;
    expect::equal("numbers", Some(3), message["fds"].as_array().map(Vec::len))?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// `fds[i]` is the number of descriptor `i`: three distinct files of one kind.
fn each_under_its_number(context: &mut Context) -> Verdict {
    let mut files = Vec::new();
    for number in 0..3 {
        let path = context.path(&format!("file-{number}"));
        files.push(
            File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(path)?,
        );
    }
    let ours = files.iter().map(File::try_clone).collect::<Result<Vec<_>, _>>()?;
    let call = WrapperCall::new(context, "/bin/program", ["program"])?;
    let call = call.launched(|launch| {
        (0..)
            .zip(files)
            .fold(launch, |launch, (number, file)| launch.descriptor(number, file))
    });
    let mut wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    expect::equal("numbers", vec![0, 1, 2], escalation.sorted_numbers())?;
    for (number, file) in (0..).zip(&ours) {
        let same = same_description(file, escalation.descriptor(number)?)?;
        expect::that(
            same,
            format_args!("the descriptor for {number} is the wrapper's {number}"),
            "it is another one",
        )?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}
