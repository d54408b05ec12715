//! Thousands of mixed requests over twenty sessions, with closings, cancellations, dying wrappers and hostile
//! clients at random; afterwards the server holds what it held before.
//!
//! It takes ten seconds, times the number of property examples (`--cases`) divided by the usual 64.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Question, Shim};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::{Received, frame, read_whole};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::full_pipe;
use crate::stage::ending::expect_ended_child_stream;
use crate::stage::holdings::Holdings;
use crate::system::holders::of_other_end;
use crate::system::launch::pipe;
use crate::system::tiny::{self, Kind};
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    // Enough for the two minutes of a long run; each wait within it has its own, shorter patience.
    case("server.leak/stress", stress).within_seconds(240),
]);

/// How long the case takes with the usual number of property examples.
const USUAL_TIME: Duration = Duration::from_secs(10);

/// The usual number of property examples.
const USUAL_EXAMPLES: u32 = 64;

/// Threads that drive sessions, and sessions of each.
const DRIVERS: usize = 4;
const SESSIONS_OF_EACH: usize = 5;

/// Children of a session that run at once, and requests of it that are held open otherwise.
const MOST_RUNNING: usize = 4;
const MOST_HELD: usize = 6;

/// Bytes of memory that may remain per request, and in all, for what allocators keep after a storm.
const OF_A_REQUEST: u64 = 512;
const IN_ALL: u64 = 4 << 20;

/// What all drivers share: the shim, one order at a time, and paths.
struct Arena {
    control: Mutex<Control>,
    failed: AtomicBool,
    patience: Duration,
    quick: String,
    waiting: String,
    directory: String,
    regular: File,
    full: File,
    can_cancel: bool,
}

struct Control {
    shim: Shim,
    shell: ConnectedProgram,
    sessions: u32,
}

type Counts = BTreeMap<&'static str, u64>;

/// A child that writes to a full pipe, and the reading end of a pipe that it holds as long as it lives.
struct Running {
    requester: Requester,
    life: File,
}

/// One session in the hands of a driver.
struct Session {
    name: String,
    socket: EscalationSocket,
    shell: Probe,
    shell_pid: i64,
    running: Vec<Running>,
    /// Streams that wait for something that may never come.
    held: Vec<Requester>,
}

fn stress(context: &mut Context) -> Verdict {
    // The wire of thousands of requests would drown what matters.
    let notes = std::mem::replace(&mut context.transcript, Transcript::new(|_| {}));
    let time = USUAL_TIME.mul_f64(f64::from(context.settings.property_cases) / f64::from(USUAL_EXAMPLES));
    let (_reader, full) = full_pipe()?;
    let arena = arena(context, full)?;
    // A first part warms the server up, the second is measured against it.
    let mut total = 0;
    let mut before: Option<Holdings> = None;
    for (part, share) in [(0_u8, 0.35), (1, 0.65)] {
        let counts = storm(context, &arena, part, time.mul_f64(share))?;
        let requests: u64 = counts.values().sum();
        total += requests;
        notes.note(format_args!("part {part}: {requests} operations, {counts:?}"));
        let control = lock(&arena.control);
        let shim = &control.shim;
        let now = match &before {
            None => Holdings::at_rest(shim, &[], arena.patience),
            Some(before) => {
                let what = format!("{requests} operations");
                Holdings::expect_returned(shim, &[], before, &what, arena.patience)?
            }
        };
        notes.note(format_args!("part {part}: {now:?}"));
        expect::equal("zombies", 0, now.zombies)?;
        if let Some(before) = before {
            let allowed = IN_ALL + OF_A_REQUEST * requests;
            expect::that(
                now.memory <= before.memory + allowed,
                format_args!(
                    "memory as before ({} KiB), but for {} KiB that {requests} operations may leave",
                    before.memory / 1024,
                    allowed / 1024
                ),
                format_args!("{} KiB", now.memory / 1024),
            )?;
        }
        before = Some(now);
    }
    notes.note(format_args!(
        "{total} operations in {time:?}, seed {}",
        context.settings.seed
    ));
    lock(&arena.control).shim.shutdown()
}

fn arena(context: &Context, full: File) -> Result<Arena, CaseError> {
    let program = |name: &str, letter, status| {
        let path = context.path(&format!("bin/{name}"));
        tiny::write(&path, Kind::Binary, letter, status)?;
        Ok::<_, CaseError>(path.to_string_lossy().into_owned())
    };
    let regular = context.write_file("regular-file", b"content", 0o644)?;
    let shim = Shim::start(context)?;
    shim.decide_by(decide);
    Ok(Arena {
        quick: program("quick", b'q', 3)?,
        waiting: program("waiting", b'w', 4)?,
        directory: context.work_directory().to_string_lossy().into_owned(),
        regular: File::open(regular)?,
        full,
        can_cancel: context.has_capability("cancel"),
        control: Mutex::new(Control {
            shim,
            shell: ConnectedProgram::new(context, "shell")?,
            sessions: 0,
        }),
        failed: AtomicBool::new(false),
        patience: context.scaled(Duration::from_secs(15)),
    })
}

/// The policy: the second argument of a request names the decision.
fn decide(question: &Question) -> Answer {
    match question.arguments.get(1).map(String::as_str) {
        Some("run") => Answer::Run,
        Some("deny") => Answer::Deny(Some(question.session.clone())),
        Some("fail") => Answer::Fail,
        Some("later") => Answer::Later,
        _ => Answer::Escalate,
    }
}

/// All drivers at once, for that long; then every session is closed.
fn storm(context: &Context, arena: &Arena, part: u8, time: Duration) -> Result<Counts, CaseError> {
    let until = Instant::now() + time;
    let seed = context.settings.seed;
    let results: Vec<Result<Counts, CaseError>> = std::thread::scope(|scope| {
        let drivers: Vec<_> = (0..DRIVERS)
            .map(|index| {
                scope.spawn(move || {
                    let mut bytes = [0; 32];
                    bytes[..8].copy_from_slice(&seed.to_le_bytes());
                    bytes[8] = part;
                    bytes[9] = index as u8;
                    let mut driver = Driver {
                        arena,
                        random: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
                        counts: Counts::new(),
                    };
                    let driven = driver.drive(until);
                    if driven.is_err() {
                        arena.failed.store(true, Ordering::Relaxed);
                    }
                    driven.map(|()| driver.counts)
                })
            })
            .collect();
        drivers
            .into_iter()
            .map(|driver| {
                driver
                    .join()
                    .unwrap_or_else(|_| Err(harness("a driver of the stress case panicked")))
            })
            .collect()
    });
    let mut counts = Counts::new();
    for result in results {
        for (what, count) in result? {
            *counts.entry(what).or_default() += count;
        }
    }
    Ok(counts)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One thread with some sessions of its own.
struct Driver<'a> {
    arena: &'a Arena,
    random: TestRng,
    counts: Counts,
}

impl Driver<'_> {
    fn drive(&mut self, until: Instant) -> Verdict {
        let mut sessions = (0..SESSIONS_OF_EACH)
            .map(|_| self.new_session())
            .collect::<Result<Vec<_>, _>>()?;
        while Instant::now() < until && !self.arena.failed.load(Ordering::Relaxed) {
            let index = self.random.random_range(0..sessions.len());
            let session = &mut sessions[index];
            match self.random.random_range(0..100) {
                0..32 => self.decisions(session)?,
                32..50 => self.quick_child(session)?,
                50..56 => self.spawn_error(session)?,
                56..68 => self.waiting_child(session)?,
                68..78 => self.wrapper_goes(session)?,
                78..84 => self.held_request(session)?,
                84..86 => self.late_answer()?,
                86..97 => self.hostile_client(session)?,
                _ => {
                    let fresh = self.new_session()?;
                    let old = std::mem::replace(&mut sessions[index], fresh);
                    self.end_session(old)?;
                }
            }
        }
        sessions
            .into_iter()
            .try_for_each(|session| self.end_session(session))
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn new_session(&mut self) -> Result<Session, CaseError> {
        self.count("sessions");
        let mut control = lock(&self.arena.control);
        control.sessions += 1;
        let name = format!("session-{}", control.sessions);
        let Control { shim, shell, .. } = &mut *control;
        let overlay = shim.start_session(&name, shell.text(), "/nonexistent/wrapper")?;
        let shell_pid = shim.spawn(&name, &[shell.text()], &self.arena.directory)?;
        let mut probe = shell.accept("a session's shell")?;
        let socket = probe.take_descriptor(overlay.socket_number()?)?;
        Ok(Session {
            socket: EscalationSocket::new(socket, Transcript::new(|_| {}), self.arena.patience),
            name,
            shell: probe,
            shell_pid,
            running: Vec::new(),
            held: Vec::new(),
        })
    }

    /// A request for `file` whose second argument tells the policy what to say.
    fn request(&self, file: &str, decision: &str) -> RequestMessage {
        RequestMessage::new(file, &["program", decision], &self.arena.directory)
            .variable("SOME_VARIABLE", "some value")
    }

    /// Some requests at once that are decided on and over.
    fn decisions(&mut self, session: &mut Session) -> Verdict {
        let count = self.random.random_range(1..5);
        let mut open = Vec::new();
        for _ in 0..count {
            let decision = ["run", "deny", "fail"][self.random.random_range(0..3)];
            let mut requester = session.socket.open()?;
            requester.request(&self.request("/nonexistent/program", decision))?;
            open.push((decision, requester));
        }
        for (decision, mut requester) in open {
            self.count(decision);
            let received = requester.frames.receive()?;
            let action = match received {
                Received::Frame(frame) => frame.json()?["action"].clone(),
                Received::End { .. } if decision == "fail" => continue,
                other => return Err(violation("a decision", shown(&other))),
            };
            match decision {
                "run" => expect::equal("the decision", json!("Run"), action)?,
                "deny" => {
                    let wanted = json!({"Deny": {"reason": session.name}});
                    expect::equal("the decision of this session's policy", wanted, action)?;
                }
                _ => expect::that(
                    action["Deny"].is_object(),
                    "a denial when the policy fails",
                    action,
                )?,
            }
        }
        Ok(())
    }

    fn escalated(
        &mut self,
        session: &mut Session,
        file: &str,
        placements: &[(i64, &dyn AsFdObject)],
    ) -> Result<Requester, CaseError> {
        let mut requester = session.socket.open()?;
        requester.request(&self.request(file, "escalate"))?;
        requester.expect_action(&json!("Escalate"))?;
        let announced = self.random.random_range(0..2) == 0;
        requester.send_descriptors_with(placements, &[("signals", Value::Bool(announced))])?;
        Ok(requester)
    }

    /// A child that runs to its end.
    fn quick_child(&mut self, session: &mut Session) -> Verdict {
        self.count("quick children");
        let (reader, writer) = pipe()?;
        let file = self.arena.quick.clone();
        let mut requester = self.escalated(session, &file, &[(1, &writer), (2, &writer)])?;
        drop(writer);
        requester.expect_exit_code(3)?;
        let output = read_whole(reader, "the child's output ends", self.arena.patience)?;
        expect::equal("the child's output, to its end", b"q".to_vec(), output)
    }

    /// A program that does not exist.
    fn spawn_error(&mut self, session: &mut Session) -> Verdict {
        self.count("spawn errors");
        let (reader, writer) = pipe()?;
        let mut requester = self.escalated(session, "/nonexistent/program", &[(1, &writer)])?;
        drop(writer);
        requester.expect_exit_code(127)?;
        let what = "standard output of a missing program ends";
        let output = read_whole(reader, what, self.arena.patience)?;
        expect::equal("standard output of a missing program", Vec::<u8>::new(), output)
    }

    /// A child that runs until it is ended.
    fn waiting_child(&mut self, session: &mut Session) -> Verdict {
        if session.running.len() == MOST_RUNNING {
            self.wrapper_goes(session)?;
        }
        self.count("waiting children");
        let (life, writer) = pipe()?;
        let file = self.arena.waiting.clone();
        let full = &self.arena.full;
        let requester = self.escalated(session, &file, &[(1, full), (9, &writer)])?;
        session.running.push(Running { requester, life });
        Ok(())
    }

    /// A wrapper goes while its child runs.
    fn wrapper_goes(&mut self, session: &mut Session) -> Verdict {
        if session.running.is_empty() {
            return Ok(());
        }
        self.count("wrappers that went");
        let index = self.random.random_range(0..session.running.len());
        let Running { requester, life } = session.running.swap_remove(index);
        drop(requester);
        self.expect_end_of_life(life, "the child of a wrapper that went")
    }

    fn expect_end_of_life(&self, life: File, what: &str) -> Verdict {
        let what = format!("{what} ends, and with it its pipe");
        read_whole(life, what, self.arena.patience).map(drop)
    }

    /// A request that is never answered, or late.
    fn held_request(&mut self, session: &mut Session) -> Verdict {
        self.count("held requests");
        let mut requester = session.socket.open()?;
        requester.request(&self.request(&self.arena.quick, "later"))?;
        self.hold(session, requester);
        Ok(())
    }

    fn hold(&mut self, session: &mut Session, requester: Requester) {
        if session.held.len() == MOST_HELD {
            let index = self.random.random_range(0..session.held.len());
            session.held.swap_remove(index);
        }
        session.held.push(requester);
    }

    /// The policy answers an old question, whose wrapper or session may have gone.
    fn late_answer(&mut self) -> Verdict {
        let decision = lock(&self.arena.control).shim.decision_within(Duration::ZERO)?;
        if let Some(decision) = decision {
            self.count("late answers");
            decision.answer(&Answer::Escalate)?;
        }
        Ok(())
    }

    /// A client that does not keep to the protocol.
    fn hostile_client(&mut self, session: &mut Session) -> Verdict {
        self.count("hostile clients");
        match self.random.random_range(0..9) {
            0 => session.socket.datagram(&[0], &[])?,
            1 => session.socket.datagram(&[0], &[&self.arena.regular])?,
            2 => {
                let (reader, writer) = pipe()?;
                session.socket.datagram(&[0], &[&reader, &writer])?;
            }
            3 => {
                let held = session.socket.open()?;
                self.hold(session, held);
            }
            4 => {
                let mut half = session.socket.open()?;
                half.frames.send_bytes(&[200, 0, 0, 0, b'{', b'"'], &[])?;
                self.hold(session, half);
            }
            5 => self.expect_refusal(session, &[0xff, 0xff, 0xff, 0xff])?,
            6 => self.expect_refusal(session, &frame(b"{\"file\":3}"))?,
            7 => {
                let deep = [b"[".repeat(3_000), b"]".repeat(3_000)].concat();
                self.expect_refusal(session, &frame(&deep))?;
            }
            _ => {
                let file = self.arena.quick.clone();
                let mut requester = session.socket.open()?;
                requester.request(&self.request(&file, "escalate"))?;
                requester.expect_action(&json!("Escalate"))?;
                let descriptor = self.arena.regular.as_raw_fd();
                requester
                    .frames
                    .send(b"{\"fds\":[0,0]}", &[descriptor, descriptor])?;
                requester.expect_no_success("the same number twice")?;
            }
        }
        Ok(())
    }

    fn expect_refusal(&mut self, session: &mut Session, bytes: &[u8]) -> Verdict {
        let mut requester = session.socket.open()?;
        requester.frames.send_bytes(bytes, &[])?;
        requester.frames.expect_end("what was sent is malformed")
    }

    /// Closes or cancels a session with everything that is going on in it.
    fn end_session(&mut self, mut session: Session) -> Verdict {
        let cancelled = self.arena.can_cancel && self.random.random_range(0..2) == 0;
        self.count(if cancelled { "cancellations" } else { "closings" });
        drop(session.shell);
        {
            let mut control = lock(&self.arena.control);
            // The shell belongs to the caller, who waits for it.
            let params = json!({"session": session.name, "pid": session.shell_pid});
            control.shim.call("session/wait", params)?;
            if cancelled {
                control.shim.cancel_session(&session.name)?;
            } else {
                control.shim.close_session(&session.name)?;
            }
        }
        for Running { mut requester, life } in session.running {
            expect_ended_child_stream(&mut requester)?;
            self.expect_end_of_life(life, "the child of an ended session")?;
        }
        for requester in session.held {
            expect_end_at_last(requester, "a stream of an ended session")?;
        }
        // Its socket is not served any more.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        if session.socket.try_datagram(&[0], &[&theirs]).is_ok() {
            drop(theirs);
            let late = Requester {
                frames: crate::peer::wire::FrameStream::new(
                    ours,
                    "a stream that was handed to an ended session",
                    Transcript::new(|_| {}),
                    self.arena.patience,
                ),
            };
            expect_end_at_last(late, "a stream that was handed to an ended session")?;
        }
        if cancelled {
            lock(&self.arena.control).shim.close_session(&session.name)?;
        }
        Ok(())
    }
}

/// Demands the end of a stream, on which a decision may have come before.
fn expect_end_at_last(mut requester: Requester, what: &str) -> Verdict {
    loop {
        match requester.frames.receive()? {
            Received::Frame(_) => {}
            Received::End { .. } => return Ok(()),
            Received::Silence { .. } => {
                let holders = of_other_end(requester.frames.socket());
                return Err(violation(
                    format_args!("{what} is closed"),
                    format_args!("it is still open: {holders}"),
                ));
            }
        }
    }
}
