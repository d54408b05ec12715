//! One process per case or trial that stands over it: deadline, crash, and what is left when it has ended.
//!
//! It is a subreaper, so everything that the case started and lost comes to it. Its standard input comes from
//! the runner and ends with the runner, so that no case outlives the run, however the run ends.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, Pid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::{self, Event};
use super::channel::Lines;
use super::supervision::{foreign_bytes, tampered};
use super::{Assignment, Work, census};
use crate::case::result::{CaseResult, Outcome};
use crate::case::{ATTEMPTS, Case};
use crate::suite;
use crate::system::clock::Moment;
use crate::system::process::{Ended, ProcessHandle};
use crate::trial::{self, Trial};
use crate::verdict::{CaseError, harness, violation};

/// Lines of the wire that are kept at each end of a long transcript.
const TRANSCRIPT_LINES: usize = 150;

/// Bytes that may be written into a case's directory, standard errors included, beside the suite's own programs.
const WRITTEN_BYTES: u64 = 256 << 20;

/// How often the supervisor looks at that. The kernel tells nobody that a file has grown beyond a size.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Bytes of each standard error that a failure shows.
const TAIL_BYTES: u64 = 2_000;

/// Entry of the supervisor process. Returns its exit status: 0 when a result has been written.
pub fn main() -> i32 {
    match supervise() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("conformance: supervisor: {error:#}");
            3
        }
    }
}

fn supervise() -> anyhow::Result<()> {
    let mut line = String::new();
    // Unbuffered would be slow and buffered may swallow: the runner sends one line and then nothing.
    io::stdin().lock().read_line(&mut line)?;
    let assignment: Assignment = serde_json::from_str(&line)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    census::keep_to_ourselves()?;
    std::fs::create_dir(&assignment.directory)?;
    match assignment.work.clone() {
        Work::Case(id) => supervise_case(&id, assignment),
        Work::Trial(trial) => supervise_trial(trial, assignment),
    }
}

fn supervise_case(id: &str, assignment: Assignment) -> anyhow::Result<()> {
    let started = Instant::now();
    let case = suite::find(id).ok_or_else(|| anyhow::anyhow!("no case {id}"))?;
    let (directory, keep, secret) = (
        assignment.directory.clone(),
        assignment.keep,
        assignment.secret.clone(),
    );
    let scale = assignment.settings.timeout_scale;
    let deadline = Duration::from_secs(case.deadline_seconds).mul_f64(scale);
    let mut begun_again = Vec::new();
    let mut attempts = if case.by_the_clock { ATTEMPTS } else { 1 };
    let (watch, seen) = loop {
        attempts -= 1;
        let until = Moment::now() + deadline;
        let (watch, seen) = Watch::over(assignment.clone(), until, |assignment, transcript| {
            body::judge(case.id, assignment, transcript)
        })?;
        match &seen {
            Seen::Over(Err(CaseError::Violation { expected, observed }))
                if attempts > 0 && !watch.held_up.is_zero() =>
            {
                begun_again.push(format!(
                    "The case began again: the suite was held up for {:?}, while the peer's clock went on. Expected: {expected}. \
                     Observed: {observed}",
                    watch.held_up
                ));
            }
            _ => break (watch, seen),
        }
        census::kill_all_descendants().map_err(in_words)?;
        std::fs::remove_dir_all(&directory)?;
        std::fs::create_dir(&directory)?;
    };
    if matches!(seen, Seen::RunnerGone) {
        census::kill_all_descendants().map_err(in_words)?;
        remove(&directory, keep);
        return Ok(());
    }
    let mut result = judge(&case, seen, deadline);
    let survivors = census::end_of_all_descendants(census::GRACE.mul_f64(scale)).map_err(in_words)?;
    let stray = census::stray_files(&directory.join("tmp"));
    add_remains(&mut result, &survivors, &stray);
    result.transcript = begun_again;
    result.transcript.extend(watch.transcript.into_lines());
    if !result.outcome.is_green() {
        result.stderr_tail = error_tail(&directory);
    }
    result.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    remove(&directory, keep);
    if watch.lines.foreign() > 0 {
        tampered(&mut result, watch.lines.foreign());
    }
    io::stdout().lock().write_all(&secret.line(&result)?)?;
    Ok(())
}

/// What a trial leaves running is ended and not held against it: that is for the cases.
fn supervise_trial(trial: Trial, assignment: Assignment) -> anyhow::Result<()> {
    let (directory, secret) = (assignment.directory.clone(), assignment.secret.clone());
    let scale = assignment.settings.timeout_scale;
    let deadline = trial::DEADLINE.mul_f64(scale);
    let (watch, seen) = Watch::over(assignment, Moment::now() + deadline, |assignment, _| {
        trial.attempt(&assignment.settings, &assignment.directory)
    })?;
    census::kill_all_descendants().map_err(in_words)?;
    remove(&directory, false);
    let mut found = match seen {
        Seen::Over(found) => found,
        Seen::Crash(ended) => Err(harness(format_args!(
            "the suite's process that tried it was ended: {ended}"
        ))),
        Seen::Deadline => Err(violation(
            format_args!("an end within {deadline:?}"),
            "the suite's process that tried it was held up for longer",
        )),
        Seen::Flood(bytes) => Err(flooded(bytes)),
        Seen::RunnerGone => return Ok(()),
    };
    if watch.lines.foreign() > 0 {
        found = Err(foreign_bytes(watch.lines.foreign()));
    }
    io::stdout().lock().write_all(&secret.line(&found)?)?;
    Ok(())
}

fn in_words(error: CaseError) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// The body must not hold the pipes of the supervisor, and dies with it.
fn detach_from_runner() -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    Ok(())
}

/// How the body's run was seen to go.
enum Seen<T> {
    Over(Result<T, CaseError>),
    Crash(Ended),
    Deadline,
    /// It had written so many bytes into its directory that the supervisor ended it.
    Flood(u64),
    RunnerGone,
}

struct Watch {
    reader: File,
    lines: Lines,
    transcript: Transcript,
    held_up: Duration,
}

impl Watch {
    /// Forks a body that does `work`, and follows it to its end.
    fn over<T: Serialize + DeserializeOwned>(
        assignment: Assignment,
        deadline: Moment,
        work: impl FnOnce(Assignment, crate::transcript::Transcript) -> Result<T, CaseError>,
    ) -> anyhow::Result<(Watch, Seen<T>)> {
        let directory = assignment.directory.clone();
        let lines = Lines::new(assignment.secret.clone());
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread, so the child may do anything.
        let body = match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => {
                drop(reader);
                detach_from_runner()?;
                body::run(assignment, work, File::from(writer));
                // No destructors and no handlers of the parent; the outcome is told.
                // SAFETY: _exit takes an integer.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => child,
        };
        drop(writer);
        let mut watch = Watch {
            reader: File::from(reader),
            lines,
            transcript: Transcript::default(),
            held_up: Duration::ZERO,
        };
        let seen = watch.until_over(body, &directory, deadline)?;
        Ok((watch, seen))
    }

    /// Follows the body until its outcome and end, its crash, the deadline, a flood, or the end of the runner.
    fn until_over<T: DeserializeOwned>(
        &mut self,
        body: Pid,
        directory: &Path,
        deadline: Moment,
    ) -> anyhow::Result<Seen<T>> {
        let handle = ProcessHandle::open(body).map_err(in_words)?;
        let handle = handle.ok_or_else(|| anyhow::anyhow!("the case's process vanished"))?;
        let stdin = io::stdin();
        let mut outcome = None;
        let mut next_look = Moment::now() + BETWEEN_LOOKS;
        loop {
            let now = Moment::now();
            let seen = if now >= deadline {
                Some(Seen::Deadline)
            } else if now >= next_look {
                next_look = now + BETWEEN_LOOKS;
                let written = census::bytes_below(directory, &["bin", "probe"]);
                (written > WRITTEN_BYTES).then_some(Seen::Flood(written))
            } else {
                None
            };
            if let Some(seen) = seen {
                handle.signal(libc::SIGKILL).map_err(in_words)?;
                handle.reap().map_err(in_words)?;
                return Ok(seen);
            }
            let left = deadline.min(next_look).left();
            let timeout = PollTimeout::from(u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX));
            let mut set = [
                PollFd::new(self.reader.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut set, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            if set[1].any().unwrap_or(false) {
                return Ok(Seen::RunnerGone);
            }
            if !set[0].any().unwrap_or(false) {
                continue;
            }
            let mut bytes = [0; 1 << 16];
            let length = self.reader.read(&mut bytes)?;
            if length == 0 {
                let ended = handle.reap().map_err(in_words)?;
                return Ok(outcome.map_or(Seen::Crash(ended), Seen::Over));
            }
            for event in self.lines.take(&bytes[..length]) {
                match event {
                    Event::Wire(line) => self.transcript.push(line),
                    Event::HeldUp(time) => self.held_up = time,
                    Event::Over(result) => outcome = Some(result),
                }
            }
        }
    }
}

/// So many bytes are in the directory of a case or trial.
fn flooded(bytes: u64) -> CaseError {
    violation(
        format_args!("no more than {WRITTEN_BYTES} bytes are written into its directory"),
        format_args!("{bytes} bytes, standard error included"),
    )
}

fn judge(case: &Case, seen: Seen<()>, deadline: Duration) -> CaseResult {
    let (outcome, expected, observed) = match seen {
        Seen::Over(Ok(())) => (Outcome::Pass, None, None),
        Seen::Over(Err(CaseError::Violation { expected, observed })) => {
            (Outcome::Fail, Some(expected), Some(observed))
        }
        Seen::Over(Err(CaseError::Harness(what))) => (Outcome::HarnessError, None, Some(what)),
        Seen::Over(Err(CaseError::NotApplicable(why))) => (Outcome::NotApplicable, None, Some(why)),
        Seen::Crash(ended) => (
            Outcome::HarnessError,
            None,
            Some(format!("the case's process ended without a verdict: {ended}")),
        ),
        Seen::Deadline => (
            Outcome::Fail,
            Some(format!("the case ends within its deadline of {deadline:?}")),
            Some("it did not; the wire shows how far it came".to_owned()),
        ),
        Seen::Flood(bytes) => return judge(case, Seen::Over(Err(flooded(bytes))), deadline),
        Seen::RunnerGone => (
            Outcome::HarnessError,
            None,
            Some("the run was interrupted".to_owned()),
        ),
    };
    CaseResult {
        expected,
        observed,
        ..CaseResult::new(case, outcome)
    }
}

/// What survived is a failure of a case that would have passed, and a remark on one that failed anyway.
fn add_remains(result: &mut CaseResult, survivors: &[String], stray: &[String]) {
    let mut remains = Vec::new();
    if !survivors.is_empty() {
        remains.push(format!("still running after the case: {}", survivors.join("; ")));
    }
    if !stray.is_empty() {
        remains.push(format!("left in TMPDIR: {}", stray.join(", ")));
    }
    if remains.is_empty() {
        return;
    }
    let remains = remains.join("\n");
    if result.outcome == Outcome::Pass {
        result.outcome = Outcome::Fail;
        result.expected = Some("nothing is left of the case: no process, no file".to_owned());
        result.observed = Some(remains);
    } else if let Some(observed) = &mut result.observed {
        *observed = format!("{observed}\n{remains}");
    }
}

fn error_tail(directory: &Path) -> Option<String> {
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "stderr"))
        .collect();
    paths.sort();
    let mut tail = String::new();
    for path in paths {
        let bytes = tail_of(&path).unwrap_or_default();
        if bytes.is_empty() {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        tail.push_str(&format!(
            "[{name}] {}\n",
            String::from_utf8_lossy(&bytes).trim_end()
        ));
    }
    (!tail.is_empty()).then(|| tail.trim_end().to_owned())
}

/// The last bytes of a file of any size.
fn tail_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remove(directory: &Path, keep: bool) {
    if keep {
        return;
    }
    if let Err(error) = std::fs::remove_dir_all(directory) {
        eprintln!("conformance: {}: cannot be removed: {error}", directory.display());
    }
}

/// The first and the last lines of a wire.
#[derive(Default)]
struct Transcript {
    first: Vec<String>,
    last: VecDeque<String>,
    cut: usize,
}

impl Transcript {
    fn push(&mut self, line: String) {
        if self.first.len() < TRANSCRIPT_LINES {
            self.first.push(line);
            return;
        }
        self.last.push_back(line);
        if self.last.len() > TRANSCRIPT_LINES {
            self.last.pop_front();
            self.cut += 1;
        }
    }

    fn into_lines(self) -> Vec<String> {
        let mut lines = self.first;
        if self.cut > 0 {
            lines.push(format!("… {} lines left out …", self.cut));
        }
        lines.extend(self.last);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(lines: usize) -> Vec<String> {
        let mut transcript = Transcript::default();
        for line in 0..lines {
            transcript.push(line.to_string());
        }
        transcript.into_lines()
    }

    #[test]
    fn the_middle_of_a_long_wire_is_left_out_and_counted() {
        let all: Vec<String> = (0..2 * TRANSCRIPT_LINES).map(|line| line.to_string()).collect();
        assert_eq!(transcript(2 * TRANSCRIPT_LINES), all);
        let cut = transcript(2 * TRANSCRIPT_LINES + 3);
        let (first, rest) = cut.split_at(TRANSCRIPT_LINES);
        assert_eq!(first, &all[..TRANSCRIPT_LINES]);
        assert_eq!(rest[0], "… 3 lines left out …");
        let last = (TRANSCRIPT_LINES + 3..2 * TRANSCRIPT_LINES + 3).map(|line| line.to_string());
        assert_eq!(rest[1..], last.collect::<Vec<_>>());
    }
}
