//! Malformed messages on their way to a server: the stream is closed, the policy isn't asked, nothing runs.

use std::os::fd::{AsRawFd, RawFd};

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::peer::program::{ConnectedProgram, Program};
use crate::spec::requirements::Role;
use crate::stage::descriptors::{null, watched_pipes};
use crate::stage::server::{Escalated, Stage};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("wire.malformed/request-that-is-no-json", request_that_is_no_json),
    case("wire.malformed/request-in-lax-json", request_in_lax_json),
    case("wire.malformed/data-after-the-request", data_after_the_request),
    case("wire.malformed/request-not-in-utf-8", request_not_in_utf_8),
    case("wire.malformed/request-that-is-no-object", request_that_is_no_object),
    case("wire.malformed/file-of-wrong-type", file_of_wrong_type),
    case("wire.malformed/argv-of-wrong-type", argv_of_wrong_type),
    case("wire.malformed/workdir-of-wrong-type", workdir_of_wrong_type),
    case("wire.malformed/env-of-wrong-type", env_of_wrong_type),
    case("wire.malformed/nul-in-a-string", nul_in_a_string),
    case("wire.malformed/control-character-in-a-known-string", control_character_in_a_known_string),
    case("wire.malformed/known-names-that-go-on-after-a-nul", names_that_go_on_after_a_nul),
    case("wire.malformed/relative-workdir", relative_workdir),
    case("wire.malformed/among-good-requests", among_good_requests),
    case("wire.malformed/descriptor-message-that-is-no-json", descriptor_message_that_is_no_json),
    case("wire.malformed/descriptor-message-of-wrong-type", descriptor_message_of_wrong_type),
    case("wire.malformed/signal-frame-of-wrong-type", signal_frame_of_wrong_type).needs("signals").within_seconds(60),
]);

/// A scene, and a program that no malformed request may start.
fn scene_with_program(context: &Context) -> Result<(Stage, Program), crate::verdict::CaseError> {
    let scene = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "never", [])?;
    Ok((scene, program))
}

/// A request for the program that is right in everything.
fn right_request(scene: &Stage, program: &Program) -> RequestMessage {
    scene.request(program.text(), &["never", "x"]).variable("K", "V")
}

/// Demands that each payload, none of which is a request, is refused.
fn expect_each_refused(
    scene: &mut Stage,
    program: &Program,
    payloads: impl IntoIterator<Item = Vec<u8>>,
) -> Verdict {
    for payload in payloads {
        let mut requester = scene.session.socket.open()?;
        requester.frames.send(&payload, &[])?;
        let why = format!("malformed request {}", crate::transcript::shown(&payload));
        scene.expect_refused(&mut requester, &why)?;
    }
    program.expect_not_started()
}

/// The same of the right request with each of these values as `member`, and without that member.
fn expect_each_value_refused(context: &Context, member: &str, values: &[Value]) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program);
    let wrong = values
        .iter()
        .map(|value| right.clone().member(member, value.clone()))
        .chain([right.clone().without_member(member)]);
    let payloads: Vec<_> = wrong.map(|request| request.value().to_string().into()).collect();
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// A NUL ends no name of JSON: a member whose name only begins like a known one is not it, and that is missing.
fn names_that_go_on_after_a_nul(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program).value().to_string();
    let payloads: Vec<Vec<u8>> = ["file", "argv", "workdir", "env"]
        .iter()
        .flat_map(|name| {
            let name = format!("\"{name}\":");
            ["\\u0000\":", "\\u0000x\":"].map(|rest| {
                let longer = format!("{}{rest}", &name[..name.len() - 2]);
                right.replace(&name, &longer).into()
            })
        })
        .collect();
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// An empty payload, words, JSON that was cut off.
fn request_that_is_no_json(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program).value().to_string();
    let mut payloads: Vec<Vec<u8>> = ["", " ", "\n", "nope", "{", "\"", "{}}", "\0", "file=/bin/sh"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    for length in [1, right.len() / 2, right.len() - 2, right.len() - 1] {
        payloads.push(right.as_bytes()[..length].to_vec());
    }
    let utf_16 = right.encode_utf16().flat_map(u16::to_le_bytes).collect();
    payloads.push(utf_16);
    payloads.push(format!(",{right}").into());
    // White space of isspace(3), and not of JSON.
    payloads.push(format!("\u{c}{right}").into());
    payloads.push(format!("{right}\u{b}").into());
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// What some parsers take for JSON, as the value of a member that would be ignored.
const LAX: [&str; 27] = [
    "01",
    "+1",
    ".5",
    "1.",
    "-",
    "1e",
    "0x10",
    "NaN",
    "Infinity",
    "undefined",
    "True",
    "nul",
    "'text'",
    "\"\\x41\"",
    "\"\\u12\"",
    "\"a\nb\"",
    "\"a\u{1}b\"",
    "\"unclosed",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "{\"a\":1,}",
    "{a:1}",
    "{\"a\" 1}",
    "{\"a\"}",
    "/* remark */ 1",
];

/// What is almost JSON is not JSON, not even in an unknown member.
fn request_in_lax_json(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program).value().to_string();
    let payloads = LAX.map(|value| format!("{{\"unknown\":{value},{}", &right[1..]).into());
    expect_each_refused(&mut scene, &program, payloads)?;
    let trailing_comma = format!("{},}}", &right[..right.len() - 1]);
    expect_each_refused(&mut scene, &program, [trailing_comma.into()])?;
    scene.finish()
}

/// Anything but white space after the value.
fn data_after_the_request(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program).value().to_string();
    let payloads = ["x", "{}", "null", " 1", "]", "}", ",", "\0", "\n#", &right]
        .map(|after| format!("{right}{after}").into_bytes());
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// Bytes that are not UTF-8: in a known member, in an unknown one, in a name.
fn request_not_in_utf_8(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program)
        .member("argv", json!(["never", "MARK"]))
        .value()
        .to_string();
    let in_unknown = format!("{{\"unknown\":\"MARK\",{}", &right[1..].replace("MARK", "x"));
    let in_name = format!("{{\"unMARKknown\":1,{}", &right[1..].replace("MARK", "x"));
    let wrong: [&[u8]; 6] = [
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xc0\xaf",
        b"\xed\xb3\xbf",
        b"\xf4\x90\x80\x80",
    ];
    for text in [right, in_unknown, in_name] {
        let at = text.find("MARK").unwrap_or_default();
        let (before, after) = (&text.as_bytes()[..at], &text.as_bytes()[at + 4..]);
        let payloads = wrong.map(|bytes| [before, bytes, after].concat());
        expect_each_refused(&mut scene, &program, payloads)?;
    }
    scene.finish()
}

/// A list of the members' values, and other values, in place of the message object.
fn request_that_is_no_object(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program).value();
    let members = ["file", "argv", "workdir", "env"].map(|name| right[name].clone());
    let values = [
        json!(members),
        json!([right]),
        json!([]),
        json!({}),
        json!(null),
        json!(true),
        json!(0),
        json!(right.to_string()),
    ];
    let payloads = values.map(|value| value.to_string().into());
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// `file` is a text.
fn file_of_wrong_type(context: &mut Context) -> Verdict {
    let values = [
        json!(null),
        json!(true),
        json!(7),
        json!(["/bin/sh"]),
        json!({"path": "/bin/sh"}),
    ];
    expect_each_value_refused(context, "file", &values)
}

/// `argv` is a list of texts.
fn argv_of_wrong_type(context: &mut Context) -> Verdict {
    let values = [
        json!(null),
        json!(true),
        json!(7),
        json!("never"),
        json!({"0": "never"}),
        json!(["never", 7]),
        json!(["never", null]),
        json!(["never", true]),
        json!(["never", ["x"]]),
        json!([{"never": "x"}]),
    ];
    expect_each_value_refused(context, "argv", &values)
}

/// `workdir` is a text.
fn workdir_of_wrong_type(context: &mut Context) -> Verdict {
    let values = [json!(null), json!(false), json!(0), json!(["/"]), json!({})];
    expect_each_value_refused(context, "workdir", &values)
}

/// `env` is an object of texts.
fn env_of_wrong_type(context: &mut Context) -> Verdict {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!("K=V"),
        json!([]),
        json!(["K=V"]),
        json!([["K", "V"]]),
        json!({"K": null}),
        json!({"K": 1}),
        json!({"K": true}),
        json!({"K": ["V"]}),
        json!({"K": {}}),
        json!({"A": "a", "K": null}),
    ];
    expect_each_value_refused(context, "env", &values)
}

/// No string of a request can hold a NUL: as an argument or a name it would end there.
fn nul_in_a_string(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program);
    let file = program.text();
    let directory = scene.directory.clone();
    let table = [
        ("file", json!(format!("{file}\0"))),
        ("file", json!(format!("{file}\0x"))),
        ("argv", json!(["never\0", "x"])),
        ("argv", json!(["never", "x\0y"])),
        ("argv", json!(["never", "\0"])),
        ("workdir", json!(format!("{directory}\0"))),
        ("workdir", json!(format!("{directory}\0/x"))),
        ("env", json!({"K\0": "V"})),
        ("env", json!({"K\0L": "V"})),
        ("env", json!({"K": "V\0"})),
        ("env", json!({"K": "V\0W"})),
    ];
    let payloads: Vec<_> = table
        .into_iter()
        .map(|(member, value)| right.clone().member(member, value).value().to_string().into())
        .collect();
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// Control characters that are not escaped (RFC 8259, section 7), in the strings of a request and in the names of its members.
fn control_character_in_a_known_string(context: &mut Context) -> Verdict {
    const MARK: &str = "MARK";
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program);
    let file = format!("{}{MARK}", program.text());
    let marked = [
        right.clone().member("file", json!(file)),
        right.clone().member("argv", json!(["never", "xMARKy"])),
        right
            .clone()
            .member("workdir", json!(format!("{}/MARK", scene.directory))),
        right.clone().member("env", json!({"K": "VMARK"})),
        right.clone().member("env", json!({"KMARK": "V"})),
        right.clone().member("unknownMARK", json!(1)),
    ];
    let payloads: Vec<Vec<u8>> = marked
        .iter()
        .flat_map(|request| {
            let text = request.value().to_string();
            ["\0", "\u{1}", "\t", "\n", "\r", "\u{1b}", "\u{1f}"]
                .map(|control| text.replace(MARK, control).into_bytes())
        })
        .collect();
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// A working directory that is not an absolute path: relative ones exist where the server runs, and in the request's.
fn relative_workdir(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let right = right_request(&scene, &program);
    let payloads: Vec<_> = ["", ".", "..", "work", "./work", "~", "~root", " /", "file:///"]
        .into_iter()
        .map(|workdir| right.clone().member("workdir", json!(workdir)))
        .map(|request| request.value().to_string().into())
        .collect();
    expect_each_refused(&mut scene, &program, payloads)?;
    scene.finish()
}

/// Malformed requests disturb neither pending decisions nor running children.
fn among_good_requests(context: &mut Context) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    let running = ConnectedProgram::new(context, "running")?;
    let Escalated {
        requester: mut parent,
        mut child,
    } = scene.start(&running)?;
    let good = scene.request("/bin/sh", &["pending"]);
    let (mut pending, decision) = scene.ask(&good)?;
    let payloads = ["", "nope", "[]", "{\"file\":1}"].map(|text| text.as_bytes().to_vec());
    expect_each_refused(&mut scene, &program, payloads)?;
    decision.answer(&Answer::Deny(Some("later".to_owned())))?;
    pending.expect_action(&json!({"Deny": {"reason": "later"}}))?;
    child.send(&crate::probe::remote::Order::Exit(9))?;
    parent.expect_exit_code(9)?;
    scene.finish()
}

/// Sends each payload, with the ends of three pipes, in place of a descriptor message: no child, and no copy of a
/// pipe's end stays.
fn expect_each_descriptor_message_refused(context: &Context, payloads: &[&[u8]]) -> Verdict {
    let (mut scene, program) = scene_with_program(context)?;
    for payload in payloads {
        let request = right_request(&scene, &program);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let (watch, pipes) = watched_pipes(3)?;
        let numbers: Vec<RawFd> = pipes.iter().map(AsRawFd::as_raw_fd).collect();
        requester.frames.send(payload, &numbers)?;
        drop(pipes);
        let why = format!("descriptor message {}", crate::transcript::shown(payload));
        scene.expect_refused(&mut requester, &why)?;
        watch.expect_closed(&format!("the server, after {why},"), scene.patience())?;
        program.expect_not_started()?;
    }
    scene.finish()
}

/// A descriptor message that is not JSON, or has something after it.
fn descriptor_message_that_is_no_json(context: &mut Context) -> Verdict {
    expect_each_descriptor_message_refused(
        context,
        &[
            b"",
            b" ",
            b"nope",
            b"{\"fds\":[0,1,2]",
            b"{\"fds\":[0,1,2,]}",
            b"{\"fds\":[00,1,2]}",
            b"{\"fds\":[0,1,2]}x",
            b"{\"fds\":[0,1,2]}{}",
            b"{\"fds\":[0,1,2],\"x\":\"\xff\"}",
        ],
    )
}

/// A descriptor message without a list of integers.
fn descriptor_message_of_wrong_type(context: &mut Context) -> Verdict {
    expect_each_descriptor_message_refused(
        context,
        &[
            b"{}",
            b"null",
            b"[0,1,2]",
            b"[[0,1,2]]",
            b"{\"fds\":null}",
            b"{\"fds\":3}",
            b"{\"fds\":\"012\"}",
            b"{\"fds\":{\"0\":0,\"1\":1,\"2\":2}}",
            b"{\"fds\":[\"0\",\"1\",\"2\"]}",
            b"{\"fds\":[0,1,null]}",
            b"{\"fds\":[0,true,2]}",
            b"{\"fds\":[[0],1,2]}",
            b"{\"fds\":[0,1,2.5]}",
        ],
    )
}

/// A frame in place of a signal frame that means nothing ends the request and its child.
fn signal_frame_of_wrong_type(context: &mut Context) -> Verdict {
    let mut scene = Stage::new(context)?.decide_by_hand();
    let payloads = [
        "",
        "nope",
        "{}",
        "null",
        "[15]",
        "{\"signal\":\"15\"}",
        "{\"signal\":null}",
        "{\"signal\":[15]}",
        "{\"signal\":1.5}",
        "{\"signal\":15}x",
    ];
    let null = null()?;
    for (index, payload) in payloads.into_iter().enumerate() {
        let program = ConnectedProgram::new(context, &format!("child-{index}"))?;
        let request = scene.request(program.text(), &[program.text()]);
        let (mut requester, decision) = scene.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        requester
            .send_descriptors_with(&[(0, &null), (1, &null), (2, &null)], &[("signals", json!(true))])?;
        let mut child = program.accept("the escalated child")?;
        requester.frames.send(payload.as_bytes(), &[])?;
        let why = format!("{payload:?} is not a signal frame");
        scene.expect_refused(&mut requester, &why)?;
        child.expect_gone("the escalated child of a request that was closed")?;
    }
    scene.finish()
}
