//! Drives a server under test by the harness protocol: newline-delimited JSON-RPC 2.0 over a shim's pipes.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::peer::fake_wrapper::EscalationSocket;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::system::launch::{Launch, Launched, pipe};
use crate::system::process::Ended;
use crate::transcript::{Direction, Transcript};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// Version of the harness protocol.
pub const PROTOCOL: u64 = 1;

/// What has come from the shim and has not been taken yet.
#[derive(Default)]
struct Inbox {
    answers: HashMap<u64, Result<Value, RpcError>>,
    decisions: VecDeque<DecisionMessage>,
    cancelled: Vec<(String, Value)>,
    broken: Option<String>,
    ended: bool,
}

struct DecisionMessage {
    id: Value,
    params: Value,
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The code, such as -32602.
    pub code: i64,
    /// The message.
    pub message: String,
}

struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

/// A policy that answers by itself, on the thread that reads from the shim.
type Policy = Box<dyn FnMut(&Question) -> Answer + Send>;

/// What a policy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Run here.
    Run,
    /// Run outside.
    Escalate,
    /// Do not run, with a reason.
    Deny(Option<String>),
    /// The policy itself fails (a JSON-RPC error).
    Fail,
    /// Not now: the question waits in the queue, for [`Shim::next_decision`] or for ever.
    Later,
}

/// What the server asked its policy.
#[derive(Clone, Debug)]
pub struct Question {
    /// The session.
    pub session: String,
    /// The program as the policy sees it.
    pub program: String,
    /// The argument vector.
    pub arguments: Vec<String>,
    /// The working directory.
    pub directory: String,
    /// All params, `env` included where the shim passes it.
    pub params: Value,
}

/// A pending decision.
pub struct Decision {
    /// What was asked.
    pub question: Question,
    /// The request's JSON-RPC id.
    pub id: Value,
    writer: Arc<Mutex<File>>,
    transcript: Transcript,
}

/// A running shim.
pub struct Shim {
    /// The shim's process.
    pub process: Launched,
    /// What `initialize` gave.
    pub initialized: Value,
    writer: Option<Arc<Mutex<File>>>,
    shared: Arc<Shared>,
    policy: Arc<Mutex<Option<Policy>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    next_id: u64,
    transcript: Transcript,
    patience: Duration,
    error_log: PathBuf,
}

impl Shim {
    /// Starts the server under test and initializes it.
    pub fn start(context: &Context) -> Result<Shim, CaseError> {
        Shim::start_with(context, |launch| launch)
    }

    /// The same with a changed launch: limits, variables, descriptors.
    pub fn start_with(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Shim, CaseError> {
        let words = context.server()?.to_vec();
        let (error_file, error_log) = context.error_log("server")?;
        let launch = Launch::new(&words[0], context.directory())
            .arguments(&words)
            .variable("PATH", "/usr/bin:/bin")
            .variable("HOME", context.directory())
            .variable("TMPDIR", context.temporary_directory())
            .descriptor(2, error_file);
        let mut shim = Shim::over(
            change(launch),
            error_log,
            context.transcript.clone(),
            context.patience(),
        )?;
        let result = shim.call("initialize", initialize_params())?;
        crate::case::expect::equal(
            "protocol of initialize",
            Some(PROTOCOL),
            result["protocol"].as_u64(),
        )?;
        shim.initialized = result;
        Ok(shim)
    }

    /// Starts a shim by `launch`, without `initialize`.
    pub fn over(
        launch: Launch,
        error_log: PathBuf,
        transcript: Transcript,
        patience: Duration,
    ) -> Result<Shim, CaseError> {
        let (their_input, our_output) = pipe()?;
        let (our_input, their_output) = pipe()?;
        let process = launch
            .descriptor(0, their_input)
            .descriptor(1, their_output)
            .start()?;
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        });
        let writer = Arc::new(Mutex::new(our_output));
        let policy: Arc<Mutex<Option<Policy>>> = Arc::default();
        let reader = std::thread::spawn({
            let (shared, writer, policy, transcript) = (
                shared.clone(),
                Arc::downgrade(&writer),
                policy.clone(),
                transcript.clone(),
            );
            move || read_messages(our_input, &shared, &writer, &policy, &transcript)
        });
        Ok(Shim {
            process,
            initialized: Value::Null,
            writer: Some(writer),
            shared,
            policy,
            reader: Some(reader),
            next_id: 0,
            transcript,
            patience,
            error_log,
        })
    }

    /// From now on decisions are answered by `policy`, at once; those already pending stay in the queue.
    pub fn decide_by(&self, policy: impl FnMut(&Question) -> Answer + Send + 'static) {
        *lock(&self.policy) = Some(Box::new(policy));
    }

    /// From now on decisions wait in the queue for [`Self::next_decision`].
    pub fn decide_by_hand(&self) {
        *lock(&self.policy) = None;
    }

    /// Whether decisions wait in the queue.
    pub fn is_decided_by_hand(&self) -> bool {
        lock(&self.policy).is_none()
    }

    /// Sends a request and returns its id, for [`Self::answer_to`].
    pub fn send(&mut self, method: &str, params: Value) -> Result<u64, CaseError> {
        self.next_id += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| harness("the shim's standard input has been closed"))?;
        write_line(writer, &self.transcript, &message).map_err(|error| {
            violation(
                "the shim reads its standard input",
                format_args!("writing {method} failed: {error}"),
            )
        })?;
        Ok(self.next_id)
    }

    /// Waits for the answer to a request.
    pub fn answer_to(&self, id: u64, method: &str) -> Result<Result<Value, RpcError>, CaseError> {
        self.answer_within(id, method, self.patience)
    }

    /// The same with another patience.
    pub fn answer_within(
        &self,
        id: u64,
        method: &str,
        patience: Duration,
    ) -> Result<Result<Value, RpcError>, CaseError> {
        self.wait(patience, |inbox| inbox.answers.remove(&id))
            .map_err(|seen| violation(format_args!("an answer to {method}"), seen))
    }

    /// Calls a method that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, CaseError> {
        let patience = self.patience;
        self.call_within(method, params, patience)
    }

    /// The same with another patience.
    pub fn call_within(
        &mut self,
        method: &str,
        params: Value,
        patience: Duration,
    ) -> Result<Value, CaseError> {
        let id = self.send(method, params)?;
        self.answer_within(id, method, patience)?.map_err(|error| {
            violation(
                format_args!("{method} succeeds"),
                format_args!("error {}: {}", error.code, error.message),
            )
        })
    }

    /// Starts a session; returns the overlay.
    pub fn start_session(&mut self, session: &str, shell: &str, wrapper: &str) -> Result<Overlay, CaseError> {
        let result = self.call(
            "session/start",
            json!({"session": session, "shell": shell, "wrapper": wrapper}),
        )?;
        let members = result["env"]
            .as_object()
            .ok_or_else(|| violation("an overlay, an object", &result))?;
        let variables = members
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| violation("an overlay of strings", &result))?;
        Ok(Overlay { variables })
    }

    /// Spawns a program in a session, with a base environment of PATH alone.
    pub fn spawn(&mut self, session: &str, arguments: &[&str], directory: &str) -> Result<i64, CaseError> {
        let result = self.call(
            "session/spawn",
            json!({"session": session, "argv": arguments, "cwd": directory, "env": {"PATH": "/usr/bin:/bin"}}),
        )?;
        result["pid"]
            .as_i64()
            .ok_or_else(|| violation("a pid, a number", &result))
    }

    /// A session whose shell is a probe that has handed its escalation socket to the case.
    pub fn probe_session(&mut self, context: &Context, session: &str) -> Result<ProbeSession, CaseError> {
        let shell = ConnectedProgram::new(context, &format!("shell-{session}"))?;
        let overlay = self.start_session(session, shell.text(), "/nonexistent/wrapper")?;
        let directory = context.work_directory();
        let pid = self.spawn(session, &[shell.text()], &directory.to_string_lossy())?;
        let mut probe = shell.accept("the spawned shell")?;
        let number = overlay.socket_number()?;
        let socket = probe.take_descriptor(number)?;
        Ok(ProbeSession {
            name: session.to_owned(),
            overlay,
            pid,
            socket: EscalationSocket::new(socket, self.transcript.clone(), self.patience),
            probe,
            shell,
        })
    }

    /// Closes a session; its teardown may go on after the answer.
    pub fn close_session(&mut self, session: &str) -> Verdict {
        self.call("session/close", json!({"session": session})).map(drop)
    }

    /// Cancels the parent token of a session.
    pub fn cancel_session(&mut self, session: &str) -> Verdict {
        self.call("session/cancel", json!({"session": session})).map(drop)
    }

    /// The next decision that is asked for.
    ///
    /// # Errors
    /// A violation where none comes.
    pub fn next_decision(&self) -> Result<Decision, CaseError> {
        self.decision_within(self.patience)?.ok_or_else(|| {
            violation(
                "the policy is asked",
                format_args!("no policy/decide within {:?}", self.patience),
            )
        })
    }

    /// The next decision that is asked for, or none within `patience`.
    pub fn decision_within(&self, patience: Duration) -> Result<Option<Decision>, CaseError> {
        let writer = self
            .writer
            .clone()
            .ok_or_else(|| harness("the shim's standard input has been closed"))?;
        match self.wait(patience, |inbox| inbox.decisions.pop_front()) {
            Ok(message) => Ok(Some(Decision {
                question: question(&message.params)?,
                id: message.id,
                writer,
                transcript: self.transcript.clone(),
            })),
            Err(seen) if seen.starts_with("nothing") => Ok(None),
            Err(seen) => Err(violation("the shim runs", seen)),
        }
    }

    /// Demands that no decision is waiting. Bind the moment by a sentinel before.
    pub fn expect_no_decision(&self) -> Verdict {
        match self.decision_within(Duration::ZERO)? {
            None => Ok(()),
            Some(decision) => Err(violation(
                "the policy is not asked",
                format_args!("{:?}", decision.question.params),
            )),
        }
    }

    /// Closes the shim's standard input, which means `shutdown`.
    pub fn close_input(&mut self) {
        self.writer = None;
    }

    /// Shuts the shim down and demands that it ends with status 0.
    pub fn shutdown(&mut self) -> Verdict {
        self.call("shutdown", json!({}))?;
        let ended = self.process.wait("the shim after shutdown", self.patience)?;
        crate::case::expect::equal("the shim's end after shutdown", Ended::Exited(0), ended)?;
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .map_err(|_| harness("the thread that reads from the shim panicked"))?;
        }
        Ok(())
    }

    /// What the shim wrote to standard error so far.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.error_log).unwrap_or_default()).into_owned()
    }

    fn wait<T>(
        &self,
        patience: Duration,
        mut take: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        let mut inbox = lock(&self.shared.inbox);
        loop {
            if let Some(found) = take(&mut inbox) {
                return Ok(found);
            }
            if let Some(broken) = &inbox.broken {
                return Err(broken.clone());
            }
            if inbox.ended {
                return Err("the shim closed its standard output".to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("nothing within {patience:?}"));
            }
            inbox = self
                .shared
                .arrived
                .wait_timeout(inbox, left)
                .map(|(inbox, _)| inbox)
                .unwrap_or_else(|poisoned| poisoned.into_inner().0);
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // A case that ended early leaves a living shim: its process must end before its reader can.
        let _ = self.process.signal(libc::SIGKILL);
    }
}

/// The params of `initialize`.
pub fn initialize_params() -> Value {
    json!({
        "protocol": PROTOCOL,
        "suite": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
    })
}

/// The variables that a session gives to its shell.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Name and value.
    pub variables: Vec<(String, String)>,
}

impl Overlay {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The number of the escalation socket.
    ///
    /// # Errors
    /// A violation of `session.overlay`.
    pub fn socket_number(&self) -> Result<i32, CaseError> {
        let value = self.get("CODEX_ESCALATE_SOCKET").unwrap_or_default();
        value.parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
            violation(
                "CODEX_ESCALATE_SOCKET is a decimal descriptor number",
                format_args!("{value:?}"),
            )
        })
    }
}

/// A session whose shell is a probe.
pub struct ProbeSession {
    /// Its id.
    pub name: String,
    /// Its overlay.
    pub overlay: Overlay,
    /// The spawned shell's pid, as the shim said.
    pub pid: i64,
    /// The client's end of the escalation socket, in the hands of the suite.
    pub socket: EscalationSocket,
    /// The spawned shell.
    pub probe: Probe,
    /// The program that the shell is.
    pub shell: ConnectedProgram,
}

impl Decision {
    /// Answers it.
    pub fn answer(self, answer: &Answer) -> Verdict {
        let message = answer_message(&self.id, answer).ok_or_else(|| harness("this is no answer"))?;
        self.answer_by(&message)
    }

    /// Answers it with any result at all, such as one that is no decision.
    pub fn answer_with(self, result: &Value) -> Verdict {
        let message = json!({"jsonrpc": "2.0", "id": self.id, "result": result});
        self.answer_by(&message)
    }

    fn answer_by(self, message: &Value) -> Verdict {
        write_line(&self.writer, &self.transcript, message).map_err(|error| {
            violation(
                "the shim reads its standard input",
                format_args!("answering policy/decide failed: {error}"),
            )
        })
    }
}

fn question(params: &Value) -> Result<Question, CaseError> {
    let text = |name: &str| {
        params[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| violation(format_args!("policy/decide with {name}, a string"), params))
    };
    let arguments = params["argv"]
        .as_array()
        .and_then(|list| {
            list.iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })
        .ok_or_else(|| violation("policy/decide with argv, a list of strings", params))?;
    Ok(Question {
        session: text("session")?,
        program: text("program")?,
        arguments,
        directory: text("workdir")?,
        params: params.clone(),
    })
}

/// The message that answers a question; none where it isn't answered now.
fn answer_message(id: &Value, answer: &Answer) -> Option<Value> {
    let result = match answer {
        Answer::Run => json!({"action": "run"}),
        Answer::Escalate => json!({"action": "escalate"}),
        Answer::Deny(reason) => json!({"action": "deny", "reason": reason}),
        Answer::Fail => {
            let error = json!({"code": -32000, "message": "the policy failed"});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
        Answer::Later => return None,
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn write_line(writer: &Mutex<File>, transcript: &Transcript, message: &Value) -> std::io::Result<()> {
    let mut line = message.to_string();
    transcript.message(Direction::ToImplementation, "shim", line.as_bytes(), 0);
    line.push('\n');
    lock(writer).write_all(line.as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// First of the private characters that stand for bytes in what a shim says: U+F780 to U+F7FF for 0x80 to 0xff.
const BYTE_MARKS: u32 = 0xf700;

/// JSON with each lone surrogate of the *bytes* extension replaced by a private character, since a `String` has no
/// place for it. See [`marked`].
fn with_byte_marks(line: &[u8]) -> Vec<u8> {
    let escape = |at: usize| {
        let digits = line.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut marked = Vec::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        let length = match (line[at], escape(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(escape(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(unit @ 0xdc80..=0xdcff)) => {
                marked.extend_from_slice(format!("\\u{:04x}", BYTE_MARKS + (unit & 0xff)).as_bytes());
                at += 6;
                continue;
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        marked.extend_from_slice(&line[at..(at + length).min(line.len())]);
        at += length;
    }
    marked
}

/// Bytes as the texts of a [`Question`] have them: valid UTF-8 as it is, each other byte as one private character.
pub fn marked(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let marks = chunk
            .invalid()
            .iter()
            .filter_map(|byte| char::from_u32(BYTE_MARKS + u32::from(*byte)));
        text.extend(marks);
    }
    text
}

fn read_messages(
    input: File,
    shared: &Shared,
    writer: &std::sync::Weak<Mutex<File>>,
    policy: &Mutex<Option<Policy>>,
    transcript: &Transcript,
) {
    for line in BufReader::new(input).split(b'\n') {
        let handled = line
            .map_err(|error| format!("reading the shim's standard output: {error}"))
            .and_then(|line| {
                transcript.message(Direction::FromImplementation, "shim", &line, 0);
                let message: Value = serde_json::from_slice(&with_byte_marks(&line)).map_err(|error| {
                    format!(
                        "a line of the shim that is no JSON: {error}: {}",
                        crate::transcript::shown(&line)
                    )
                })?;
                take_message(message, shared, writer, policy, transcript)
            });
        if let Err(broken) = handled {
            lock(&shared.inbox).broken = Some(broken);
            shared.arrived.notify_all();
            return;
        }
    }
    lock(&shared.inbox).ended = true;
    shared.arrived.notify_all();
}

fn take_message(
    message: Value,
    shared: &Shared,
    writer: &std::sync::Weak<Mutex<File>>,
    policy: &Mutex<Option<Policy>>,
    transcript: &Transcript,
) -> Result<(), String> {
    match message["method"].as_str() {
        Some("policy/decide") => {
            let mut policy = lock(policy);
            if let Some(policy) = policy.as_mut()
                && let Ok(question) = question(&message["params"])
                && let Some(message) = answer_message(&message["id"], &policy(&question))
            {
                if let Some(writer) = writer.upgrade() {
                    // A shim that has gone meanwhile is seen by whoever waits for it.
                    let _ = write_line(&writer, transcript, &message);
                }
                return Ok(());
            }
            let decision = DecisionMessage {
                id: message["id"].clone(),
                params: message["params"].clone(),
            };
            lock(&shared.inbox).decisions.push_back(decision);
        }
        Some("policy/cancelled") => {
            let params = &message["params"];
            let session = params["session"].as_str().unwrap_or_default().to_owned();
            lock(&shared.inbox)
                .cancelled
                .push((session, params["id"].clone()));
        }
        Some(method) => {
            if let (Some(writer), Some(_)) = (writer.upgrade(), message.get("id")) {
                let error = json!({"code": -32601, "message": format!("unknown method {method}")});
                let refusal = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
                let _ = write_line(&writer, transcript, &refusal);
            }
        }
        None => {
            let id = message["id"]
                .as_u64()
                .ok_or_else(|| format!("an answer without a known id: {message}"))?;
            let answer = match message.get("error") {
                Some(error) if !error.is_null() => Err(RpcError {
                    code: error["code"].as_i64().unwrap_or_default(),
                    message: error["message"].as_str().unwrap_or_default().to_owned(),
                }),
                _ => Ok(message["result"].clone()),
            };
            lock(&shared.inbox).answers.insert(id, answer);
        }
    }
    shared.arrived.notify_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{marked, with_byte_marks};

    #[test]
    fn lone_surrogates_of_the_bytes_extension_become_private_characters() {
        let line = br#"["a\udcff\\udcff\ud83d\ude00","\ud800\udc80","\\\udc80"]"#;
        let texts: Vec<String> = serde_json::from_slice(&with_byte_marks(line)).expect("JSON");
        assert_eq!(texts, ["a\u{f7ff}\\udcff\u{1f600}", "\u{10080}", "\\\u{f780}"]);
        assert_eq!(marked(b"a\xff\xc3\xa9"), "a\u{f7ff}\u{e9}");
    }
}
