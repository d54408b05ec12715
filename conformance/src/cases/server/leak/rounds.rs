//! After thousands of requests of every decision and every failure, the server holds what it held before.

use std::fs::File;
use std::os::fd::AsRawFd;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, RequestMessage, Requester};
use crate::peer::harness::Answer;
use crate::peer::wire::{frame, read_whole};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::full_pipe;
use crate::stage::descriptors::null;
use crate::stage::holdings::Rounds;
use crate::stage::server::Stage;
use crate::system::holders::of_other_end;
use crate::system::launch::pipe;
use crate::system::tiny::{self, Kind};
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.leak/decisions", decisions).within_seconds(120),
    case("server.leak/bad-handshakes", bad_handshakes).within_seconds(120),
    case("server.leak/broken-requests", broken_requests).within_seconds(120),
    case("server.leak/withdrawn-requests", withdrawn_requests).within_seconds(120),
    case("server.leak/children", children).within_seconds(120),
    case("server.leak/failed-children", failed_children).within_seconds(120),
    case("server.leak/ended-children", ended_children).within_seconds(120),
    case("server.leak/sessions", sessions).within_seconds(120),
    case("server.leak/one-shots", one_shots).needs("exec").within_seconds(120),
]);

/// Bytes that may remain per request: half of what counts as a leak, for the noise of allocators.
const OF_A_REQUEST: u64 = 512;

/// How many requests are open at once.
const AT_ONCE: usize = 20;

/// A stage without a transcript, which thousands of requests would flood.
fn quiet_stage(context: &mut Context) -> Result<Stage, CaseError> {
    let loud = std::mem::replace(&mut context.transcript, Transcript::new(|_| {}));
    let stage = Stage::new(context);
    context.transcript = loud;
    stage
}

/// A request of an ordinary size, which takes more than a kibibyte if a server keeps it.
fn request(stage: &Stage, file: &str) -> RequestMessage {
    stage
        .request_for(file)
        .variable("SOME_VARIABLE", &"some value of it ".repeat(100))
}

/// Requests that are decided on and completed.
fn decisions(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 1_500;
    let mut stage = quiet_stage(context)?;
    let mut number = 0;
    stage.shim.decide_by(move |_| {
        number += 1;
        match number % 4 {
            0 => Answer::Run,
            1 => Answer::Deny(None),
            2 => Answer::Deny(Some("a reason ".repeat(50))),
            _ => Answer::Fail,
        }
    });
    let rounds = Rounds {
        what: "requests that are run, denied or fail in the policy",
        requests: REQUESTS as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    rounds.run(context, &mut stage, |stage| {
        for _ in 0..REQUESTS / AT_ONCE {
            let mut open = opened(stage, AT_ONCE)?;
            let message = request(stage, "/nonexistent/program");
            for requester in &mut open {
                requester.request(&message)?;
            }
            for requester in open {
                until_the_end(requester)?;
            }
        }
        Ok(())
    })?;
    finish(stage)
}

fn opened(stage: &mut Stage, count: usize) -> Result<Vec<Requester>, CaseError> {
    (0..count).map(|_| stage.session.socket.open()).collect()
}

/// Reads whatever comes until the server closes the stream.
fn until_the_end(mut requester: Requester) -> Verdict {
    use crate::peer::wire::Received;
    loop {
        match requester.frames.receive()? {
            Received::Frame(_) => {}
            Received::End { .. } => return Ok(()),
            Received::Silence { .. } => {
                let holders = of_other_end(requester.frames.socket());
                return Err(violation(
                    "the server closes a stream that is over",
                    format_args!("it is still open: {holders}"),
                ));
            }
        }
    }
}

/// At the end the server still serves.
fn finish(mut stage: Stage) -> Verdict {
    stage.shim.decide_by(|_| Answer::Escalate);
    stage.sentinel()?;
    stage.finish()
}

/// Datagrams that are not handshakes, or whose descriptor is not a stream.
fn bad_handshakes(context: &mut Context) -> Verdict {
    const HANDSHAKES: usize = 1_200;
    let mut stage = quiet_stage(context)?;
    let file = context.write_file("file", b"content", 0o644)?;
    let rounds = Rounds {
        what: "bad handshakes",
        requests: HANDSHAKES as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    rounds.run(context, &mut stage, |stage| {
        for _ in 0..HANDSHAKES / 6 {
            let (reader, writer) = pipe()?;
            let (stream, other) = std::os::unix::net::UnixStream::pair()?;
            let datagram = std::os::unix::net::UnixDatagram::unbound()?;
            let regular = File::open(&file)?;
            let socket = &mut stage.session.socket;
            socket.datagram(&[0], &[])?;
            socket.datagram(&[0], &[&reader, &writer])?;
            socket.datagram(&[0], &[&regular])?;
            socket.datagram(&[0], &[&stream, &other, &reader])?;
            socket.datagram(&[0, 1, 2], &[&datagram])?;
            drop(other);
            socket.datagram(&[0], &[&stream])?;
        }
        // When this is over, the server has seen all that was sent before.
        stage.sentinel()
    })?;
    finish(stage)
}

/// Requests that are malformed, cut off or too long.
fn broken_requests(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 1_400;
    let mut stage = quiet_stage(context)?;
    let whole = frame(
        request(&stage, "/nonexistent/program")
            .value()
            .to_string()
            .as_bytes(),
    );
    let rounds = Rounds {
        what: "requests that are malformed, cut off or too long",
        requests: REQUESTS as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    rounds.run(context, &mut stage, |stage| {
        for _ in 0..REQUESTS / AT_ONCE {
            for (index, mut requester) in opened(stage, AT_ONCE)?.into_iter().enumerate() {
                let cut = whole.len() / 2;
                let (bytes, is_refused) = match index % 7 {
                    0 => (frame(b"{\"file\":"), true),
                    1 => (frame(b"[1,2,3]"), true),
                    2 => (frame(b""), true),
                    3 => (vec![0xff, 0xff, 0xff, 0xff], true),
                    4 => (whole[..cut].to_vec(), false),
                    5 => (vec![7, 0], false),
                    _ => (Vec::new(), false),
                };
                if !bytes.is_empty() {
                    requester.frames.send_bytes(&bytes, &[])?;
                }
                if is_refused {
                    until_the_end(requester)?;
                }
            }
        }
        stage.sentinel()
    })?;
    finish(stage)
}

/// Wrappers that go while the policy thinks, after Escalate, and in the descriptor message; and those whose
/// descriptors are refused.
fn withdrawn_requests(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 800;
    let mut stage = quiet_stage(context)?;
    let program = context.path("bin/never");
    tiny::write(&program, Kind::Binary, b'x', 1)?;
    let program = program.to_string_lossy().into_owned();
    let rounds = Rounds {
        what: "requests whose wrapper goes before there is a child",
        requests: REQUESTS as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    let null = null()?;
    rounds.run(context, &mut stage, |stage| {
        let message = request(stage, &program);
        for number in 0..REQUESTS / 4 {
            stage.shim.decide_by_hand();
            let mut requester = stage.session.socket.open()?;
            requester.request(&message)?;
            let decision = stage.shim.next_decision()?;
            drop(requester);
            if number % 2 == 0 {
                decision.answer(&Answer::Escalate)?;
            }
            stage.shim.decide_by(|_| Answer::Escalate);
            drop(stage.granted(&message)?);
            let mut half = stage.granted(&message)?;
            half.frames
                .send_bytes(&frame(b"{\"fds\":[0]}")[..6], &[null.as_raw_fd()])?;
            drop(half);
            let mut refused = stage.granted(&message)?;
            refused
                .frames
                .send(b"{\"fds\":[0,1,1]}", &[null.as_raw_fd(), null.as_raw_fd()])?;
            until_the_end(refused)?;
        }
        stage.sentinel()
    })?;
    finish(stage)
}

/// Children that run to their end: exits and deaths, with and without announced signals.
fn children(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 400;
    let mut stage = quiet_stage(context)?;
    let quick = context.path("bin/quick");
    tiny::write(&quick, Kind::Binary, b'q', 3)?;
    let quick = quick.to_string_lossy().into_owned();
    let null = null()?;
    let rounds = Rounds {
        what: "escalated children",
        requests: REQUESTS as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    rounds.run(context, &mut stage, |stage| {
        let message = request(stage, &quick);
        for _ in 0..REQUESTS / 4 {
            let mut started = Vec::new();
            for announced in [false, true, false, true] {
                let mut requester = stage.granted(&message)?;
                requester.send_descriptors_with(
                    &[(0, &null), (1, &null), (2, &null), (9, &null)],
                    &[("signals", json!(announced))],
                )?;
                started.push(requester);
            }
            for mut requester in started {
                requester.expect_exit_code(3)?;
            }
        }
        Ok(())
    })?;
    finish(stage)
}

/// Programs that cannot be started, each in its way.
fn failed_children(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 300;
    let mut stage = quiet_stage(context)?;
    let plain = context.write_file("bin/plain", b"no program", 0o644)?;
    let quick = context.path("bin/quick");
    tiny::write(&quick, Kind::Binary, b'q', 3)?;
    let null = null()?;
    let missing = request(&stage, "/nonexistent/program");
    let plain = request(&stage, &plain.to_string_lossy());
    let nowhere =
        request(&stage, &quick.to_string_lossy()).member("workdir", json!("/nonexistent/directory"));
    let rounds = Rounds {
        what: "programs that cannot be started",
        requests: REQUESTS as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    rounds.run(context, &mut stage, |stage| {
        for _ in 0..REQUESTS / 3 {
            for (message, codes) in [
                (&missing, [127, 127]),
                (&plain, [126, 126]),
                (&nowhere, [126, 127]),
            ] {
                let placements: [(i64, &dyn AsFdObject); 3] = [(0, &null), (1, &null), (2, &null)];
                let code = stage.result_of(message, &placements)?["exit_code"].as_i64();
                expect::that(
                    code.is_some_and(|code| codes.contains(&code)),
                    format_args!("exit_code, one of {codes:?}"),
                    shown(&code),
                )?;
            }
        }
        Ok(())
    })?;
    finish(stage)
}

/// Children that are ended by the end of their wrapper.
fn ended_children(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 300;
    let mut stage = quiet_stage(context)?;
    // It writes to a full pipe, so it runs until it is ended.
    let waiting = context.path("bin/waiting");
    tiny::write(&waiting, Kind::Binary, b'w', 3)?;
    let waiting = waiting.to_string_lossy().into_owned();
    let (_reader, full) = full_pipe()?;
    let rounds = Rounds {
        what: "children that are ended with their wrapper",
        requests: REQUESTS as u64,
        bytes_of_each: OF_A_REQUEST,
    };
    rounds.run(context, &mut stage, |stage| {
        let message = request(stage, &waiting);
        for _ in 0..REQUESTS / AT_ONCE {
            let mut ends = Vec::new();
            let mut running = Vec::new();
            for _ in 0..AT_ONCE {
                let (end, life) = pipe()?;
                let mut requester = stage.granted(&message)?;
                requester.send_descriptors(&[(1, &full), (9, &life)])?;
                running.push(requester);
                ends.push(end);
            }
            drop(running);
            for end in ends {
                let what = "the child of a closed stream ends, and with it its pipe";
                read_whole(end, what, context.patience())?;
            }
        }
        stage.sentinel()
    })?;
    finish(stage)
}

/// Sessions that are started, used and closed, and some that are never used.
fn sessions(context: &mut Context) -> Verdict {
    const SESSIONS: usize = 150;
    // A shim may remember this much of a session and its process, for later calls.
    const OF_A_SESSION: u64 = 2_048;
    let mut stage = quiet_stage(context)?;
    let shell = context.path("bin/shell");
    tiny::write(&shell, Kind::Binary, b's', 0)?;
    let shell = shell.to_string_lossy().into_owned();
    let mut number = 0;
    let rounds = Rounds {
        what: "sessions that are started and closed",
        requests: SESSIONS as u64,
        bytes_of_each: OF_A_SESSION,
    };
    rounds.run(context, &mut stage, |stage| {
        for _ in 0..SESSIONS {
            number += 1;
            let name = format!("session-{number}");
            stage.shim.start_session(&name, &shell, "/nonexistent/wrapper")?;
            if number % 3 != 0 {
                let pid = stage.shim.spawn(&name, &[&shell], &stage.directory)?;
                stage
                    .shim
                    .call("session/wait", json!({"session": name, "pid": pid}))?;
            }
            stage.shim.close_session(&name)?;
        }
        Ok(())
    })?;
    finish(stage)
}

/// One-shots that end by themselves, and some that time out.
fn one_shots(context: &mut Context) -> Verdict {
    const ONE_SHOTS: usize = 60;
    const OF_A_ONE_SHOT: u64 = 4_096;
    let mut stage = quiet_stage(context)?;
    let mut number = 0;
    let rounds = Rounds {
        what: "one-shots",
        requests: ONE_SHOTS as u64,
        bytes_of_each: OF_A_ONE_SHOT,
    };
    rounds.run(context, &mut stage, |stage| {
        for _ in 0..ONE_SHOTS / 12 {
            let mut running = Vec::new();
            for _ in 0..12 {
                number += 1;
                let mut params = json!({
                    "session": format!("one-shot-{number}"), "shell": "/bin/sh",
                    "wrapper": "/nonexistent/wrapper", "command": "echo text; exit 3",
                    "workdir": stage.directory, "env": {"PATH": "/usr/bin:/bin"}, "login": false,
                });
                let times_out = number % 3 == 0;
                if times_out {
                    params["command"] = json!("echo text; while :; do sleep 100; done");
                    params["timeout_ms"] = json!(200);
                }
                running.push((times_out, stage.shim.send("exec", params)?));
            }
            for (times_out, id) in running {
                let result = stage
                    .shim
                    .answer_to(id, "exec")?
                    .map_err(|error| violation("exec succeeds", error.message))?;
                expect::equal("timed_out", &json!(times_out), &result["timed_out"])?;
                if !times_out {
                    expect::equal("exit_code of the one-shot", &json!(3), &result["exit_code"])?;
                }
            }
        }
        Ok(())
    })?;
    finish(stage)
}
