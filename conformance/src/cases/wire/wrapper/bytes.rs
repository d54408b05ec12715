//! wire.bytes, for a wrapper: strings that are not UTF-8 arrive unaltered by the *bytes* extension, or the
//! request fails closed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use proptest::collection::{btree_map, vec};

use crate::case::context::Context;
use crate::case::{Table, case, expect, property};
use crate::peer::bytes::{ByteRequest, Bytes};
use crate::peer::fake_server::RequestStream;
use crate::peer::program::Program;
use crate::peer::wire::Received;
use crate::peer::wrapper_call::{WrapperCall, WrapperRun};
use crate::spec::requirements::Role;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wire.bytes/every-byte", every_byte),
    case("wire.bytes/nearly-utf-8", nearly_utf_8),
    case("wire.bytes/in-file", in_file),
    case("wire.bytes/in-names-and-values", in_names_and_values),
    case("wire.bytes/in-the-working-directory", in_the_working_directory),
    case("wire.bytes/valid-utf-8-stays", valid_utf_8_stays),
    case("wire.bytes/refused-by-the-server", refused_by_the_server),
    case("wire.bytes/any-arguments-and-environment", any_arguments_and_environment).within_seconds(60),
]);

/// The request of a call with bytes that are not UTF-8; `None` where a wrapper without the extension refuses the call
/// before it sends a request.
fn byte_request(wrapper: &WrapperRun) -> Result<Option<(RequestStream, Received)>, CaseError> {
    let mut stream = match wrapper.handshake() {
        Ok(stream) => stream,
        Err(CaseError::Violation { .. }) if wrapper.process.has_ended()? => return Ok(None),
        Err(error) => return Err(error),
    };
    match stream.frames.receive()? {
        frame @ Received::Frame(_) => Ok(Some((stream, frame))),
        Received::End { .. } | Received::Silence { .. } => Ok(None),
    }
}

/// Sends a call, lets `look` compare its decoded request, and runs it. A wrapper without the extension has to
/// refuse instead.
fn travels<'a>(
    context: &'a Context,
    program: &Program,
    call: WrapperCall<'a>,
    look: impl FnOnce(&ByteRequest) -> Verdict,
) -> Verdict {
    let mut wrapper = call.start()?;
    let Some((mut stream, received)) = byte_request(&wrapper)? else {
        wrapper.finish()?.expect_refused()?;
        return program.expect_not_started();
    };
    if let Received::Frame(frame) = received {
        look(&ByteRequest::decode(&frame.payload)?)?;
    }
    stream.run()?;
    wrapper.finish_within(context.patience())?.expect_status(0)
}

/// Arguments travel, and reach the command as they were.
fn arguments_travel(context: &Context, arguments: &[Vec<u8>]) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let words = arguments.iter().map(|argument| OsStr::from_bytes(argument));
    let call = WrapperCall::new(context, &program.path, words)?;
    travels(context, &program, call, |request| {
        expect::equal("argv", byte_strings(arguments), &*request.argv)
    })?;
    for report in program.starts()? {
        expect::equal("the command's arguments", arguments, report.arguments.as_slice())?;
    }
    Ok(())
}

fn byte_strings(strings: &[Vec<u8>]) -> Vec<Bytes> {
    strings.iter().cloned().map(Bytes).collect()
}

/// Each byte from 0x80 to 0xff alone, and one argument of all bytes but NUL.
fn every_byte(context: &mut Context) -> Verdict {
    let mut arguments: Vec<Vec<u8>> = (0x80..=0xff_u8).map(|byte| vec![byte]).collect();
    arguments.push((1..=0xff).collect());
    arguments_travel(context, &arguments)
}

/// What resembles UTF-8 but is not valid by RFC 3629: encoded surrogates, overlong forms, beyond U+10FFFF, cut off.
fn nearly_utf_8(context: &mut Context) -> Verdict {
    let arguments: Vec<Vec<u8>> = [
        &b"\xed\xb2\x80"[..],
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xed\xbf\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfe\xff",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xe2\x82x\xf0\x9f\x98\xc3\xbc",
        b"\xc3\xbc\xbc",
        b"a\x80b",
        b"\xc3\x28",
        b"\xfe\xc3\xbc",
        b"\\udc80\xff",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .collect();
    arguments_travel(context, &arguments)
}

/// FILE holds the byte 0xff: it is named exactly, and it is the file that runs.
fn in_file(context: &mut Context) -> Verdict {
    let path = context
        .directory()
        .join("bin")
        .join(OsStr::from_bytes(b"pro\xffgram"));
    let program = Program::at(context, &path, [])?;
    let argument = OsStr::from_bytes(b"\xffname\x80");
    let call = WrapperCall::new(context, &path, [argument])?.variable("BYTES", argument);
    travels(context, &program, call, |request| {
        expect::equal(
            "file",
            Bytes(path.as_os_str().as_bytes().to_vec()),
            request.file.clone(),
        )
    })?;
    for report in program.starts()? {
        expect::equal(
            "the executed file",
            path.as_os_str().as_bytes(),
            report.executable.as_slice(),
        )?;
        expect::equal(
            "the command's arguments",
            vec![argument.as_bytes().to_vec()],
            report.arguments.clone(),
        )?;
        expect::equal(
            "the command's BYTES",
            Some(argument.as_bytes().to_vec()),
            report.variable("BYTES"),
        )?;
    }
    Ok(())
}

/// Names and values of variables.
fn in_names_and_values(context: &mut Context) -> Verdict {
    let variables: [(&[u8], &[u8]); 5] = [
        (b"K\xff", b"V\xfe"),
        (b"\x80", b""),
        (b"BYTES", b"ok\xf0\x9f\x98"),
        (b"PLAIN", b"\xc3\xbc\xc3"),
        ("ü".as_bytes(), b"\xed\xb3\xbf"),
    ];
    let program = Program::new(context, "program", [])?;
    let mut call = WrapperCall::new(context, &program.path, ["program"])?;
    for (name, value) in variables {
        call = call.variable(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    travels(context, &program, call, |request| {
        for (name, value) in variables {
            let what = format!("the variable {}", name.escape_ascii());
            expect::equal(
                &what,
                Some(Bytes(value.to_vec())),
                request.variable(name).map(|value| Bytes(value.to_vec())),
            )?;
        }
        expect::equal("variables in env", variables.len() + 2, request.env.len())
    })?;
    for report in program.starts()? {
        for (name, value) in variables {
            let entry = [name, b"=", value].concat();
            expect::that(
                report.environment.contains(&entry),
                format_args!("the command has {}", entry.escape_ascii()),
                "it does not",
            )?;
        }
    }
    Ok(())
}

/// The working directory.
fn in_the_working_directory(context: &mut Context) -> Verdict {
    let directory = context.directory().join(OsStr::from_bytes(b"work\xff\xc3\xbc"));
    fs::create_dir(&directory)?;
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?.directory(&directory);
    travels(context, &program, call, |request| {
        let expected = Bytes(directory.as_os_str().as_bytes().to_vec());
        expect::equal("workdir", expected, request.workdir.clone())
    })?;
    for report in program.starts()? {
        expect::equal(
            "the command's directory",
            directory.as_os_str().as_bytes(),
            report.directory.as_slice(),
        )?;
    }
    Ok(())
}

/// What is UTF-8 is sent as text, without any lone surrogate: a server without the extension can read it.
fn valid_utf_8_stays(context: &mut Context) -> Verdict {
    let arguments = [
        "é😀",
        "\u{fffd}",
        "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}",
        "\u{d7ff}\u{e000}",
    ];
    let mut wrapper = WrapperCall::new(context, "/bin/program", arguments)?
        .variable("ü", "😀")
        .start()?;
    // A strict JSON reader, which lone surrogates make fail.
    let (mut stream, request) = wrapper.request()?;
    expect::equal("argv", arguments.as_slice(), request.arguments()?.as_slice())?;
    expect::equal("the variable ü", Some("😀"), request.variable("ü")?)?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

/// A server without the extension closes the stream: nothing runs, and nothing is sent again in another spelling.
fn refused_by_the_server(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, [OsStr::from_bytes(b"\xff")])?.start()?;
    drop(byte_request(&wrapper)?);
    wrapper.finish()?.expect_refused()?;
    program.expect_not_started()?;
    wrapper.expect_no_handshake()
}

/// Property: any argument vector and any environment, of any bytes but NUL, arrives.
fn any_arguments_and_environment(context: &mut Context) -> Verdict {
    let context = &*context;
    let byte = 1..=0xff_u8;
    let arguments = vec(vec(byte.clone(), 0..24), 1..8);
    // A prefix keeps names from being empty, holding `=` at their start, or being one of the three.
    let name = vec(byte.clone(), 0..8);
    let environment = btree_map(name, vec(byte, 0..24), 0..8);
    // Bytes in an argument, a name and a value alone: what is done with one must not hide what is done with another.
    let plain = || vec![b"plain".to_vec()];
    let decisive = [
        (plain(), BTreeMap::new()),
        (vec![b"\xff".to_vec()], BTreeMap::new()),
        (plain(), BTreeMap::from([(b"\x80".to_vec(), b"value".to_vec())])),
        (plain(), BTreeMap::from([(b"name".to_vec(), b"\x80".to_vec())])),
    ];
    let random = (arguments, environment);
    property::holds_of_these_and(context, decisive, &random, |(arguments, environment)| {
        // Each its own: whether one may have been executed depends on the example.
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let words = arguments.iter().map(|argument| OsStr::from_bytes(argument));
        let mut call = WrapperCall::new(context, &program.path, words)?;
        let mut expected = BTreeMap::new();
        for (name, value) in environment {
            let mut name = [b"N_".as_slice(), &name].concat();
            name.retain(|byte| *byte != b'=');
            call = call.variable(OsStr::from_bytes(&name), OsStr::from_bytes(&value));
            expected.insert(Bytes(name), Bytes(value));
        }
        travels(context, &program, call, |request| {
            expect::equal("argv", byte_strings(&arguments), &*request.argv)?;
            let mut environment = request.env.clone();
            environment.retain(|name, _| name.0.starts_with(b"N_"));
            expect::equal("env", expected, environment)
        })
    })
}
