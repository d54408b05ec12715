//! What a server costs: latency of each decision, round trips at once, memory, sessions.
//!
//! The policy answers at once, by the harness protocol, so every number has a question and an answer of the shim in
//! it; that is the same for all subjects of a run.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::{Decision, quantile};
use crate::case::context::{Context, Inodes, Settings};
use crate::case::implementations::Implementations;
use crate::case::programs;
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::{Answer, ProbeSession, Question, Shim};
use crate::stage::holdings::Holdings;
use crate::system::tiny::{self, Kind};
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict};

/// Requests at once.
const AT_ONCE: [usize; 4] = [1, 8, 64, 512];
/// Rounds before the measured ones.
const WARM_UP: usize = 10;
/// Idle sessions and pending requests that memory is measured over.
const SESSIONS: usize = 64;
const PENDING: usize = 256;
/// Sessions that are started and closed in a sample.
const COURSES: usize = 16;
/// Samples of memory, of sessions and of each number of requests at once, at most.
const LARGE_SAMPLES: usize = 20;

/// The latency of one decision of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Name of the subject.
    pub subject: String,
    /// The decision.
    pub decision: Decision,
    /// Median time from the handshake to the last message, microseconds.
    pub median_us: f64,
    /// The 99th percentile, microseconds.
    pub p99_us: f64,
    /// Median divided by that of the first subject.
    pub ratio: f64,
}

/// Round trips of Run with so many at once.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Name of the subject.
    pub subject: String,
    /// Requests at once.
    pub at_once: usize,
    /// Median of round trips per second.
    pub per_second: f64,
    /// Divided by that of the first subject.
    pub ratio: f64,
}

/// What idle things cost.
#[derive(Clone, Debug, Serialize)]
pub struct Footprint {
    /// Name of the subject.
    pub subject: String,
    /// Bytes of anonymous memory of an idle session, helper processes included.
    pub idle_session_bytes: f64,
    /// Bytes of anonymous memory of a request whose decision is pending.
    pub pending_request_bytes: f64,
    /// Median of sessions that are started and closed per second.
    pub sessions_per_second: f64,
    /// Sessions per second divided by that of the first subject.
    pub ratio: f64,
}

/// All measurements of servers.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// Samples of each latency.
    pub runs: usize,
    /// Name and command line of what was measured.
    pub subjects: Vec<(String, String)>,
    /// Of each decision.
    pub latency: Vec<Latency>,
    /// Of Run.
    pub throughput: Vec<Throughput>,
    /// Memory and sessions.
    pub footprint: Vec<Footprint>,
}

/// A server under measurement, with a session.
struct Subject {
    name: String,
    context: Context,
    shim: Shim,
    session: ProbeSession,
    quick: String,
    null: File,
}

/// Measures the servers of these command lines.
///
/// # Errors
/// What cannot be started, or does not do what it should while it is measured.
pub fn measure(commands: &[String], runs: usize, folder: &Path) -> anyhow::Result<Report> {
    let mut subjects = commands
        .iter()
        .enumerate()
        .map(|(index, command)| {
            let name = if index == 0 {
                "server".to_owned()
            } else {
                format!("server-{}", index + 1)
            };
            Subject::start(&name, command, &folder.join(&name))
                .with_context(|| format!("--server {command:?}"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let report = (|| {
        let memory = memory(&mut subjects)?;
        Ok(Report {
            format: 1,
            runs,
            subjects: subjects
                .iter()
                .map(|subject| subject.name.clone())
                .zip(commands.iter().cloned())
                .collect(),
            latency: latency(&mut subjects, runs)?,
            throughput: throughput(&mut subjects, runs)?,
            footprint: footprint(&mut subjects, &memory, runs)?,
        })
    })()
    .map_err(in_words)?;
    for subject in &mut subjects {
        subject.shim.shutdown().map_err(in_words)?;
    }
    Ok(report)
}

fn in_words(error: CaseError) -> anyhow::Error {
    match error {
        CaseError::Violation { expected, observed } => {
            anyhow::anyhow!("the server did not do what it should: expected {expected}, observed {observed}")
        }
        CaseError::Harness(what) | CaseError::NotApplicable(what) => anyhow::anyhow!(what),
    }
}

fn decide(question: &Question) -> Answer {
    match question.arguments.first().map(String::as_str) {
        Some("deny") => Answer::Deny(None),
        Some("escalate") => Answer::Escalate,
        Some("later") => Answer::Later,
        _ => Answer::Run,
    }
}

impl Subject {
    fn start(name: &str, command: &str, folder: &Path) -> anyhow::Result<Subject> {
        let settings = Settings {
            implementations: Implementations::named(None, None, Some(command))?,
            seed: 0,
            property_cases: 1,
            timeout_scale: 4.0,
            impatient: false,
        };
        let start = || {
            let context = Context::new(
                settings,
                programs::source()?,
                Inodes::OfEachProgram,
                folder,
                Transcript::new(|_| {}),
            )?;
            let quick = context.path("bin/quick");
            tiny::write(&quick, Kind::Binary, b'q', 0)?;
            let mut shim = Shim::start(&context)?;
            shim.decide_by(decide);
            let session = shim.probe_session(&context, "measured")?;
            Ok(Subject {
                name: name.to_owned(),
                quick: quick.to_string_lossy().into_owned(),
                null: File::options().write(true).open("/dev/null")?,
                context,
                shim,
                session,
            })
        };
        start().map_err(in_words)
    }

    /// Asks, without waiting for the answer.
    fn ask(&mut self, what: &str) -> Result<Requester, CaseError> {
        let mut requester = self.session.socket.open()?;
        // What is asked about is mostly a program of the system; only what is executed has to end at once.
        let file = if what == "escalate" {
            &self.quick
        } else {
            "/bin/sh"
        };
        requester.request(&RequestMessage::new(file, &[what], "/"))?;
        Ok(requester)
    }

    fn round_trip(&mut self, decision: Decision) -> Verdict {
        match decision {
            Decision::Run => self.ask("run")?.expect_action(&json!("Run")),
            Decision::Deny => self
                .ask("deny")?
                .expect_action(&json!({"Deny": {"reason": null}})),
            Decision::Escalate => {
                let mut requester = self.ask("escalate")?;
                requester.expect_action(&json!("Escalate"))?;
                requester.send_descriptors(&[(1, &self.null)])?;
                requester.expect_exit_code(0)
            }
        }
    }

    fn many_at_once(&mut self, count: usize) -> Verdict {
        let mut asked = (0..count)
            .map(|_| self.ask("run"))
            .collect::<Result<Vec<_>, _>>()?;
        asked
            .iter_mut()
            .try_for_each(|requester| requester.expect_action(&json!("Run")))
    }

    fn memory(&self) -> f64 {
        Holdings::at_rest(&self.shim, &[], self.context.patience()).memory as f64
    }

    /// Bytes of an idle session.
    fn idle_session(&mut self) -> Result<f64, CaseError> {
        let before = self.memory();
        let names: Vec<_> = (0..SESSIONS).map(|index| format!("idle-{index}")).collect();
        for name in &names {
            self.shim
                .start_session(name, "/nonexistent/shell", "/nonexistent/wrapper")?;
        }
        let after = self.memory();
        names.iter().try_for_each(|name| self.shim.close_session(name))?;
        Ok((after - before) / SESSIONS as f64)
    }

    /// Bytes of a pending request.
    fn pending_request(&mut self) -> Result<f64, CaseError> {
        let before = self.memory();
        let asked = (0..PENDING)
            .map(|_| self.ask("later"))
            .collect::<Result<Vec<_>, _>>()?;
        // All have come to the policy.
        let decisions = (0..PENDING)
            .map(|_| self.shim.next_decision())
            .collect::<Result<Vec<_>, _>>()?;
        let after = self.memory();
        decisions
            .into_iter()
            .try_for_each(|decision| decision.answer(&Answer::Run))?;
        drop(asked);
        Ok((after - before) / PENDING as f64)
    }

    fn start_and_close(&mut self) -> Verdict {
        for index in 0..COURSES {
            let name = format!("course-{index}");
            self.shim
                .start_session(&name, "/nonexistent/shell", "/nonexistent/wrapper")?;
            self.shim.close_session(&name)?;
        }
        Ok(())
    }
}

/// Seconds that it takes.
fn timed(what: impl FnOnce() -> Verdict) -> Result<f64, CaseError> {
    let started = Instant::now();
    what()?;
    Ok(started.elapsed().as_secs_f64())
}

/// One sample of each subject, again and again, so that what else the machine does hits all alike.
fn interleaved(
    subjects: &mut [Subject],
    warm_up: usize,
    samples: usize,
    mut sample: impl FnMut(&mut Subject) -> Result<f64, CaseError>,
) -> Result<Vec<Vec<f64>>, CaseError> {
    let mut all = vec![Vec::new(); subjects.len()];
    for round in 0..warm_up + samples {
        for (subject, samples) in subjects.iter_mut().zip(&mut all) {
            let value = sample(subject)?;
            if round >= warm_up {
                samples.push(value);
            }
        }
    }
    Ok(all)
}

fn medians(samples: &[Vec<f64>]) -> Vec<f64> {
    samples.iter().map(|samples| quantile(samples, 0.5)).collect()
}

fn latency(subjects: &mut [Subject], runs: usize) -> Result<Vec<Latency>, CaseError> {
    let mut rows = Vec::new();
    for decision in Decision::ALL {
        let samples = interleaved(subjects, WARM_UP, runs, |subject| {
            timed(|| subject.round_trip(decision))
        })?;
        let medians = medians(&samples);
        for ((subject, samples), median) in subjects.iter().zip(&samples).zip(&medians) {
            rows.push(Latency {
                subject: subject.name.clone(),
                decision,
                median_us: median * 1e6,
                p99_us: quantile(samples, 0.99) * 1e6,
                ratio: median / medians[0],
            });
        }
    }
    Ok(rows)
}

fn throughput(subjects: &mut [Subject], runs: usize) -> Result<Vec<Throughput>, CaseError> {
    let mut rows = Vec::new();
    for at_once in AT_ONCE {
        let samples = interleaved(subjects, 1, runs.min(LARGE_SAMPLES), |subject| {
            Ok(at_once as f64 / timed(|| subject.many_at_once(at_once))?)
        })?;
        let medians = medians(&samples);
        for (subject, per_second) in subjects.iter().zip(&medians) {
            rows.push(Throughput {
                subject: subject.name.clone(),
                at_once,
                per_second: *per_second,
                ratio: per_second / medians[0],
            });
        }
    }
    Ok(rows)
}

/// Bytes of an idle session and of a pending request, of each subject: measured once, as long as it is fresh, since
/// later ones find room that earlier ones have left in the allocator.
fn memory(subjects: &mut [Subject]) -> Result<Vec<(f64, f64)>, CaseError> {
    subjects
        .iter_mut()
        .map(|subject| {
            subject.round_trip(Decision::Escalate)?;
            Ok((subject.idle_session()?, subject.pending_request()?))
        })
        .collect()
}

fn footprint(
    subjects: &mut [Subject],
    memory: &[(f64, f64)],
    runs: usize,
) -> Result<Vec<Footprint>, CaseError> {
    let samples = runs.min(LARGE_SAMPLES);
    let rates = medians(&interleaved(subjects, 1, samples, |subject| {
        Ok(COURSES as f64 / timed(|| subject.start_and_close())?)
    })?);
    Ok(subjects
        .iter()
        .enumerate()
        .map(|(index, subject)| Footprint {
            subject: subject.name.clone(),
            idle_session_bytes: memory[index].0,
            pending_request_bytes: memory[index].1,
            sessions_per_second: rates[index],
            ratio: rates[index] / rates[0],
        })
        .collect())
}
