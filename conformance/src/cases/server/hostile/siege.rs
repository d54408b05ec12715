//! Hostile clients of several sessions at once, against a server with few files: honest requests are all served, and soon.
//!
//! It takes ten seconds, times the number of property examples (`--cases`) divided by the usual 64.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Question, Shim};
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::frame;
use crate::spec::requirements::Role;
use crate::stage::descriptors::{null, objects};
use crate::stage::holdings::{Holdings, peak_memory, threads};
use crate::stage::server::Stage;
use crate::system::launch::duplicate;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    // Enough for the two minutes of a long run.
    case("server.hostile/siege", siege).within_seconds(300),
]);

/// How long the siege takes with the usual number of property examples.
const USUAL_TIME: Duration = Duration::from_secs(10);

/// The usual number of property examples.
const USUAL_EXAMPLES: u32 = 64;

/// The server's limit of open files.
const FILES: u64 = 1024;

/// The most memory that the server may ever have, in bytes. Measured and not set as a limit: an address space of that size would
/// count what is only reserved, and a memory cgroup cannot be made everywhere.
const MEMORY: u64 = 512 << 20;

/// Sessions of hostile clients, each in the hands of one thread.
const BESIEGERS: usize = 4;

/// Streams that a besieger holds open.
const MOST_HELD: usize = 300;

/// How long an honest request may take at most, beyond what the machine itself holds up.
const WORST: Duration = Duration::from_secs(1);

/// By how many bytes the server's memory may have grown afterwards, besides five per cent: what allocators keep.
const ALLOWED_GROWTH: u64 = 32 << 20;

/// What hostile clients send, made once.
struct Ammunition {
    arguments: Vec<u8>,
    unknown: Vec<u8>,
    deep: Vec<u8>,
    parents: Vec<u8>,
    later: Vec<u8>,
    stall: Vec<u8>,
    null: OwnedFd,
}

impl Ammunition {
    fn new(stage: &Stage) -> Result<Ammunition, CaseError> {
        const LENGTH: usize = 16 << 20;
        let with = |arguments: &[&str]| stage.request("/bin/true", arguments).value().to_string();
        let right = with(&["true", "run"]);
        let unknown = |value: &str| frame(format!("{{\"unknown\":{value},{}", &right[1..]).as_bytes());
        let many = format!("[\"true\",\"run\"{}]", ",\"a\"".repeat((LENGTH - 1000) / 4));
        let parents = RequestMessage::new(&("../a/".repeat(800) + "tool"), &["tool"], &stage.directory);
        Ok(Ammunition {
            arguments: frame(right.replace("[\"true\",\"run\"]", &many).as_bytes()),
            unknown: unknown(&format!("[1{}]", ",1".repeat((LENGTH - 1000) / 2))),
            deep: unknown(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
            parents: frame(parents.value().to_string().as_bytes()),
            later: frame(with(&["true", "later"]).as_bytes()),
            stall: frame(with(&["true", "stall"]).as_bytes()),
            null: null()?.into(),
        })
    }
}

/// The policy: the second argument of a request names the decision.
fn decide(question: &Question) -> Answer {
    match question.arguments.get(1).map(String::as_str) {
        Some("later") => Answer::Later,
        // More than a socket takes, for a wrapper that does not read.
        Some("stall") => Answer::Deny(Some("r".repeat(256 << 10))),
        Some("run") => Answer::Run,
        _ => Answer::Escalate,
    }
}

fn siege(context: &mut Context) -> Verdict {
    // The wire of a siege would drown what matters.
    let notes = std::mem::replace(&mut context.transcript, Transcript::new(|_| {}));
    let time = USUAL_TIME.mul_f64(f64::from(context.settings.property_cases) / f64::from(USUAL_EXAMPLES));
    let mut stage = Stage::on(context, |launch| launch.limit(libc::RLIMIT_NOFILE, FILES))?;
    stage.shim.decide_by(decide);
    let ammunition = Ammunition::new(&stage)?;
    let hostile = (0..BESIEGERS)
        .map(|index| stage.shim.probe_session(context, &format!("besieger-{index}")))
        .collect::<Result<Vec<_>, _>>()?;
    let mut besiegers = Vec::new();
    for (index, session) in hostile.iter().enumerate() {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&context.settings.seed.to_le_bytes());
        seed[8] = index as u8;
        // A client that is not served goes on to something else soon.
        let patience = Duration::from_millis(300);
        let socket = duplicate(session.socket.descriptor())?;
        besiegers.push(Besieger {
            socket: EscalationSocket::new(socket, Transcript::new(|_| {}), patience),
            ammunition: &ammunition,
            held: Vec::new(),
            random: TestRng::from_seed(RngAlgorithm::ChaCha, &seed),
            counts: BTreeMap::new(),
        });
    }
    let shells: Vec<i32> = hostile
        .iter()
        .map(|session| session.probe.report.pid)
        .chain([stage.session.probe.report.pid])
        .collect();
    // A first part warms the server up, the second is measured against it.
    besieged(context, &mut stage, &mut besiegers, time.mul_f64(0.2))?;
    let before = Holdings::at_rest(&stage.shim, &shells, context.patience());
    let threads_before = threads(&stage.shim);
    let processors = Processors::now(&stage.shim);
    let outcome = besieged(context, &mut stage, &mut besiegers, time.mul_f64(0.8))?;
    let left = Processors::now(&stage.shim).left_since(&processors);
    let (peak, threads_meanwhile) = (peak_memory(&stage.shim), threads(&stage.shim));
    let after = Holdings::expect_returned(&stage.shim, &shells, &before, "the siege", context.patience())?;
    let allowed = before.memory + before.memory / 20 + ALLOWED_GROWTH;
    let memory = Holdings::at_rest(&stage.shim, &shells, context.patience()).memory;
    let Outcome {
        mut honest,
        counts,
        held_up,
    } = outcome;
    honest.sort();
    let (median, worst) = (honest[honest.len() / 2], honest[honest.len() - 1]);
    let mib = |bytes: u64| bytes >> 20;
    notes.note(format_args!(
        "{} honest requests, none lost: median {median:.1?}, worst {worst:.1?}; other processes left {:.0} % of the processors, and a \
         thread that woke up was held up by {held_up:.1?} at most",
        honest.len(),
        100.0 * left
    ));
    notes.note(format_args!(
        "before and after: {} and {} descriptors, {} and {} processes, {} and {} threads, {} and {} MiB of memory (at most {})",
        before.descriptors,
        after.descriptors,
        before.processes,
        after.processes,
        threads_before,
        threads_meanwhile,
        mib(before.memory),
        mib(memory),
        mib(peak)
    ));
    notes.note(format_args!("{counts:?}, seed {}", context.settings.seed));
    expect::equal("zombies", 0, after.zombies)?;
    // On a loaded machine all that is done here takes as much longer as others leave less of the processors.
    let soon = context.scaled(WORST).div_f64(left) + 4 * held_up;
    expect::that(
        worst <= soon,
        format_args!(
            "each of {} honest requests is answered within {soon:.1?}",
            honest.len()
        ),
        format_args!("the slowest took {worst:.1?}, the median {median:.1?}"),
    )?;
    expect::that(
        peak <= MEMORY,
        format_args!("at most {} MiB of memory at any time", mib(MEMORY)),
        format_args!("{} MiB", mib(peak)),
    )?;
    expect::that(
        memory <= allowed,
        format_args!(
            "after the siege at most {} MiB of memory, {} before it",
            mib(allowed),
            mib(before.memory)
        ),
        format_args!("{} MiB", mib(memory)),
    )?;
    drop(besiegers);
    drop(hostile);
    stage.finish()
}

/// What came of a siege.
struct Outcome {
    /// How long each honest request took.
    honest: Vec<Duration>,
    counts: Counts,
    /// By how much the machine delayed at most what had nothing to do but to wake up.
    held_up: Duration,
}

/// Time that the processors have spent since the start of the machine, in ticks.
struct Processors {
    all: u64,
    idle: u64,
    /// On the suite and the server.
    ours: u64,
}

impl Processors {
    fn now(shim: &Shim) -> Processors {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)); what comes after is part of user and nice.
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        Processors {
            all: ticks.iter().sum(),
            idle: ticks.iter().skip(3).take(2).sum(),
            ours: ticks_of("self") + ticks_of(&shim.process.pid.to_string()),
        }
    }

    /// The part of the processors, 1 at most, that other processes have left since then.
    fn left_since(&self, before: &Processors) -> f64 {
        let all = (self.all - before.all).max(1);
        let busy = all.saturating_sub(self.idle - before.idle);
        let others = busy.saturating_sub(self.ours - before.ours);
        (1.0 - others as f64 / all as f64).clamp(0.05, 1.0)
    }
}

/// Ticks that a process and the children that it has waited for have used; 0 if it is gone.
fn ticks_of(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    // utime, stime, cutime, cstime (proc_pid_stat(5)), counted from the state.
    fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

type Counts = BTreeMap<&'static str, u64>;

/// A siege of that length: all besiegers, a session that is opened and closed again and again, and one honest client.
fn besieged(
    context: &Context,
    stage: &mut Stage,
    besiegers: &mut [Besieger<'_>],
    time: Duration,
) -> Result<Outcome, CaseError> {
    let until = Instant::now() + time;
    let over = AtomicBool::new(false);
    let program = context.path("bin/honest");
    if !program.exists() {
        crate::system::tiny::write(&program, crate::system::tiny::Kind::Binary, b'h', 3)?;
    }
    let shell = ConnectedProgram::new(context, &format!("visitor-{}", context.next_number()))?;
    let honest = Honest {
        run: stage.request("/bin/true", &["true", "run"]),
        escalate: stage.request(&program.to_string_lossy(), &["honest"]),
    };
    let directory = stage.directory.clone();
    let (shim, socket) = (&mut stage.shim, &mut stage.session.socket);
    std::thread::scope(|scope| {
        let over = &over;
        let hostile: Vec<_> = besiegers
            .iter_mut()
            .map(|besieger| scope.spawn(move || besieger.besiege(over)))
            .collect();
        let visitor = scope.spawn(|| visits(shim, &shell, &directory, over));
        let clock = scope.spawn(|| worst_delay(over));
        let served = honest.ask(socket, until);
        over.store(true, Ordering::Relaxed);
        let panicked = |_| harness("a thread of the siege panicked");
        let held_up = clock.join().map_err(panicked)?;
        let visited = visitor.join().map_err(panicked)?;
        let mut counts = Counts::new();
        for besieger in hostile {
            for (what, count) in besieger.join().map_err(panicked)?? {
                *counts.entry(what).or_default() += count;
            }
        }
        let honest = served?;
        counts.insert("sessions opened and closed", visited?);
        Ok(Outcome {
            honest,
            counts,
            held_up,
        })
    })
}

/// By how much a thread is woken too late at most.
fn worst_delay(over: &AtomicBool) -> Duration {
    const BEAT: Duration = Duration::from_millis(5);
    let mut worst = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        std::thread::sleep(BEAT);
        worst = worst.max(began.elapsed().saturating_sub(BEAT));
    }
    worst
}

/// Sessions that are closed with silent streams and undecided requests; returns how many.
fn visits(
    shim: &mut Shim,
    shell: &ConnectedProgram,
    directory: &str,
    over: &AtomicBool,
) -> Result<u64, CaseError> {
    let mut visits = 0;
    while !over.load(Ordering::Relaxed) {
        visits += 1;
        let name = format!("{}-{visits}", shell.text());
        let overlay = shim.start_session(&name, shell.text(), "/nonexistent/wrapper")?;
        let pid = shim.spawn(&name, &[shell.text()], directory)?;
        let mut probe = shell.accept("a session's shell")?;
        let socket = probe.take_descriptor(overlay.socket_number()?)?;
        let mut socket = EscalationSocket::new(socket, Transcript::new(|_| {}), Duration::from_millis(300));
        let mut held = Vec::new();
        for index in 0..40 {
            let Ok(mut requester) = socket.open() else {
                continue;
            };
            if index % 2 == 0 {
                let request = RequestMessage::new("/bin/true", &["true", "later"], directory);
                let _ = requester
                    .frames
                    .try_send_bytes(&frame(request.value().to_string().as_bytes()), &[]);
            }
            held.push(requester);
        }
        drop(probe);
        shim.call("session/wait", json!({"session": name, "pid": pid}))?;
        shim.close_session(&name)?;
    }
    Ok(visits)
}

/// A client that keeps to the protocol.
struct Honest {
    run: RequestMessage,
    escalate: RequestMessage,
}

impl Honest {
    /// One request after the other, every fourth of them escalated; returns how long each took.
    fn ask(&self, socket: &mut EscalationSocket, until: Instant) -> Result<Vec<Duration>, CaseError> {
        const PAUSE: Duration = Duration::from_millis(5);
        let mut times = Vec::new();
        while Instant::now() < until || times.is_empty() {
            let began = Instant::now();
            let escalated = times.len() % 4 == 3;
            self.ask_once(socket, escalated).map_err(|error| match error {
                CaseError::Violation { expected, observed } => violation(
                    format_args!("each honest request of another session is served: {expected}"),
                    format_args!("request {}: {observed}", times.len() + 1),
                ),
                other => other,
            })?;
            times.push(began.elapsed());
            // A person's shell has pauses, too.
            std::thread::sleep(PAUSE);
        }
        Ok(times)
    }

    fn ask_once(&self, socket: &mut EscalationSocket, escalated: bool) -> Verdict {
        let mut requester = socket.open()?;
        if !escalated {
            requester.request(&self.run)?;
            return requester.expect_action(&json!("Run"));
        }
        requester.request(&self.escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let null = null()?;
        requester.send_descriptors(&[(1, &null)])?;
        requester.expect_exit_code(3)
    }
}

/// A client that does what it likes, and does not care whether it is served.
struct Besieger<'a> {
    socket: EscalationSocket,
    ammunition: &'a Ammunition,
    held: Vec<Requester>,
    random: TestRng,
    counts: Counts,
}

impl Besieger<'_> {
    fn besiege(&mut self, over: &AtomicBool) -> Result<Counts, CaseError> {
        while !over.load(Ordering::Relaxed) {
            self.act()?;
            if self.held.len() > MOST_HELD {
                let surplus = self.held.len() - MOST_HELD;
                self.held.drain(..surplus);
            }
        }
        self.held.clear();
        Ok(std::mem::take(&mut self.counts))
    }

    fn act(&mut self) -> Verdict {
        let ammunition = self.ammunition;
        let null = ammunition.null.as_raw_fd();
        // They cost sixteen times as much as what they leave time for.
        let rarely = self.random.random_range(0..3_u32) == 0;
        let (what, count, bytes, descriptors): (_, _, &[u8], _) = match self.random.random_range(0..11_u32) {
            0 => ("silent streams", 60, &[], 0),
            1 => (
                "half frames",
                60,
                &ammunition.later[..self.random.random_range(1..60)],
                0,
            ),
            2 => ("half frames with descriptors", 30, &ammunition.later[..3], 16),
            3 if rarely => ("requests with millions of arguments", 1, &ammunition.arguments, 0),
            4 if rarely => ("requests of 16 MiB", 1, &ammunition.unknown, 0),
            5 => ("deep requests", 4, &ammunition.deep, 0),
            6 => ("requests with hundreds of ..", 20, &ammunition.parents, 0),
            7 => ("undecided requests", 25, &ammunition.later, 0),
            8 => ("denials that are not read", 1, &ammunition.stall, 0),
            9 => return self.datagrams(),
            _ => {
                let kept = self.held.len() / 2;
                self.held.truncate(kept);
                return Ok(());
            }
        };
        for _ in 0..count {
            let Ok(mut requester) = self.socket.open() else {
                continue;
            };
            if !bytes.is_empty() {
                let _ = requester.frames.try_send_bytes(bytes, &vec![null; descriptors]);
            }
            self.held.push(requester);
        }
        *self.counts.entry(what).or_default() += count;
        Ok(())
    }

    /// Datagrams with as many descriptors as the kernel sends.
    fn datagrams(&mut self) -> Verdict {
        const AT_ONCE: usize = 253;
        let many = (0..AT_ONCE)
            .map(|_| duplicate(&self.ammunition.null))
            .collect::<Result<Vec<_>, _>>()?;
        for _ in 0..20 {
            let _ = self.socket.try_datagram(&[0], &objects(&many));
        }
        *self.counts.entry("datagrams full of descriptors").or_default() += 20;
        Ok(())
    }
}
