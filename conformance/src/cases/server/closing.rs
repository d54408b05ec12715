//! The end of a session: its requests, its escalated children and its listener end with it, by closing and by
//! cancelling the parent token.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Decision, ProbeSession, Shim};
use crate::peer::program::{ConnectedProgram, Program};
use crate::peer::wire::{Received, frame};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::stage::descriptors::{null, objects, watched_pipes};
use crate::stage::server::{Escalated, Stage};
use crate::system::process;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.close.worker/late-answers", late_answers),
    case("teardown.close.worker/every-phase", every_phase),
    case("teardown.close.worker/policy-that-never-answers", policy_that_never_answers),
    case("teardown.close.worker/sixty-four-pending", sixty_four_pending),
    case("teardown.close.worker/stalled-reader", stalled_reader),
    case("teardown.close.child/killed", killed),
    case("teardown.close.child/reaped", reaped),
    case("teardown.close.child/ignores-signals", ignores_signals),
    case("teardown.close.child/handles-term", handles_term),
    case("teardown.close.child/stopped", stopped),
    case("teardown.close.child/many", many),
    case("teardown.close.child/reads-its-input", reads_its_input),
    case("teardown.close.listener/no-more", no_more),
    case("teardown.close.listener/queued-datagrams", queued_datagrams),
    case("teardown.close.listener/restart", restart),
    case("teardown.cancel/requests", cancel_requests).needs("cancel"),
    case("teardown.cancel/children", cancel_children).needs("cancel"),
    case("teardown.cancel/late-answer", cancel_late_answer).needs("cancel"),
    case("teardown.cancel/before-the-spawn", cancel_before_the_spawn).needs("cancel"),
    case("teardown.cancel/other-sessions-live", cancel_other_sessions_live).needs("cancel"),
    case("teardown.cancel/then-close", cancel_then_close).at(Level::Faithful).needs("cancel"),
]);

/// How a session is ended.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Close,
    Cancel,
}

impl Way {
    fn end(self, stage: &mut Stage) -> Verdict {
        match self {
            Way::Close => stage.close_session(),
            Way::Cancel => stage.cancel_session(),
        }
    }
}

/// Handshakes that wait on the socket when its session ends.
const QUEUED: usize = 20;

/// A session of its own that proves that the server serves, and that nothing else has been asked.
struct Sentinel {
    session: ProbeSession,
    program: Program,
}

impl Sentinel {
    fn new(context: &Context, shim: &mut Shim) -> Result<Sentinel, CaseError> {
        let session = shim.probe_session(context, "sentinel")?;
        let program = Program::new(context, "program-of-the-sentinel", [Act::Exit(77)])?;
        Ok(Sentinel { session, program })
    }

    /// A whole escalation in the other session, whose question is the next one.
    fn served(&mut self, shim: &Shim) -> Verdict {
        self.served_beside(shim, |other| {
            let session = &*other.question.session;
            expect::equal("session of the next question", "sentinel", session)
        })
    }

    /// A whole escalation in the other session; `hear` gets the questions of others that come before its own.
    fn served_beside(&mut self, shim: &Shim, mut hear: impl FnMut(Decision) -> Verdict) -> Verdict {
        let mut requester = self.session.socket.open()?;
        requester.request(&RequestMessage::new(self.program.text(), &["sentinel"], "/"))?;
        let decision = loop {
            let decision = shim.next_decision()?;
            if &*decision.question.session == "sentinel" {
                break decision;
            }
            hear(decision)?;
        };
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let null = null()?;
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        requester.expect_exit_code(77)
    }
}

/// A request that waits for its decision ends with the cancelling.
fn cancel_requests(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh", "-c", "exit 1"]);
    let (mut requester, _decision) = stage.ask(&request)?;
    stage.cancel_session()?;
    requester.frames.expect_end("its session has ended")?;
    stage.finish()
}

/// Answers that come after the end start nothing, and don't confuse the server.
fn late_answers_start_nothing(context: &Context, way: Way) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "late")?;
    let null = null()?;
    let mut pending = Vec::new();
    for answer in [Answer::Escalate, Answer::Run, Answer::Deny(None), Answer::Fail] {
        let request = stage.request(program.text(), &["late"]);
        let (requester, decision) = stage.ask(&request)?;
        pending.push((requester, decision, answer));
    }
    way.end(&mut stage)?;
    for (mut requester, decision, answer) in pending {
        requester.frames.expect_end("its session has ended")?;
        decision.answer(&answer)?;
        // A wrapper that had the descriptor message on its way all the same.
        let message = frame(br#"{"fds":[0,1,2]}"#);
        let _ = requester.frames.try_send_bytes(&message, &[null.as_raw_fd(); 3]);
    }
    // Two in a row: the first may overtake a program that has just been started.
    sentinel.served(&stage.shim)?;
    sentinel.served(&stage.shim)?;
    program.expect_no_start()?;
    stage.finish()
}

/// Answers that come after closing start nothing.
fn late_answers(context: &mut Context) -> Verdict {
    late_answers_start_nothing(context, Way::Close)
}

/// Answers that come after cancelling start nothing.
fn cancel_late_answer(context: &mut Context) -> Verdict {
    late_answers_start_nothing(context, Way::Cancel)
}

/// A stream ends in whichever phase it is, and the descriptors that had come with half a frame are closed.
fn every_phase(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh"]);
    let bytes = frame(request.value().to_string().as_bytes());
    let mut streams: Vec<(&str, Requester)> = Vec::new();
    streams.push(("after the handshake", stage.session.socket.open()?));
    for (name, length) in [("half a length", 2), ("no payload", 4), ("half a payload", 20)] {
        let mut requester = stage.session.socket.open()?;
        requester.frames.send_bytes(&bytes[..length], &[])?;
        requester.frames.drained()?;
        streams.push((name, requester));
    }
    let (requester, _pending) = stage.ask(&request)?;
    streams.push(("the policy is deciding", requester));
    let (watch, pipes) = watched_pipes(3)?;
    for (name, length) in [
        ("the descriptor message is awaited", 0),
        ("half a descriptor message", 9),
    ] {
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let message = frame(br#"{"fds":[0,1,2]}"#);
        let numbers: Vec<i32> = objects(&pipes).iter().map(|pipe| pipe.number()).collect();
        if length > 0 {
            requester.frames.send_bytes(&message[..length], &numbers)?;
            requester.frames.drained()?;
        }
        streams.push((name, requester));
    }
    drop(pipes);
    stage.close_session()?;
    for (name, requester) in &mut streams {
        requester
            .frames
            .expect_end(&format!("its session has ended ({name})"))?;
    }
    watch.expect_closed("the server", stage.patience())?;
    stage.shim.expect_no_decision()?;
    stage.finish()
}

/// A policy that never answers holds up neither the closing nor what comes after it.
fn policy_that_never_answers(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh"]);
    let (mut requester, _never) = stage.ask(&request)?;
    stage.close_session()?;
    requester.frames.expect_end("its session has ended")?;
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    sentinel.served(&stage.shim)?;
    stage.finish()
}

/// All of many pending requests end.
fn sixty_four_pending(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut pending = Vec::new();
    for index in 0..64 {
        let request = stage.request("/bin/sh", &["sh", &index.to_string()]);
        pending.push(stage.ask(&request)?);
    }
    stage.close_session()?;
    for (requester, _) in &mut pending {
        requester.frames.expect_end("its session has ended")?;
    }
    stage.finish()
}

/// A wrapper that doesn't read its long denial doesn't hold up the closing; its stream ends.
fn stalled_reader(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["sh"]);
    let (requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Deny(Some("r".repeat(8 << 20))))?;
    stage.sentinel()?;
    stage.close_session()?;
    // What lies in the socket is read, and then there is the end: no whole frame comes.
    let stream = requester.frames.socket().try_clone()?;
    let read = crate::peer::wire::read_to_end(stream, Instant::now() + stage.patience())?;
    let length = read.map(|bytes| bytes.len());
    expect::that(
        length.is_some_and(|length| length < 8 << 20),
        "the stream ends though its reader has stalled",
        format_args!("{length:?} bytes (none: still open)"),
    )?;
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    sentinel.served(&stage.shim)?;
    stage.finish()
}

/// Demands that a process is neither running nor a zombie. The shim lives meanwhile.
fn expect_reaped(pid: i32, patience: Duration) -> Verdict {
    let deadline = Instant::now() + patience;
    loop {
        match process::state(pid) {
            None => return Ok(()),
            // Nobody tells when somebody else's child is reaped; yield and look again.
            Some(_) if Instant::now() < deadline => std::thread::yield_now(),
            Some(state) => {
                return Err(violation(
                    format_args!("process {pid} is reaped"),
                    format_args!("it is in state {} under parent {}", state.state, state.parent),
                ));
            }
        }
    }
}

/// Starts a child, prepares it, ends the session, and demands that it is gone, reaped, and its stream at its end.
fn child_ends(
    context: &Context,
    way: Way,
    prepare: impl FnOnce(&mut crate::peer::program::Probe) -> Verdict,
) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        mut child,
    } = stage.start(&program)?;
    prepare(&mut child)?;
    let handle = child.process()?;
    way.end(&mut stage)?;
    handle.expect_end(
        "the escalated child of a session that has ended",
        stage.patience(),
    )?;
    expect_reaped(child.report.pid, stage.patience())?;
    expect_ended_child_stream(&mut requester)?;
    stage.finish()
}

/// The stream of a child that was killed by the end of its session ends; a result before it is no lie.
fn expect_ended_child_stream(requester: &mut Requester) -> Verdict {
    match requester.frames.receive()? {
        Received::Frame(frame) => {
            let message = frame.json()?;
            expect::that(
                message["exit_code"].as_i64().is_some_and(|code| code != 0),
                "no success for a child that was killed",
                &message,
            )?;
            requester.frames.expect_end("its session has ended")
        }
        Received::End { bytes: 0 } => Ok(()),
        other => Err(violation("the end of the stream", format_args!("{other:?}"))),
    }
}

/// An escalated child is killed.
fn killed(context: &mut Context) -> Verdict {
    child_ends(context, Way::Close, |_| Ok(()))
}

/// No zombie of any of ten children is left while the server lives.
fn reaped(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let mut children = Vec::new();
    for _ in 0..10 {
        children.push(stage.start(&program)?);
    }
    stage.close_session()?;
    for Escalated { child, .. } in &children {
        expect_reaped(child.report.pid, stage.patience())?;
    }
    let zombies: Vec<_> = process::descendants(stage.shim.process.pid.as_raw())
        .into_iter()
        .filter(|process| process.state == 'Z')
        .map(|process| process.pid)
        .filter(|pid| children.iter().any(|one| one.child.report.pid == *pid))
        .collect();
    expect::equal("zombies among the session's children", Vec::<i32>::new(), zombies)?;
    stage.finish()
}

/// A child that ignores SIGTERM, SIGHUP and SIGINT is killed.
fn ignores_signals(context: &mut Context) -> Verdict {
    child_ends(context, Way::Close, |child| {
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            child.must(&Order::Ignore(signal))?;
        }
        Ok(())
    })
}

/// A child that handles SIGTERM and goes on is killed.
fn handles_term(context: &mut Context) -> Verdict {
    child_ends(context, Way::Close, |child| {
        child.must(&Order::Watch(vec![libc::SIGTERM, libc::SIGHUP, libc::SIGINT]))
    })
}

/// A stopped child is killed.
fn stopped(context: &mut Context) -> Verdict {
    let patience = context.patience();
    child_ends(context, Way::Close, |child| {
        let pid = child.report.pid;
        child.process()?.signal(libc::SIGSTOP)?;
        let deadline = Instant::now() + patience;
        while process::state(pid).is_none_or(|state| state.state != 'T') {
            if Instant::now() >= deadline {
                return Err(violation("the child is stopped by SIGSTOP", "it is not"));
            }
            std::thread::yield_now();
        }
        Ok(())
    })
}

/// Each of 32 children is killed.
fn many(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "child")?;
    let mut children = Vec::new();
    for _ in 0..32 {
        let Escalated { requester, child } = stage.start(&program)?;
        children.push((requester, child.process()?, child));
    }
    stage.close_session()?;
    for (requester, handle, child) in &mut children {
        handle.expect_end("each of 32 escalated children", stage.patience())?;
        expect_reaped(child.report.pid, stage.patience())?;
        expect_ended_child_stream(requester)?;
    }
    stage.finish()
}

/// A child that waits for input, or writes to somebody who doesn't read, is killed too.
fn reads_its_input(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let (reader, input_writer) = crate::system::launch::pipe()?;
    let (output_reader, writer) = crate::system::launch::pipe()?;
    let mut children = Vec::new();
    let scripts = [
        "echo started >&2; cat",
        "echo started >&2; while :; do echo more; done",
    ];
    for script in scripts {
        let request = stage
            .request("/bin/sh", &["sh", "-c", script])
            .variable("PATH", "/usr/bin:/bin");
        let (error, error_writer) = crate::system::launch::pipe()?;
        let placements = [(0, &reader as _), (1, &writer as _), (2, &error_writer as _)];
        let requester = stage.escalate_request(&request, &placements)?;
        drop(error_writer);
        children.push((requester, error));
    }
    drop((reader, writer));
    for (_, error) in &mut children {
        let mut line = [0; 8];
        std::io::Read::read_exact(error, &mut line)?;
    }
    stage.close_session()?;
    for (requester, error) in &mut children {
        expect_ended_child_stream(requester)?;
        // Whoever of the tree lived would still hold it.
        let rest = crate::peer::wire::read_to_end(&*error, Instant::now() + stage.patience())?;
        expect::that(
            rest.is_some(),
            "nobody of the tree holds its standard error",
            "somebody does",
        )?;
    }
    drop((input_writer, output_reader));
    stage.finish()
}

/// Demands that a handshake fails, or that its stream ends without an answer.
fn expect_not_served(socket: &mut EscalationSocket, patience: Duration) -> Verdict {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    if socket.try_datagram(&[0], &[&theirs]).is_err() {
        return Ok(());
    }
    drop(theirs);
    let text = RequestMessage::new("/bin/sh", &["sh", "too late"], "/")
        .value()
        .to_string();
    let _ = std::io::Write::write_all(&mut &ours, &frame(text.as_bytes()));
    let deadline = Instant::now() + patience;
    match crate::peer::wire::read_to_end(&ours, deadline) {
        Ok(Some(bytes)) => expect::equal("bytes before the end of the stream", 0, bytes.len()),
        Ok(None) => Err(violation(
            "the end of a stream that nobody serves",
            "it stays open",
        )),
        // Closed with the request unread, which the kernel reports as a reset.
        Err(_) => Ok(()),
    }
}

/// After closing a handshake is an error, or its stream ends; the policy isn't asked.
fn no_more(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    stage.sentinel()?;
    stage.close_session()?;
    for _ in 0..3 {
        expect_not_served(&mut stage.session.socket, context.patience())?;
    }
    sentinel.served(&stage.shim)?;
    stage.finish()
}

/// Handshakes that lay in the queue when the session was closed come to their end, and a question about one that
/// comes all the same starts nothing, whatever its answer.
fn queued_datagrams(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "queued")?;
    let text = RequestMessage::new(program.text(), &["queued"], "/")
        .value()
        .to_string();
    stage.shim.process.signal(libc::SIGSTOP)?;
    let mut queued = Vec::new();
    for _ in 0..QUEUED {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        std::io::Write::write_all(&mut &ours, &frame(text.as_bytes()))?;
        stage.session.socket.datagram(&[0], &[&theirs])?;
        queued.push(ours);
    }
    let close = stage
        .shim
        .send("session/close", json!({"session": stage.session.name}))?;
    stage.shim.process.signal(libc::SIGCONT)?;
    stage
        .shim
        .answer_to(close, "session/close")?
        .map_err(|error| violation("session/close succeeds", format_args!("{error:?}")))?;
    let deadline = Instant::now() + stage.patience();
    for stream in &queued {
        // Readable is enough: the end of file, or the reset of a stream that was closed with its request unread.
        expect::that(
            crate::system::poll::readable_until(stream, deadline)?,
            "the stream of a queued handshake ends with its session",
            "it stays open",
        )?;
        let mut byte = [0];
        if let Ok(1) = std::io::Read::read(&mut &*stream, &mut byte) {
            return Err(violation("no answer to a queued handshake", "bytes"));
        }
    }
    // A server may have taken some before it read that the session is over, and may only then come to ask about
    // them. However late such a question is, its answer starts nothing.
    let mut late = 0;
    let name = stage.session.name.clone();
    let mut answer = |decision: Decision| {
        late += 1;
        expect::equal(
            "session of a late question",
            name.as_str(),
            &*decision.question.session,
        )?;
        decision.answer(&Answer::Escalate)
    };
    sentinel.served_beside(&stage.shim, &mut answer)?;
    sentinel.served_beside(&stage.shim, &mut answer)?;
    program.expect_no_start()?;
    expect::that(
        late <= QUEUED,
        format_args!("at most {QUEUED} questions about {QUEUED} requests"),
        format_args!("{late}"),
    )?;
    stage.finish()
}

/// A session that starts after the end of another one serves, and doesn't revive the other's socket.
fn restart(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    stage.sentinel()?;
    stage.close_session()?;
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    sentinel.served(&stage.shim)?;
    expect_not_served(&mut stage.session.socket, context.patience())?;
    sentinel.served(&stage.shim)?;
    stage.finish()
}

/// Cancelling kills and reaps a child that ignores SIGTERM.
fn cancel_children(context: &mut Context) -> Verdict {
    child_ends(context, Way::Cancel, |child| {
        child.must(&Order::Ignore(libc::SIGTERM))
    })
}

/// A session that is cancelled before its shell was spawned serves nobody: the spawn fails, or the socket is dead.
fn cancel_before_the_spawn(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let mut sentinel = Sentinel::new(context, &mut shim)?;
    let program = ConnectedProgram::new(context, "shell")?;
    let overlay = shim.start_session("main", program.text(), "/opt/wrapper")?;
    shim.cancel_session("main")?;
    let directory = context.work_directory();
    let params = json!({"session": "main", "argv": [program.text()], "cwd": directory, "env": {}});
    let id = shim.send("session/spawn", params)?;
    if shim.answer_to(id, "session/spawn")?.is_ok() {
        let mut probe = program.accept("the spawned shell")?;
        let number = overlay.socket_number()?;
        if let Ok(socket) = probe.take_descriptor(number) {
            let patience = context.patience();
            let mut socket = EscalationSocket::new(socket, context.transcript.clone(), patience);
            expect_not_served(&mut socket, patience)?;
        }
    }
    sentinel.served(&shim)?;
    shim.shutdown()
}

/// A session that has another parent token is not disturbed.
fn cancel_other_sessions_live(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut other = stage.shim.probe_session(context, "other")?;
    let request = RequestMessage::new("/bin/sh", &["sh", "kept"], "/");
    let mut kept = other.socket.open()?;
    kept.request(&request)?;
    let kept_decision = stage.shim.next_decision()?;
    let request = stage.request("/bin/sh", &["sh", "ended"]);
    let (mut ended, _never) = stage.ask(&request)?;
    stage.cancel_session()?;
    ended.frames.expect_end("its session was cancelled")?;
    kept_decision.answer(&Answer::Run)?;
    kept.expect_action(&json!("Run"))?;
    stage.finish()
}

/// Closing after cancelling, and once more, disturbs nobody.
fn cancel_then_close(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut sentinel = Sentinel::new(context, &mut stage.shim)?;
    let program = ConnectedProgram::new(context, "child")?;
    let Escalated {
        requester: _requester,
        child,
    } = stage.start(&program)?;
    let handle = child.process()?;
    stage.cancel_session()?;
    handle.expect_end("the escalated child", stage.patience())?;
    stage.close_session()?;
    for method in ["session/close", "session/cancel"] {
        let id = stage.shim.send(method, json!({"session": stage.session.name}))?;
        // Whether an ended session is still known is the shim's affair; that it answers is not.
        let _: Result<Value, _> = stage.shim.answer_to(id, method)?;
    }
    sentinel.served(&stage.shim)?;
    stage.finish()
}
