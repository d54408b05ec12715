//! Bytes that are not UTF-8, on the way to a server: policy and child get them unaltered, or the request is
//! rejected.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proptest::collection::{btree_map, vec};
use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::bytes::{ByteRequest, Bytes};
use crate::peer::harness::{Answer, Question, marked};
use crate::peer::program::Program;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::verdict::{Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.bytes/each-byte-in-argv", each_byte_in_argv),
    case("wire.bytes/each-byte-in-env", each_byte_in_env),
    case("wire.bytes/nearly-utf-8-to-the-child", nearly_utf_8),
    case("wire.bytes/in-the-program-and-the-directory", in_program_and_directory),
    case("wire.bytes/beside-utf-8", beside_utf_8),
    case("wire.bytes/escapes-in-capitals", escapes_in_capitals),
    case("wire.bytes/surrogate-pairs-are-characters", surrogate_pairs),
    case("wire.bytes/other-lone-surrogates-refused", other_lone_surrogates),
    case("wire.bytes/surrogates-in-no-pair-refused", surrogates_in_no_pair),
    case("wire.bytes/raw-bytes-in-the-payload", raw_bytes),
    case("wire.bytes/any-request", any_request).within_seconds(60),
]);

fn bytes(text: impl Into<Vec<u8>>) -> Bytes {
    Bytes(text.into())
}

/// A request for the program at `path`.
fn request(context: &Context, path: &Path, arguments: &[&[u8]]) -> ByteRequest {
    ByteRequest {
        file: bytes(path.as_os_str().as_bytes()),
        argv: arguments.iter().map(|argument| bytes(*argument)).collect(),
        workdir: bytes(context.work_directory().as_os_str().as_bytes()),
        env: BTreeMap::new(),
    }
}

/// Demands that the policy is asked about just this.
fn expect_question(question: &Question, request: &ByteRequest) -> Verdict {
    let arguments: Vec<String> = request.argv.iter().map(|argument| marked(&argument.0)).collect();
    expect::equal("argv for the policy", &arguments, &question.arguments)?;
    expect::equal(
        "program for the policy",
        marked(&request.file.0),
        &*question.program,
    )?;
    expect::equal(
        "workdir for the policy",
        marked(&request.workdir.0),
        &*question.directory,
    )?;
    if let Some(environment) = question.params.get("env").and_then(serde_json::Value::as_object) {
        let environment: BTreeMap<String, &str> = environment
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or("no text")))
            .collect();
        let sent: Vec<(String, String)> = request
            .env
            .iter()
            .map(|(name, value)| (marked(&name.0), marked(&value.0)))
            .collect();
        let sent: BTreeMap<String, &str> = sent
            .iter()
            .map(|(name, value)| (name.clone(), &**value))
            .collect();
        expect::equal("env for the policy", &sent, &environment)?;
    }
    Ok(())
}

/// Sends `payload` and demands that policy and program get what `meant` says, or that it is rejected, which a server
/// that names the extension does not.
fn travels(
    context: &Context,
    scene: &mut Stage,
    program: &Program,
    payload: &[u8],
    meant: &ByteRequest,
) -> Verdict {
    program.forget_starts()?;
    let mut requester = scene.session.socket.open()?;
    requester.frames.send(payload, &[])?;
    let Some(decision) = scene.asked_or_closed(&mut requester)? else {
        if context.has_capability("bytes") {
            return Err(violation(
                "a server with the extension decodes the request",
                "the request is refused",
            ));
        }
        scene.sentinel()?;
        return program.expect_not_started();
    };
    expect_question(&decision.question, meant)?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let null = null()?;
    requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
    requester.expect_exit_code(0)?;
    let report = program.only_start()?;
    let arguments: Vec<Vec<u8>> = meant.argv.iter().map(|argument| argument.0.clone()).collect();
    expect::equal(
        "the child's argv",
        escaped(&arguments),
        escaped(&report.arguments),
    )?;
    let mut sent: Vec<Vec<u8>> = meant
        .env
        .iter()
        .map(|(name, value)| [&*name.0, b"=", &*value.0].concat())
        .collect();
    let mut environment = report.environment.clone();
    sent.sort();
    environment.sort();
    expect::equal("the child's environment", escaped(&sent), escaped(&environment))?;
    let directory = fs::canonicalize(OsStr::from_bytes(&meant.workdir.0))?;
    expect::equal(
        "the child's working directory",
        directory.as_os_str().as_bytes().escape_ascii().to_string(),
        report.directory.escape_ascii().to_string(),
    )
}

fn escaped(texts: &[Vec<u8>]) -> Vec<String> {
    texts.iter().map(|text| text.escape_ascii().to_string()).collect()
}

/// The same with the payload that says it in the plainest way.
fn travels_plainly(
    context: &Context,
    scene: &mut Stage,
    program: &Program,
    request: &ByteRequest,
) -> Verdict {
    travels(context, scene, program, request.encode().as_bytes(), request)
}

/// Each byte that is not UTF-8 on its own, and all of them in a row.
fn each_byte_in_argv(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let each: Vec<[u8; 1]> = (0x80..=0xff).map(|byte| [byte]).collect();
    let row: Vec<u8> = (0x80..=0xff).collect();
    let arguments: Vec<&[u8]> = each
        .iter()
        .map(|byte| byte.as_slice())
        .chain([row.as_slice()])
        .collect();
    let request = request(context, &program.path, &arguments);
    travels_plainly(context, &mut scene, &program, &request)?;
    scene.finish()
}

/// Each byte in the name of a variable, and in its value.
fn each_byte_in_env(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let mut request = request(context, &program.path, &[b"program"]);
    for byte in 0x80..=0xff {
        request.env.insert(bytes([b'K', byte]), bytes([byte, b'V', byte]));
    }
    travels_plainly(context, &mut scene, &program, &request)?;
    scene.finish()
}

/// Sequences that are almost UTF-8: each of their bytes is one of its own.
fn nearly_utf_8(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let arguments: [&[u8]; 8] = [
        b"\xed\xb2\x80",
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xc0\x80",
        b"\xe0\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
        b"\xef\xbf\xbd\xef\xbf",
    ];
    let request = request(context, &program.path, &arguments);
    travels_plainly(context, &mut scene, &program, &request)?;
    scene.finish()
}

/// A program and a directory whose names are not UTF-8, beside others that they could be mistaken for.
fn in_program_and_directory(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let bin = context.path("bin");
    let right = Program::at(context, &bin.join(OsStr::from_bytes(b"p\xff\xe9")), [])?;
    let decoys = [&b"p"[..], "p\u{fffd}\u{fffd}".as_bytes(), "pÿé".as_bytes()]
        .into_iter()
        .map(|name| Program::at(context, &bin.join(OsStr::from_bytes(name)), []))
        .collect::<Result<Vec<_>, _>>()?;
    let directory = context.work_directory().join(OsStr::from_bytes(b"d\x80"));
    for name in [
        directory.as_os_str(),
        context.work_directory().join("d\u{fffd}").as_os_str(),
    ] {
        fs::create_dir(name)?;
    }
    let mut request = request(context, &right.path, &[b"p"]);
    request.workdir = bytes(directory.as_os_str().as_bytes());
    travels_plainly(context, &mut scene, &right, &request)?;
    for decoy in decoys {
        decoy.expect_not_started()?;
    }
    scene.finish()
}

/// Text stays text beside bytes, in the same string and in others.
fn beside_utf_8(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let mixed = [
        "é".as_bytes(),
        b"\xe9",
        "😀\u{fffd}".as_bytes(),
        b"\xf0\x9f",
        "\u{10ffff}".as_bytes(),
    ]
    .concat();
    let arguments: [&[u8]; 5] = [b"program", &mixed, "\u{fffd}".as_bytes(), b"\xff\n\"\\", b""];
    let mut request = request(context, &program.path, &arguments);
    request.env.insert(bytes("ü"), bytes(b"\xfc\xc3\xbc".as_slice()));
    travels_plainly(context, &mut scene, &program, &request)?;
    scene.finish()
}

/// The digits of an escape may be written in capitals, and everything else may be an escape too.
fn escapes_in_capitals(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let arguments: [&[u8]; 3] = [b"a\xff", b"\xab\xcd\xefb", b"\x80\x80"];
    let meant = request(context, &program.path, &arguments);
    let payload = meant.encode();
    let argv = r#"["\u0061\uDCFF","\uDCAB\udcCD\uDcEfb","\udC80\uDc80"]"#;
    let plain = r#"["a\udcff","\udcab\udccd\udcefb","\udc80\udc80"]"#;
    if !payload.contains(plain) {
        return Err(harness(format_args!("no {plain} in {payload}")));
    }
    travels(
        context,
        &mut scene,
        &program,
        payload.replace(plain, argv).as_bytes(),
        &meant,
    )?;
    scene.finish()
}

/// A pair of surrogates is a character, also where its second half alone would be a byte.
fn surrogate_pairs(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    let pairs = r#"["\ud83d\udcff","\ud800\udc80","x\udbff\udc80y","\uD83D\uDE00"]"#;
    let characters = ["\u{1f4ff}", "\u{10080}", "x\u{10fc80}y", "😀"];
    let meant = request(context, &program.path, &characters.map(str::as_bytes));
    let payload = meant.encode().replace(&json!(characters).to_string(), pairs);
    let mut requester = scene.session.socket.open()?;
    requester.frames.send(payload.as_bytes(), &[])?;
    // It is all UTF-8, so every server has to accept it.
    let decision = scene.shim.next_decision()?;
    expect_question(&decision.question, &meant)?;
    decision.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    scene.finish()
}

/// Demands that a request with this between the quotes of a string is refused, wherever the string is.
fn expect_refused_everywhere(context: &Context, scene: &mut Stage, texts: &[&str]) -> Verdict {
    let program = Program::new(context, "never", [])?;
    let file = json!(program.text()).to_string();
    let directory = json!(scene.directory).to_string();
    for text in texts {
        let payloads = [
            format!(r#"{{"file":{file},"argv":["never","{text}"],"workdir":{directory},"env":{{}}}}"#),
            format!(r#"{{"file":"/bin/{text}","argv":["never"],"workdir":{directory},"env":{{}}}}"#),
            format!(r#"{{"file":{file},"argv":["never"],"workdir":"/{text}","env":{{}}}}"#),
            format!(r#"{{"file":{file},"argv":["never"],"workdir":{directory},"env":{{"K{text}":"V"}}}}"#),
            format!(r#"{{"file":{file},"argv":["never"],"workdir":{directory},"env":{{"K":"{text}"}}}}"#),
        ];
        for payload in payloads {
            let mut requester = scene.session.socket.open()?;
            requester.frames.send(payload.as_bytes(), &[])?;
            let why = format!("a lone surrogate that stands for no byte, in {payload}");
            scene.expect_refused(&mut requester, &why)?;
        }
    }
    program.expect_not_started()
}

/// Lone surrogates outside of U+DC80 to U+DCFF stand for nothing: not for ASCII characters, and not for U+FFFD.
fn other_lone_surrogates(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let texts = [
        r"\udc00", r"\udc2f", r"\udc41", r"\udc7f", r"\udd00", r"\udddd", r"\udfff", r"\ud800", r"\udbff",
        r"\uDC7F",
    ];
    expect_refused_everywhere(context, &mut scene, &texts)?;
    scene.finish()
}

/// Halves that are in the wrong order, or have something between them.
fn surrogates_in_no_pair(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let texts = [
        r"\udc80\ud83d",
        r"\ud83dx\udc80",
        r"\ud83d\ud83d",
        r"\ud83d\u0041",
        r"\ud83d\\udc80",
        r"\udcff\ud800x",
        r"\ud83d\n\udcff",
    ];
    expect_refused_everywhere(context, &mut scene, &texts)?;
    scene.finish()
}

/// Bytes that stand in the payload as they are: the request is refused, or nothing is put in their place.
fn raw_bytes(context: &mut Context) -> Verdict {
    const MARK: &str = "MARK";
    let mut scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "program", [])?;
    for raw in [
        b"\xff".as_slice(),
        b"\x80",
        b"\xc3",
        b"a\xe9b",
        b"\xf4\x90\x80\x80",
    ] {
        let with = |text: &[u8], in_environment: bool| {
            let mut request = request(context, &program.path, &[b"program"]);
            if in_environment {
                request.env.insert(bytes("NAME"), bytes(text));
            } else {
                request.argv.push(bytes(text));
            }
            request
        };
        for (place, in_environment) in [("argv", false), ("env", true)] {
            let payload = with(MARK.as_bytes(), in_environment).encode();
            let (before, after) = payload
                .split_once(MARK)
                .ok_or_else(|| harness(format_args!("no {MARK} in {payload}")))?;
            let mut requester = scene.session.socket.open()?;
            requester
                .frames
                .send(&[before.as_bytes(), raw, after.as_bytes()].concat(), &[])?;
            if let Some(decision) = scene.asked_or_closed(&mut requester)? {
                let asked = expect_question(&decision.question, &with(raw, in_environment));
                expect::with_input(
                    format_args!("{} as it is in {place} of the payload", shown(raw)),
                    asked,
                )?;
                decision.answer(&Answer::Deny(None))?;
            }
        }
    }
    scene.sentinel()?;
    program.expect_not_started()?;
    scene.finish()
}

/// Random arguments and variables.
fn any_request(context: &mut Context) -> Verdict {
    let scene = std::cell::RefCell::new(Stage::new(context)?.decide_by_hand());
    let program = Program::new(context, "program", [])?;
    let strategy = (
        vec(vec(1_u8.., 0..20), 1..6),
        btree_map(vec(0x80_u8.., 1..6), vec(1_u8.., 0..20), 0..5),
    );
    property::holds(context, &strategy, |(arguments, environment)| {
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let mut request = request(context, &program.path, &arguments);
        request.env = environment
            .into_iter()
            .map(|(name, value)| (Bytes(name), Bytes(value)))
            .collect();
        travels_plainly(context, &mut scene.borrow_mut(), &program, &request)
    })?;
    scene.into_inner().finish()
}
