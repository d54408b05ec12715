//! Runs cases, several at a time, and tells what happens as a stream of events.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::channel::Secret;
use super::supervision::Supervision;
use super::{Assignment, census, install, interrupts};
use crate::case::Case;
use crate::case::context::Settings;
use crate::case::implementations::Implementations;
use crate::case::result::{CaseResult, Outcome};
use crate::exit::HarnessFailure;
use crate::system::process::ProcessHandle;
use anyhow::Context as _;

/// The hidden subcommand under which this executable is a supervisor.
pub const SUPERVISE: &str = "__supervise";

/// The PATH that cases have, whoever starts them.
pub const PATH_OF_CASES: &str = "/usr/bin:/bin";

/// How cases are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is judged.
    pub implementations: Implementations,
    /// Seed of property cases.
    pub seed: u64,
    /// Examples of a property case.
    pub property_cases: u32,
    /// Multiplies every deadline.
    pub timeout_scale: f64,
    /// Cases at a time.
    pub jobs: usize,
    /// Whether the directories of cases stay.
    pub keep: bool,
    /// A command under which each case runs; none in general.
    pub under: Vec<String>,
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event {
    /// A case has started.
    Started(&'static str),
    /// A case has ended.
    Finished(Box<CaseResult>),
}

/// What a run came to.
pub struct Finished {
    /// The results, in the order of the suite.
    pub results: Vec<CaseResult>,
    /// The signal that ended the run early.
    pub interrupted: Option<i32>,
    /// Where the directories of cases stay, where they do.
    pub kept: Option<PathBuf>,
}

enum Message {
    Event(Event),
    Interrupted(i32),
    WorkerDone,
}

/// How a supervisor at work is ended: by closing its standard input, or, where it is stopped, by killing it.
struct Leash {
    input: Option<ChildStdin>,
    supervisor: ProcessHandle,
}

/// The leashes of the supervisors at work, by the number of the case.
type Leashes = Arc<Mutex<HashMap<usize, Leash>>>;

/// How long an interrupted case's supervisor may take to end it.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs `cases`; `tell` hears every event.
///
/// # Errors
/// Where the run's directory cannot be made.
pub fn run(cases: &[Case], options: &Options, mut tell: impl FnMut(&Event)) -> anyhow::Result<Finished> {
    let run_directory = tempfile::Builder::new()
        .prefix("conformance-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("a directory for the cases (is TMPDIR writable?)")?;
    let settings = Settings {
        implementations: options.implementations.clone(),
        seed: options.seed,
        property_cases: options.property_cases,
        timeout_scale: options.timeout_scale,
        probe_executable: install::probe(run_directory.path())?,
    };
    let (sender, receiver) = channel();
    let leashes: Leashes = Arc::default();
    let (mut signals, earlier) = interrupts::listen()?;
    let signals_handle = signals.handle();
    let signal_thread = std::thread::spawn({
        let sender = sender.clone();
        move || {
            for signal in earlier.into_iter().chain(signals.forever()) {
                if sender.send(Message::Interrupted(signal)).is_err() {
                    return;
                }
            }
        }
    });
    let queue = Arc::new(Mutex::new(
        cases
            .iter()
            .copied()
            .enumerate()
            .collect::<std::collections::VecDeque<_>>(),
    ));
    let workers: Vec<_> = (0..options.jobs.max(1))
        .map(|_| {
            let worker = Worker {
                queue: queue.clone(),
                leashes: leashes.clone(),
                settings: settings.clone(),
                run_directory: run_directory.path().to_owned(),
                keep: options.keep,
                under: options.under.clone(),
                sender: sender.clone(),
            };
            std::thread::spawn(move || worker.work())
        })
        .collect();
    let (mut results, interrupted) = collect(&receiver, workers.len(), &queue, &leashes, &mut tell);
    for worker in workers {
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("a worker thread of the runner panicked"))?;
    }
    // Where somebody killed a supervisor, what that watched over has come to this process.
    let ended = census::kill_all_descendants();
    ended.map_err(|error| anyhow::anyhow!("what a case left running cannot be ended: {error}"))?;
    signals_handle.close();
    signal_thread
        .join()
        .map_err(|_| anyhow::anyhow!("the signal thread of the runner panicked"))?;
    if interrupted.is_none() && results.len() != cases.len() {
        let (got, planned) = (results.len(), cases.len());
        let what = format!("{planned} cases were planned, and {got} have a result");
        return Err(HarnessFailure(what).into());
    }
    results.sort_by_key(|result| cases.iter().position(|case| case.id == result.id));
    let kept = options.keep.then(|| run_directory.keep());
    Ok(Finished {
        results,
        interrupted,
        kept,
    })
}

type Queue = Arc<Mutex<std::collections::VecDeque<(usize, Case)>>>;

fn collect(
    receiver: &Receiver<Message>,
    workers: usize,
    queue: &Queue,
    leashes: &Leashes,
    tell: &mut impl FnMut(&Event),
) -> (Vec<CaseResult>, Option<i32>) {
    let mut results = Vec::new();
    let mut interrupted: Option<(i32, Instant)> = None;
    let mut at_work = workers;
    while at_work > 0 {
        // The sender in `run` lives until the end, so this ends only when all workers are done.
        let message = match interrupted {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((_, until)) => receiver.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match message {
            Ok(Message::Event(event)) => {
                tell(&event);
                if let Event::Finished(result) = event {
                    results.push(*result);
                }
            }
            Ok(Message::Interrupted(signal)) => {
                interrupted = Some((signal, Instant::now() + LAST_WORDS));
                lock(queue).clear();
                for leash in lock(leashes).values_mut() {
                    leash.input = None;
                }
            }
            Ok(Message::WorkerDone) => at_work -= 1,
            Err(RecvTimeoutError::Timeout) => {
                for leash in lock(leashes).values() {
                    // One that can't be killed is the worker's error, which waits for its end.
                    let _ = census::kill_tree(&leash.supervisor);
                }
                interrupted = interrupted.map(|(signal, _)| (signal, Instant::now() + LAST_WORDS));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    (results, interrupted.map(|(signal, _)| signal))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Worker {
    queue: Queue,
    leashes: Leashes,
    settings: Settings,
    run_directory: PathBuf,
    keep: bool,
    under: Vec<String>,
    sender: Sender<Message>,
}

impl Worker {
    fn work(self) {
        loop {
            let next = lock(&self.queue).pop_front();
            let Some((index, case)) = next else { break };
            self.send(Message::Event(Event::Started(case.id)));
            match self.supervise(index, &case) {
                Ok(Some(mut result)) => {
                    result.seed = self.settings.seed;
                    self.send(Message::Event(Event::Finished(Box::new(result))));
                }
                Ok(None) => {}
                Err(error) => {
                    let result = CaseResult {
                        observed: Some(format!("{error:#}")),
                        seed: self.settings.seed,
                        ..CaseResult::new(&case, Outcome::HarnessError)
                    };
                    self.send(Message::Event(Event::Finished(Box::new(result))));
                }
            }
        }
        self.send(Message::WorkerDone);
    }

    fn send(&self, message: Message) {
        // The receiver lives until every worker is done.
        let _ = self.sender.send(message);
    }

    /// This executable as supervisor, under another command where one is wanted.
    fn supervisor(&self, case: &Case) -> anyhow::Result<Command> {
        let Some((program, options)) = self.under.split_first() else {
            let mut command = Command::new("/proc/self/exe");
            command.arg0("conformance").arg(SUPERVISE);
            return Ok(command);
        };
        let id = case.id.replace('/', "-");
        let mut command = Command::new(program);
        command
            .args(options.iter().map(|option| option.replace("{case}", &id)))
            .arg(std::env::current_exe()?)
            .arg(SUPERVISE);
        Ok(command)
    }

    /// Runs one case; none where the run was interrupted meanwhile.
    fn supervise(&self, index: usize, case: &Case) -> anyhow::Result<Option<CaseResult>> {
        if let Some(reason) = self.settings.implementations.lacking(case) {
            return Ok(Some(not_applicable(case, reason)));
        }
        let assignment = Assignment {
            case: case.id.to_owned(),
            directory: self.run_directory.join(index.to_string()),
            keep: self.keep,
            settings: self.settings.clone(),
            secret: Secret::new().context("random bytes for the case's secret")?,
        };
        let mut command = self.supervisor(case)?;
        command
            .env_clear()
            .env("PATH", PATH_OF_CASES)
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", &self.run_directory);
        let deadline = Duration::from_secs(case.deadline_seconds).mul_f64(self.settings.timeout_scale);
        let (supervision, leash) =
            Supervision::start(command, &assignment, deadline).with_context(|| match self.under.first() {
                None => "a process for the case cannot be started".to_owned(),
                Some(program) => format!("--under: {program} cannot be started"),
            })?;
        let leash = Leash {
            input: Some(leash),
            supervisor: supervision.handle()?,
        };
        lock(&self.leashes).insert(index, leash);
        let result = supervision.result();
        let leash = lock(&self.leashes).remove(&index);
        let let_go = leash.is_none_or(|leash| leash.input.is_none());
        match result {
            Ok(Some(result)) => Ok(Some(result)),
            // The run was interrupted meanwhile.
            _ if let_go => Ok(None),
            Ok(None) => anyhow::bail!("the case's supervisor ended without a result"),
            Err(error) => Err(error),
        }
    }
}

fn not_applicable(case: &Case, reason: String) -> CaseResult {
    CaseResult {
        observed: Some(reason),
        ..CaseResult::new(case, Outcome::NotApplicable)
    }
}
