//! The audit log: one line of JSON per request that is not escalated; one at the start and one at the end of each that is.
//!
//! Environments are never written, since they contain secrets; the names of what was taken out of one are. Arguments are
//! written, since the decision was about them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::confinement::Execution;
use crate::policy::{Action, Decision, PolicyRequest};
use crate::protocol::ResultMessage;

/// Longer texts are truncated: the sandboxed side must not be able to fill the disk with one request.
const LONGEST_TEXT: usize = 1024;

/// Bytes of all arguments together, and their number; what is beyond is told by a count and a digest.
const LONGEST_ARGV: usize = 4096;
const MOST_ARGUMENTS: usize = 64;

/// Bytes and number of the names of variables that were taken out.
const LONGEST_NAME: usize = 64;
const MOST_NAMES: usize = 32;

/// An audit log, appended to a file. Its lines are described on the [front page](crate#audit-log).
#[derive(Debug)]
pub struct AuditLog {
    sink: Mutex<Sink>,
}

#[derive(Debug)]
struct Sink {
    file: File,
    /// The last line could be written only in part.
    torn: bool,
}

impl Sink {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        // One write per line: other processes may append to the same file.
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AuditLog {
    /// Opens a log, or creates one that only its owner can read.
    ///
    /// # Errors
    /// When the system refuses to open or create the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        let sink = Sink { file, torn: false };
        Ok(Self {
            sink: Mutex::new(sink),
        })
    }

    fn write(&self, entry: &Entry, asked: &Asked, event: Event, error: Option<String>) -> io::Result<()> {
        let decision = entry.decision.as_ref();
        let line = Line {
            time: humantime::format_rfc3339_millis(entry.arrived_at).to_string(),
            event,
            session: asked.session,
            request: entry.number,
            peer: asked.peer,
            program: &asked.program,
            canonical: asked.canonical.as_deref(),
            argv: &asked.argv.texts,
            argv_count: asked.argv.count,
            argv_sha256: asked.argv.digest.as_deref(),
            workdir: &asked.workdir,
            decision: decision.map(|decision| match decision.action {
                Action::Run => "run",
                Action::Escalate => "escalate",
                Action::Deny { .. } => "deny",
            }),
            rule: decision.and_then(|decision| decision.rule.as_deref()),
            execution: decision.and_then(|decision| match &decision.execution {
                Execution::Unsandboxed => None,
                Execution::SameSandbox => Some("same"),
                Execution::Profile(name) => Some(name),
            }),
            in_place: decision.is_some_and(|decision| decision.in_place),
            by_descriptor: entry.by_descriptor,
            env_removed: &entry.taken_out.texts,
            env_removed_count: entry.taken_out.count,
            decided_ms: entry.decided_after.map(milliseconds),
            result: entry.result,
            error: error.map(|error| cut(error, LONGEST_TEXT)),
            duration_ms: milliseconds(entry.arrived.elapsed()),
        };
        let bytes = serde_json::to_vec(&line)?;
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write_line(&bytes)
    }
}

/// What is known about a request so far. Its last line is written once: before the last message to the wrapper, so that lines
/// are in the order of the shell's commands, or when the request ends early.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Option<Arc<AuditLog>>,
    number: u64,
    arrived_at: SystemTime,
    arrived: Instant,
    decided_after: Option<Duration>,
    /// `None` for a stream without a request, about which nothing is written, and once the last line is written.
    asked: Option<Asked>,
    decision: Option<Decision>,
    taken_out: Texts,
    by_descriptor: bool,
    started: bool,
    result: Option<ResultMessage>,
}

/// What the lines say about a request.
#[derive(Debug)]
struct Asked {
    session: u64,
    peer: Option<i32>,
    program: String,
    canonical: Option<String>,
    argv: Texts,
    workdir: String,
}

/// Some of many texts.
#[derive(Debug, Default)]
struct Texts {
    texts: Vec<String>,
    /// Of all of them.
    count: usize,
    /// Of all of them, where not all are here in full.
    digest: Option<String>,
}

impl Entry {
    pub(crate) fn new(number: u64, log: Option<Arc<AuditLog>>) -> Self {
        Self {
            log,
            number,
            arrived_at: SystemTime::now(),
            arrived: Instant::now(),
            decided_after: None,
            asked: None,
            decision: None,
            taken_out: Texts::default(),
            by_descriptor: false,
            started: false,
            result: None,
        }
    }

    /// Records the request, without its environment.
    pub(crate) fn asked(&mut self, request: &PolicyRequest) {
        if self.log.is_none() {
            return;
        }
        let path = |path: &Path| text(path.as_os_str(), LONGEST_TEXT);
        self.asked = Some(Asked {
            session: request.session,
            peer: request.peer,
            program: path(&request.program),
            canonical: request.canonical.as_deref().map(path),
            argv: arguments(&request.argv),
            workdir: path(&request.workdir),
        });
    }

    /// Records the names of the variables that an escalated child does not get as they were requested.
    pub(crate) fn taken_out(&mut self, names: &[OsString]) {
        let texts = names.iter().take(MOST_NAMES);
        self.taken_out = Texts {
            texts: texts.map(|name| text(name, LONGEST_NAME)).collect(),
            count: names.len(),
            digest: None,
        };
    }

    /// Records a decision. The start of an escalated command must be on record before the command can start: if it can't be
    /// written, the decision becomes a denial.
    pub(crate) fn decided(&mut self, decision: Decision) -> Decision {
        self.decided_after = Some(self.arrived.elapsed());
        let escalates = decision.action == Action::Escalate;
        self.decision = Some(decision.clone());
        let (true, Some(asked), Some(log)) = (escalates, &self.asked, &self.log) else {
            return decision;
        };
        match log.write(self, asked, Event::Start, None) {
            Ok(()) => {
                self.started = true;
                decision
            }
            Err(error) => {
                tracing::error!(%error, "cannot write to the audit log: escalations are refused");
                let denial = Decision {
                    rule: decision.rule,
                    ..Decision::deny(Some(format!("the audit log cannot be written: {error}")))
                };
                self.decision = Some(denial.clone());
                denial
            }
        }
    }

    /// Records whether an escalated command finds `/dev/fd/N` as its name.
    pub(crate) fn by_descriptor(&mut self, by_descriptor: bool) {
        self.by_descriptor = by_descriptor;
    }

    /// Records how the child ended, and writes the last line.
    pub(crate) fn ended(&mut self, result: ResultMessage) {
        self.result = Some(result);
        self.write(None);
    }

    /// Writes the last line, unless it has already been written.
    pub(crate) fn write(&mut self, error: Option<String>) {
        if let (Some(asked), Some(log)) = (self.asked.take(), &self.log) {
            let event = if self.started { Event::End } else { Event::Request };
            if let Err(error) = log.write(self, &asked, event, error) {
                tracing::error!(%error, "cannot write to the audit log");
            }
        }
    }
}

/// What a line is about.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    /// The whole of a request that was not escalated.
    Request,
    /// An escalation was decided; the command is about to be started.
    Start,
    /// An escalated command has ended, or came to nothing.
    End,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: Event,
    session: u64,
    request: u64,
    peer: Option<i32>,
    program: &'a str,
    canonical: Option<&'a str>,
    argv: &'a [String],
    argv_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    argv_sha256: Option<&'a str>,
    workdir: &'a str,
    decision: Option<&'static str>,
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    in_place: bool,
    #[serde(skip_serializing_if = "is_false")]
    by_descriptor: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    env_removed: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    env_removed_count: usize,
    decided_ms: Option<u64>,
    result: Option<ResultMessage>,
    error: Option<String>,
    duration_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The first arguments, as many as there is room for; if that is not all of them, with the SHA-256 of all, each followed by a
/// NUL.
fn arguments(argv: &[OsString]) -> Texts {
    let mut texts = Vec::new();
    let mut room = LONGEST_ARGV;
    for argument in argv.iter().take(MOST_ARGUMENTS) {
        if room == 0 {
            break;
        }
        let shown = text(argument, LONGEST_TEXT.min(room));
        room = room.saturating_sub(argument.len());
        texts.push(shown);
    }
    let whole = texts.len() == argv.len()
        && argv.iter().all(|argument| argument.len() <= LONGEST_TEXT)
        && argv.iter().map(|argument| argument.len()).sum::<usize>() <= LONGEST_ARGV;
    let digest = (!whole).then(|| {
        let mut digest = Sha256::new();
        for argument in argv {
            digest.update(argument.as_bytes());
            digest.update([0]);
        }
        let bytes = digest.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    });
    Texts {
        texts,
        count: argv.len(),
        digest,
    }
}

fn text(text: &OsStr, longest: usize) -> String {
    // Each byte outside UTF-8 becomes three; what is far beyond the limit needs no look.
    let whole = text.len();
    let head = &text.as_bytes()[..whole.min(longest + 4)];
    cut_of(String::from_utf8_lossy(head).into_owned(), longest, whole)
}

fn cut(text: String, longest: usize) -> String {
    let whole = text.len();
    cut_of(text, longest, whole)
}

/// At most `longest` bytes of a text that had `whole`, and how many these were.
fn cut_of(mut text: String, longest: usize, whole: usize) -> String {
    if text.len() > longest || whole > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push_str(&format!("… ({whole} bytes)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> PolicyRequest {
        let mut request = PolicyRequest::new("/bin/echo");
        request.session = 3;
        request.canonical = Some("/usr/bin/echo".into());
        request.argv = vec!["echo".into(), "line\nbreak".into(), "x".repeat(5000).into()];
        request.workdir = "/tmp".into();
        request.env = vec![("TOKEN".into(), "secret".into())];
        request.peer = Some(42);
        request
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn texts_over_the_limit_are_truncated() {
        let longest = "x".repeat(LONGEST_TEXT);
        assert_eq!(text(OsStr::new(&longest), LONGEST_TEXT), longest);
        assert_eq!(
            text(OsStr::new(&format!("{longest}y")), LONGEST_TEXT),
            format!("{longest}… (1025 bytes)")
        );
        let split = format!("{}ü", "x".repeat(LONGEST_TEXT - 1));
        assert_eq!(
            text(OsStr::new(&split), LONGEST_TEXT),
            format!("{}… (1025 bytes)", "x".repeat(LONGEST_TEXT - 1))
        );
    }

    #[test]
    fn durations_are_in_milliseconds() {
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
    }

    #[test]
    fn an_escalated_request_has_a_line_at_its_start_and_one_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let log = Arc::new(AuditLog::open(&path).unwrap());
        let mut entry = Entry::new(7, Some(Arc::clone(&log)));
        entry.asked(&request());
        entry.taken_out(&["GIT_SSH_COMMAND".into()]);
        entry.decided(Decision::escalate().by_rule("line 2"));
        let started = lines(&path);
        assert_eq!((started.len(), &started[0]["event"]), (1, &"start".into()));
        assert!(started[0]["result"].is_null());
        assert_eq!(started[0]["env_removed"], serde_json::json!(["GIT_SSH_COMMAND"]));
        entry.ended(ResultMessage {
            exit_code: 143,
            signal: Some(15),
        });
        entry.write(Some("the wrapper has gone".to_owned()));
        // A stream without a request leaves no line.
        Entry::new(8, Some(log)).write(Some("garbage".to_owned()));
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret") && !text.contains("TOKEN"));
        let line = &lines[1];
        assert_eq!(line["event"], "end");
        assert_eq!(
            (&line["program"], &line["canonical"]),
            (&"/bin/echo".into(), &"/usr/bin/echo".into())
        );
        assert_eq!(line["argv"][1], "line\nbreak");
        assert!(line["argv"][2].as_str().unwrap().ends_with("… (5000 bytes)"));
        assert_eq!(
            line["result"],
            serde_json::json!({"exit_code": 143, "signal": 15})
        );
        assert_eq!(
            (&line["decision"], &line["rule"]),
            (&"escalate".into(), &"line 2".into())
        );
        assert_eq!(
            (&line["session"], &line["request"], &line["peer"]),
            (&3.into(), &7.into(), &42.into())
        );
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["error"].is_null());
    }

    #[test]
    fn what_is_not_escalated_has_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let log = Arc::new(AuditLog::open(&path).unwrap());
        let mut entry = Entry::new(1, Some(log));
        entry.asked(&request());
        entry.decided(Decision::run());
        entry.write(None);
        let lines = lines(&path);
        assert_eq!((lines.len(), &lines[0]["event"]), (1, &"request".into()));
    }

    #[test]
    fn an_escalation_that_cannot_be_recorded_is_denied() {
        let log = Arc::new(AuditLog::open(Path::new("/dev/full")).unwrap());
        let mut entry = Entry::new(1, Some(log));
        entry.asked(&request());
        let decision = entry.decided(Decision::escalate());
        let Action::Deny { reason: Some(reason) } = decision.action() else {
            panic!("{decision:?}");
        };
        assert!(
            reason.starts_with("the audit log cannot be written: No space left"),
            "{reason}"
        );
        assert_eq!(entry.decided(Decision::run()), Decision::run());
    }

    #[test]
    fn a_line_is_bounded_whatever_the_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let log = Arc::new(AuditLog::open(&path).unwrap());
        let worst = |length| OsString::from("\u{1}".repeat(length));
        let mut request = request();
        request.program = worst(100_000).into();
        request.canonical = Some(worst(100_000).into());
        request.workdir = worst(100_000).into();
        request.argv = std::iter::repeat_with(|| worst(3000)).take(2000).collect();
        let mut entry = Entry::new(1, Some(log));
        entry.asked(&request);
        entry.taken_out(&vec![worst(3000); 2000]);
        entry.decided(Decision::escalate());
        entry.write(Some("\u{1}".repeat(100_000)));
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            assert!(line.len() < 64 * 1024, "{} bytes", line.len());
        }
        let line = &lines(&path)[0];
        assert_eq!(line["argv_count"], 2000);
        assert_eq!(line["env_removed_count"], 2000);
        assert_eq!(line["argv_sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn arguments_that_are_cut_are_told_by_count_and_digest() {
        let whole = arguments(&["a".into(), "b".into()]);
        assert_eq!((whole.count, whole.digest), (2, None));
        let many = arguments(&vec!["a".into(); MOST_ARGUMENTS + 1]);
        assert_eq!(
            (many.texts.len(), many.count),
            (MOST_ARGUMENTS, MOST_ARGUMENTS + 1)
        );
        // printf 'a\0%.0s' {1..65} | sha256sum
        assert_eq!(
            many.digest.unwrap(),
            "abe7e9fed67c309aa2cc5d09a7062d208f29943dba8b184dfa32d07e9b5c7145"
        );
        let same_start = |end: &str| {
            arguments(&[format!("{}{end}", "x".repeat(2000)).into()])
                .digest
                .unwrap()
        };
        assert_ne!(same_start("1"), same_start("2"));
    }

    #[test]
    fn a_line_after_a_torn_one_stands_on_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let log = AuditLog::open(&path).unwrap();
        let mut sink = log.sink.lock().unwrap();
        sink.write_line(b"half").unwrap();
        sink.torn = true;
        sink.write_line(b"whole").unwrap();
        sink.write_line(b"whole").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half\n\nwhole\nwhole\n");
    }
}
