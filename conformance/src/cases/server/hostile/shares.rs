//! What one session holds, and what is left for others: descriptors and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::harness::{Answer, ProbeSession, Question};
use crate::peer::wire::frame;
use crate::spec::requirements::Role;
use crate::stage::holdings::Holdings;
use crate::stage::siege::Siege;
use crate::system::clock::Moment;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.hostile/pending-decisions-of-one-session", pending_decisions_of_one_session).within_seconds(60),
    case("server.hostile/silent-streams-of-several-sessions", silent_streams_of_several_sessions).within_seconds(60),
    case("server.hostile/arguments-without-end", arguments_without_end).within_seconds(120),
]);

/// The server's limit of open files.
const FILES: u64 = 256;

/// The policy: what has `later` as its second argument waits for ever.
fn decide(question: &Question) -> Answer {
    match question.arguments.get(1).map(String::as_str) {
        Some("later") => Answer::Later,
        _ => Answer::Escalate,
    }
}

/// A server with few files, two sessions at least, and what a greedy one asks for.
struct Scarcity {
    siege: Siege,
    later: Vec<u8>,
}

impl Scarcity {
    fn new(context: &mut Context) -> Result<Scarcity, CaseError> {
        let siege = Siege::on(context, |launch| launch.limit(libc::RLIMIT_NOFILE, FILES))?;
        siege.stage.shim.decide_by(decide);
        let request = siege.stage.request("/bin/true", &["true", "later"]);
        Ok(Scarcity {
            later: frame(request.value().to_string().as_bytes()),
            siege,
        })
    }

    /// As many streams of that session as the server takes, out of so many; on each, `bytes` are sent.
    fn greedy(session: &mut ProbeSession, count: usize, bytes: &[u8]) -> Vec<Requester> {
        let streams = (0..count).filter_map(|_| session.socket.open().ok());
        // It may be refused at once.
        streams
            .map(|mut stream| {
                let _ = stream.frames.try_send_bytes(bytes, &[]);
                stream
            })
            .collect()
    }

    /// A session that was there before is served, and one that starts now.
    fn others_are_served(&mut self, context: &Context) -> Verdict {
        for _ in 0..3 {
            self.siege.others_are_served()?;
        }
        let mut newcomer = self.siege.stage.shim.probe_session(context, "newcomer")?;
        let mut stream = newcomer.socket.open()?;
        stream.request(&self.siege.stage.request_for("/bin/true"))?;
        stream.expect_action(&serde_json::json!("Escalate"))?;
        stream.send_descriptors(&[])?;
        stream.expect_exit_code(0)?;
        drop(stream);
        self.siege.stage.shim.close_session("newcomer")
    }
}

/// More undecided requests of one session than the server can have files: other sessions have what they need.
fn pending_decisions_of_one_session(context: &mut Context) -> Verdict {
    let mut scarcity = Scarcity::new(context)?;
    let mut greedy = scarcity.siege.stage.shim.probe_session(context, "greedy")?;
    let held = Scarcity::greedy(&mut greedy, 320, &scarcity.later);
    scarcity.others_are_served(context)?;
    drop(held);
    scarcity.siege.stage.shim.close_session("greedy")?;
    drop(greedy);
    scarcity
        .siege
        .lift(context, "undecided requests of another session")
}

/// Each of five sessions has fewer silent streams than the server can have files; together they have more.
fn silent_streams_of_several_sessions(context: &mut Context) -> Verdict {
    const SESSIONS: usize = 5;
    let mut scarcity = Scarcity::new(context)?;
    let mut greedy = (0..SESSIONS)
        .map(|index| {
            scarcity
                .siege
                .stage
                .shim
                .probe_session(context, &format!("greedy-{index}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let held: Vec<_> = greedy
        .iter_mut()
        .map(|session| Scarcity::greedy(session, 64, &[]))
        .collect();
    scarcity.others_are_served(context)?;
    drop(held);
    for index in 0..SESSIONS {
        scarcity
            .siege
            .stage
            .shim
            .close_session(&format!("greedy-{index}"))?;
    }
    drop(greedy);
    scarcity.siege.lift(context, "silent streams of five sessions")
}

/// Sixteen MiB of one-letter arguments, which no program can be given: refused, or kept in about the memory that execve would
/// take for them.
fn arguments_without_end(context: &mut Context) -> Verdict {
    const LENGTH: usize = 16 << 20;
    const REQUESTS: usize = 4;
    // Per request: its bytes, what execve counts for its arguments (two bytes and a pointer each), and half as much again.
    const OF_EACH: u64 = ((LENGTH + LENGTH / 4 * 10) * 3 / 2) as u64;
    let mut siege = Siege::new(context)?;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    siege.stage.shim.decide_by(move |question| {
        let answer = decide(question);
        count.fetch_add(usize::from(answer == Answer::Later), Ordering::SeqCst);
        answer
    });
    let shell = [siege.stage.session.probe.report.pid];
    let arguments = format!("[\"true\",\"later\"{}]", ",\"a\"".repeat((LENGTH - 1000) / 4));
    let text = siege.stage.request_for("/bin/true").value().to_string();
    let text = text.replace("[\"/bin/true\"]", &arguments);
    let before = Holdings::of(&siege.stage.shim, &shell).memory;
    let mut held = Vec::new();
    let mut most = 0;
    for _ in 0..REQUESTS {
        let mut requester = siege.stage.session.socket.open()?;
        let _ = requester.frames.try_send_bytes(&frame(text.as_bytes()), &[]);
        held.push(requester);
        // The request was decoded before it, or is being decoded.
        siege.others_are_served()?;
        most = most.max(Holdings::of(&siege.stage.shim, &shell).memory);
    }
    // A slow server needs time for so much: until each is asked about or refused.
    let until = Moment::now() + 6 * context.patience();
    while undecided(&held)? > asked.load(Ordering::SeqCst) && !until.is_over() {
        most = most.max(Holdings::of(&siege.stage.shim, &shell).memory);
        siege.others_are_served()?;
    }
    let allowed = OF_EACH * REQUESTS as u64;
    expect::that(
        most <= before + allowed,
        format_args!(
            "at most {} MiB of memory for {REQUESTS} requests of 16 MiB",
            allowed >> 20
        ),
        format_args!("{} MiB", most.saturating_sub(before) >> 20),
    )?;
    drop(held);
    siege.lift(context, "requests with millions of arguments")
}

/// How many of the streams are still open.
fn undecided(held: &[Requester]) -> Result<usize, CaseError> {
    let now = Moment::now();
    let closed = held
        .iter()
        .map(|requester| readable_until(requester.frames.socket(), now));
    Ok(closed
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|closed| !closed)
        .count())
}
