//! Runs cases, several at a time, and tells what happens as a stream of events.

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::channel::Secret;
use super::plan::{Plan, Planned};
use super::supervision::Supervision;
use super::{Assignment, SUPERVISE, Work, census, install, interrupts, own_supervisor, with_environment};
use crate::case::Case;
use crate::case::context::Settings;
use crate::case::result::{CaseResult, Outcome};
use crate::case::run::{Cause, RunEvent};
use crate::exit::HarnessFailure;
use crate::system::process::ProcessHandle;

/// How cases are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What every case is told.
    pub settings: Settings,
    /// Cases at a time.
    pub jobs: usize,
    /// Whether the directories of cases stay.
    pub keep: bool,
    /// A command under which each case runs; none in general.
    pub under: Vec<String>,
}

/// What one round came to.
pub struct Round {
    /// The results, in the order of the plan.
    pub results: Vec<CaseResult>,
    /// Why it ended before all its cases had run, where it did.
    pub cut_short: Option<Cause>,
    /// Where the directories of cases stay, where they do.
    pub kept: Option<PathBuf>,
}

enum Message {
    Event(RunEvent),
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

/// Runs the cases of `plan`, no more once `most_failures` of them were not as expected; `tell` hears every event.
///
/// # Errors
/// Where the run's directory cannot be made.
pub fn run(
    plan: &Plan,
    options: &Options,
    most_failures: Option<usize>,
    tell: &mut dyn FnMut(&RunEvent),
) -> anyhow::Result<Round> {
    let run_directory = tempfile::Builder::new()
        .prefix("conformance-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("a directory for the cases (is TMPDIR writable?)")?;
    let probe_executable = install::probe(run_directory.path())?;
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
    let mut results = Vec::new();
    let mut waiting = VecDeque::new();
    for (index, planned) in plan.cases.iter().enumerate() {
        match planned.without_running() {
            None => waiting.push_back((index, planned.clone())),
            Some(result) => {
                let result = planned.settle(result, options.settings.seed);
                tell(&RunEvent::CaseFinished(Box::new(result.clone())));
                results.push(result);
            }
        }
    }
    let queue = Arc::new(Mutex::new(Queue {
        waiting,
        most_failures,
        failures: 0,
        cut_short: None,
    }));
    let workers: Vec<_> = (0..options.jobs.max(1))
        .map(|_| {
            let worker = Worker {
                queue: queue.clone(),
                leashes: leashes.clone(),
                options: options.clone(),
                probe_executable: probe_executable.clone(),
                run_directory: run_directory.path().to_owned(),
                sender: sender.clone(),
            };
            std::thread::spawn(move || worker.work())
        })
        .collect();
    let mut collector = Collector {
        at_work: workers.len(),
        queue: &queue,
        leashes: &leashes,
        results,
    };
    collector.collect(&receiver, tell);
    let mut results = collector.results;
    for worker in workers {
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("a worker thread of the runner panicked"))?;
    }
    // Where a supervisor was killed, what it watched over has come to this process.
    let ended = census::kill_all_descendants();
    ended.map_err(|error| anyhow::anyhow!("what a case left running cannot be ended: {error}"))?;
    signals_handle.close();
    signal_thread
        .join()
        .map_err(|_| anyhow::anyhow!("the signal thread of the runner panicked"))?;
    let cut_short = lock(&queue).cut_short;
    if cut_short.is_none() && results.len() != plan.cases.len() {
        let (got, planned) = (results.len(), plan.cases.len());
        let what = format!("{planned} cases were planned, and {got} have a result");
        return Err(HarnessFailure(what).into());
    }
    results.sort_by_key(|result| plan.cases.iter().position(|planned| planned.case.id == result.id));
    let kept = options.keep.then(|| run_directory.keep());
    Ok(Round {
        results,
        cut_short,
        kept,
    })
}

/// The cases that have not started yet.
struct Queue {
    waiting: VecDeque<(usize, Planned)>,
    most_failures: Option<usize>,
    failures: usize,
    cut_short: Option<Cause>,
}

impl Queue {
    /// Lets no other case start once there are too many failures. Those that run are not disturbed.
    fn count_failure(&mut self) {
        self.failures += 1;
        let too_many = self.most_failures.is_some_and(|most| self.failures >= most);
        if too_many && !self.waiting.is_empty() {
            self.waiting.clear();
            self.cut_short.get_or_insert(Cause::Failures(self.failures));
        }
    }

    fn interrupt(&mut self, signal: i32) {
        self.waiting.clear();
        self.cut_short = Some(Cause::Signal(signal));
    }
}

/// Follows the workers to their end.
struct Collector<'a> {
    at_work: usize,
    queue: &'a Mutex<Queue>,
    leashes: &'a Leashes,
    results: Vec<CaseResult>,
}

impl Collector<'_> {
    fn collect(&mut self, receiver: &Receiver<Message>, tell: &mut dyn FnMut(&RunEvent)) {
        // Until when the supervisors may take to end their cases, once a signal has come.
        let mut patience: Option<Instant> = None;
        while self.at_work > 0 {
            // The sender in `run` lives until the end, so this ends only when all workers are done.
            let message = match patience {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => receiver.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::Event(event)) => {
                    tell(&event);
                    if let RunEvent::CaseFinished(result) = event {
                        self.results.push(*result);
                    }
                }
                Ok(Message::Interrupted(signal)) => {
                    patience = Some(Instant::now() + LAST_WORDS);
                    lock(self.queue).interrupt(signal);
                    for leash in lock(self.leashes).values_mut() {
                        leash.input = None;
                    }
                }
                Ok(Message::WorkerDone) => self.at_work -= 1,
                Err(RecvTimeoutError::Timeout) => {
                    for leash in lock(self.leashes).values() {
                        // One that can't be killed is the worker's error, which waits for its end.
                        let _ = census::kill_tree(&leash.supervisor);
                    }
                    patience = Some(Instant::now() + LAST_WORDS);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Worker {
    queue: Arc<Mutex<Queue>>,
    leashes: Leashes,
    options: Options,
    probe_executable: PathBuf,
    run_directory: PathBuf,
    sender: Sender<Message>,
}

impl Worker {
    fn work(self) {
        loop {
            let next = lock(&self.queue).waiting.pop_front();
            let Some((index, planned)) = next else { break };
            self.send(Message::Event(RunEvent::CaseStarted(planned.case.id)));
            let result = match self.supervise(index, &planned.case) {
                Ok(Some(result)) => result,
                Ok(None) => continue,
                Err(error) => CaseResult {
                    observed: Some(format!("{error:#}")),
                    ..CaseResult::new(&planned.case, Outcome::HarnessError)
                },
            };
            let settled = planned.settle(result, self.options.settings.seed);
            if settled.is_unexpected() {
                lock(&self.queue).count_failure();
            }
            self.send(Message::Event(RunEvent::CaseFinished(Box::new(settled))));
        }
        self.send(Message::WorkerDone);
    }

    fn send(&self, message: Message) {
        // The receiver lives until every worker is done.
        let _ = self.sender.send(message);
    }

    /// This executable as supervisor, under another command where one is wanted.
    fn supervisor(&self, case: &Case) -> anyhow::Result<Command> {
        let Some((program, options)) = self.options.under.split_first() else {
            return Ok(own_supervisor(&self.run_directory));
        };
        let id = case.id.replace('/', "-");
        let mut command = Command::new(program);
        command
            .args(options.iter().map(|option| option.replace("{case}", &id)))
            .arg(std::env::current_exe()?)
            .arg(SUPERVISE);
        with_environment(&mut command, &self.run_directory);
        Ok(command)
    }

    /// Runs one case; none where the run was interrupted meanwhile.
    fn supervise(&self, index: usize, case: &Case) -> anyhow::Result<Option<CaseResult>> {
        let assignment = Assignment {
            work: Work::Case(case.id.to_owned()),
            directory: self.run_directory.join(index.to_string()),
            keep: self.options.keep,
            probe_executable: self.probe_executable.clone(),
            settings: self.options.settings.clone(),
            secret: Secret::new().context("random bytes for the case's secret")?,
        };
        let command = self.supervisor(case)?;
        let deadline = case.longest(self.options.settings.timeout_scale);
        let (supervision, leash) = Supervision::start(command, &assignment, deadline).with_context(|| {
            match self.options.under.first() {
                None => "a process for the case cannot be started".to_owned(),
                Some(program) => format!("--under: {program} cannot be started"),
            }
        })?;
        let leash = Leash {
            input: Some(leash),
            supervisor: supervision.handle()?,
        };
        lock(&self.leashes).insert(index, leash);
        let result = supervision.result(case.id);
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
