//! The audit log: one line of JSON per request, written when the request ends.
//!
//! Environments are never written, since they contain secrets. Arguments are, since the decision was about them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::policy::{Action, Decision, PolicyRequest};
use crate::protocol::ResultMessage;

/// Longer texts are truncated: the sandboxed side must not be able to fill the disk with one request.
const LONGEST_TEXT: usize = 1024;

/// An audit log, appended to a file. Its lines are described on the [front page](crate#audit-log).
#[derive(Debug)]
pub struct AuditLog {
    file: Mutex<File>,
}

impl AuditLog {
    /// Opens a log, or creates one that only its owner can read.
    ///
    /// # Errors
    /// When the system refuses to open or create the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }

    fn write(&self, entry: &Entry, request: &PolicyRequest, error: Option<String>) {
        let line = Line {
            time: humantime::format_rfc3339_millis(entry.arrived_at).to_string(),
            session: request.session,
            request: entry.number,
            peer: request.peer,
            program: cut(request.program.as_os_str().to_string_lossy().into_owned()),
            argv: request.argv.iter().map(text).collect(),
            workdir: cut(request.workdir.to_string_lossy().into_owned()),
            decision: entry.decision.as_ref().map(|decision| match decision.action {
                Action::Run => "run",
                Action::Escalate => "escalate",
                Action::Deny { .. } => "deny",
            }),
            rule: entry
                .decision
                .as_ref()
                .and_then(|decision| decision.rule.as_deref()),
            decided_ms: entry.decided_after.map(milliseconds),
            result: entry.result,
            error,
            duration_ms: milliseconds(entry.arrived.elapsed()),
        };
        let written = serde_json::to_vec(&line)
            .map_err(io::Error::from)
            .and_then(|mut bytes| {
                bytes.push(b'\n');
                // One write per line: other processes may append to the same file.
                self.file
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .write_all(&bytes)
            });
        if let Err(error) = written {
            tracing::error!(%error, "cannot write to the audit log");
        }
    }
}

/// What is known about a request so far. Its line is written once: before the last message to the wrapper, so that lines are in
/// the order of the shell's commands, or when the request ends early.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Option<Arc<AuditLog>>,
    number: u64,
    arrived_at: SystemTime,
    arrived: Instant,
    decided_after: Option<Duration>,
    /// `None` for a stream without a request, about which nothing is written, and once the line is written.
    request: Option<PolicyRequest>,
    decision: Option<Decision>,
    result: Option<ResultMessage>,
}

impl Entry {
    pub(crate) fn new(number: u64, log: Option<Arc<AuditLog>>) -> Self {
        Self {
            log,
            number,
            arrived_at: SystemTime::now(),
            arrived: Instant::now(),
            decided_after: None,
            request: None,
            decision: None,
            result: None,
        }
    }

    /// Records the request, without its environment.
    pub(crate) fn asked(&mut self, request: &PolicyRequest) {
        if self.log.is_none() {
            return;
        }
        self.request = Some(PolicyRequest {
            session: request.session,
            program: request.program.clone(),
            canonical: None,
            argv: request.argv.clone(),
            workdir: request.workdir.clone(),
            env: Vec::new(),
            peer: request.peer,
            clock: Arc::clone(&request.clock),
        });
    }

    /// Records how the child ended, and writes the line.
    pub(crate) fn ended(&mut self, result: ResultMessage) {
        self.result = Some(result);
        self.write(None);
    }

    /// Writes the line, unless it has already been written.
    pub(crate) fn write(&mut self, error: Option<String>) {
        if let (Some(request), Some(log)) = (self.request.take(), &self.log) {
            log.write(self, &request, error);
        }
    }

    pub(crate) fn decided(&mut self, decision: &Decision) {
        self.decided_after = Some(self.arrived.elapsed());
        self.decision = Some(decision.clone());
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    session: u64,
    request: u64,
    peer: Option<i32>,
    program: String,
    argv: Vec<String>,
    workdir: String,
    decision: Option<&'static str>,
    rule: Option<&'a str>,
    decided_ms: Option<u64>,
    result: Option<ResultMessage>,
    error: Option<String>,
    duration_ms: u64,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn text(text: &OsString) -> String {
    cut(text.to_string_lossy().into_owned())
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push_str(&format!("… ({whole} bytes)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stopwatch;

    fn entry(log: Arc<AuditLog>) -> Entry {
        let mut entry = Entry::new(7, Some(log));
        entry.asked(&PolicyRequest {
            session: 3,
            program: "/bin/echo".into(),
            canonical: None,
            argv: vec!["echo".into(), "line\nbreak".into(), "x".repeat(5000).into()],
            workdir: "/tmp".into(),
            env: vec![("TOKEN".into(), "secret".into())],
            peer: Some(42),
            clock: Stopwatch::start(),
        });
        entry
    }

    #[test]
    fn texts_over_the_limit_are_truncated() {
        let longest = "x".repeat(LONGEST_TEXT);
        assert_eq!(cut(longest.clone()), longest);
        assert_eq!(cut(format!("{longest}y")), format!("{longest}… (1025 bytes)"));
    }

    #[test]
    fn durations_are_in_milliseconds() {
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
    }

    #[test]
    fn a_request_is_one_line_without_its_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let log = Arc::new(AuditLog::open(&path).unwrap());
        let mut entry = entry(Arc::clone(&log));
        entry.decided(&Decision::escalate().by_rule("line 2"));
        entry.ended(ResultMessage {
            exit_code: 143,
            signal: Some(15),
        });
        entry.write(Some("the wrapper has gone".to_owned()));
        // A stream without a request leaves no line.
        Entry::new(8, Some(log)).write(Some("garbage".to_owned()));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains("secret") && !text.contains("TOKEN"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
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
}
